"""Reads and writes the rows of alerts. The caller opens the transaction in which a function runs."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Final
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.alerts.model import AlertKind, AlertStatus, ChangedAlerts, Finding, OpenAlerts
from app.identity import permissions
from app.jobs.lease import UNLED_SECONDS
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


async def open_alert(tx: Transaction, kind: AlertKind, finding: Finding) -> bool:
    """Open the alert of a kind and key. If it is open, store that its cause was found again. Return whether this call
    opened the alert. Needs the worker's role.
    """
    values = {"kind": kind, "key": finding.key, "entity_type": finding.entity_type, "ids": list(finding.ids)}
    return bool(await tx.value(_sql["store_alert"], values))


async def close_alert(tx: Transaction, kind: AlertKind, key: str) -> None:
    """Close the open alert of a kind and key. Needs the worker's role."""
    await tx.run(_sql["close_alert"], {"kind": kind, "key": key})


async def replace_alerts(tx: Transaction, kind: AlertKind, findings: Iterable[Finding]) -> ChangedAlerts:
    """Open the alerts of a kind for these findings, and close its other alerts. Needs the worker's role."""
    rows = [
        {"key": one.key, "entity_type": one.entity_type, "ids": [str(each) for each in one.ids]}
        for one in findings
    ]
    return _changed(await tx.all(_sql["replace_alerts"], {"kind": kind, "findings": Jsonb(rows)}))


async def evaluate_alerts(tx: Transaction, kind: AlertKind) -> ChangedAlerts:
    """Open and close the alerts of a kind so that they match the stored rows. Needs the worker's role."""
    return _changed(await tx.all(_sql["evaluate_alerts"], {"kind": kind}))


async def watch_leader(tx: Transaction) -> None:
    """Open or close the alert that no worker leads. Needs the role of the API or of the worker."""
    await tx.run(_sql["watch_leader"], {"most_seconds": UNLED_SECONDS})


async def report_unreadable_transcripts(tx: Transaction, recording_ids: Sequence[UUID]) -> None:
    """Open the alert about transcripts that a search could not decrypt. Needs the API's role."""
    await tx.run(_sql["report_unreadable_transcripts"], {"recording_ids": list(recording_ids)})


async def count_open(tx: Transaction) -> list[OpenAlerts]:
    """Return the open alerts of each kind that has open alerts. Needs the role of the API or of the worker."""
    return [OpenAlerts(**row) for row in await tx.all(_sql["count_open"])]


def _changed(rows: Iterable[DictRow]) -> ChangedAlerts:
    changed = ChangedAlerts([], [])
    for row in rows:
        (changed.closed if row["is_over"] else changed.opened).append(row["key"])
    return changed
