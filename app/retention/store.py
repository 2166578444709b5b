"""Retention policies as rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from app.audited import read_audited
from app.db import Transaction
from app.retention.model import (
    KeptPolicy,
    MonthOfDeletions,
    PolicyStatus,
    Preview,
    RetentionPolicy,
    sha256_of,
)
from app.retention.report import Coming, StoredBytes
from app.sql import Queries

ACTIVATION_SECONDS: Final = 120
"""For the one statement that may date every recording there is: 100,000 took 26 s on two busy cores (2026-11-21)."""

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class _PolicyRow:
    id: int
    name: str
    status: str
    sha256: str
    terms: Any
    shortens: bool
    proposed_at: datetime
    activated_at: datetime | None
    approved_by: tuple[UUID, ...]


_policies = TypeAdapter(list[_PolicyRow])


async def policies(tx: Transaction, quota: int) -> list[KeptPolicy]:
    """As compliance: the newest hundred, the newest first, with the audit row of the look."""
    rows = await read_audited(tx, _sql["list_policies"], {"quota": quota}, _policies)
    return [_policy(asdict(row)) for row in rows]


async def policy(tx: Transaction, policy_id: int) -> KeptPolicy | None:
    """As compliance or the owner: one of them."""
    row = await tx.one(_sql["read_policy"], {"id": policy_id})
    return None if row is None else _policy(row)


async def standing(tx: Transaction) -> list[KeptPolicy]:
    """As the owner: the one in force, if there is one, and then what is proposed."""
    return [_policy(row) for row in await tx.all(_sql["standing_policies"])]


async def approve(tx: Transaction, policy_id: int) -> bool:
    """False where there is none. Raises Conflict (retention_policy_settled, retention_same_officer)."""
    await tx.run(_sql["allow_time"], {"seconds": ACTIVATION_SECONDS})
    return bool(await tx.value(_sql["approve_policy"], {"id": policy_id}))


async def reject(tx: Transaction, policy_id: int) -> bool:
    """False where there is none. Raises Conflict (retention_policy_settled)."""
    return bool(await tx.value(_sql["reject_policy"], {"id": policy_id}))


async def preview(tx: Transaction, policy_id: int, quota: int) -> Preview:
    """As compliance, with its audit row; empty, too, where there is none. Raises Conflict."""
    return _preview(await tx.all(_sql["preview_policy"], {"id": policy_id, "quota": quota}))


async def effects(tx: Transaction, policy_id: int) -> Preview:
    """The same as the owner."""
    return _preview(await tx.all(_sql["policy_effects"], {"id": policy_id}))


async def propose(tx: Transaction, proposed: RetentionPolicy, source: str) -> int:
    """As the owner; its id. Raises Conflict (retention_policies_name_key)."""
    parameters = {
        "name": proposed.name,
        "sha256": sha256_of(source),
        "source": source,
        "terms": Jsonb(proposed.terms),
    }
    return int(await tx.value(_sql["propose_policy"], parameters))


async def stored(tx: Transaction, quota: int) -> tuple[StoredBytes, ...]:
    """As compliance, with the audit row."""
    return tuple(StoredBytes(**row) for row in await tx.all(_sql["report_storage"], {"quota": quota}))


async def coming(tx: Transaction, days: int) -> Coming:
    """As compliance."""
    [row] = await tx.all(_sql["report_coming"], {"days": days})
    return Coming(**row)


def _policy(row: Mapping[str, Any]) -> KeptPolicy:
    return KeptPolicy(
        id=row["id"],
        policy=RetentionPolicy.of_terms(row["name"], row["terms"]),
        status=PolicyStatus(row["status"]),
        sha256=row["sha256"],
        shortens=row["shortens"],
        proposed_at=row["proposed_at"],
        activated_at=row["activated_at"],
        approved_by=tuple(row["approved_by"]),
    )


def _preview(rows: list[DictRow]) -> Preview:
    months = tuple(
        MonthOfDeletions(row["month"], row["recordings"], row["size_bytes"], row["sooner"], row["held"])
        for row in rows
    )
    return Preview(months, min((row["earliest_due_at"] for row in rows), default=None))
