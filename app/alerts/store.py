"""Reads and writes the rows of alerts. The caller opens the transaction in which a function runs."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from app.alerts.model import AlertKind, AlertStatus, Finding, OpenAlerts
from app.identity import permissions
from app.postgres.composer import EntityList, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_ALERTS: Final = EntityList(
    entities=ENTITIES,
    entity="alert",
    one_of={
        "places": "r.kind = split_part(v.value, '/', 1) and r.status = split_part(v.value, '/', 2)",
    },
    action=permissions.LIST_ALERTS.action,
    time="opened_at",
)


async def list_page(
    tx: Transaction,
    request: PageRequest,
    kinds: Sequence[AlertKind] | None,
    statuses: Sequence[AlertStatus] | None,
    selection: Selection,
) -> Page[Row]:
    """Write the audit row and return a page of alerts, newest first. Raises RateLimited (quota_pages)."""
    places = None
    if kinds is not None or statuses is not None:
        pairs = product(AlertKind if kinds is None else kinds, AlertStatus if statuses is None else statuses)
        places = list(dict.fromkeys(f"{kind}/{status}" for kind, status in pairs))
    return await _ALERTS.page(tx, request, {"places": places}, selection)


async def open_alert(tx: Transaction, kind: AlertKind, finding: Finding) -> UUID:
    """Open the alert of a kind and key unless it is open, and return its id. Needs the worker's role."""
    values = {"kind": kind, "key": finding.key, "entity_type": finding.entity_type, "ids": list(finding.ids)}
    return UUID(str(await tx.value(_sql["open_alert"], values)))


async def close_alert(tx: Transaction, kind: AlertKind, key: str) -> None:
    """Close the open alert of a kind and key. Needs the worker's role."""
    await tx.run(_sql["close_alert"], {"kind": kind, "key": key})


async def replace_alerts(
    tx: Transaction, kind: AlertKind, findings: Iterable[Finding]
) -> tuple[list[str], list[str]]:
    """Open the alerts of a kind for these findings, and close its other alerts. Return the keys of the alerts that were
    opened, and of those that were closed. Needs the worker's role.
    """
    rows = [
        {"key": one.key, "entity_type": one.entity_type, "ids": [str(each) for each in one.ids]}
        for one in findings
    ]
    changed = await tx.all(_sql["replace_alerts"], {"kind": kind, "findings": Jsonb(rows)})
    return [row["key"] for row in changed if not row["is_over"]], [
        row["key"] for row in changed if row["is_over"]
    ]


async def count_open(tx: Transaction) -> list[OpenAlerts]:
    """Return the open alerts of each kind that has some. Needs the role of the API or of the worker."""
    return [OpenAlerts(**row) for row in await tx.all(_sql["count_open"])]
