"""Reads and writes the database rows of retention policies."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.database import Transaction
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.retention.model import (
    KeptPolicy,
    MonthOfDeletions,
    PolicyStatus,
    Preview,
    RetentionPolicy,
    compute_sha256,
)
from app.retention.storage_report import StorageChanges, StoredBytes

ACTIVATION_SECONDS: Final = 120
"""The time limit of the statement that may compute the due date of every recording: 100,000 took 26 s on two busy
cores (2026-11-21).
"""

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
    terms_in_force: Any
    has_next: bool


_POLICIES: Final = AuditedRead(
    rows=_sql["list_policies"],
    items=_PolicyRow,
    action=permissions.LIST_RETENTION_POLICIES.action,
    entity_type="retention_policy",
    ids=None,
    patients=None,
    consultations=None,
    order="x.id desc",
    meter="pages",
)


async def list_page(
    tx: Transaction, request: PageRequest, fields: Sequence[str]
) -> tuple[Page[KeptPolicy], RetentionPolicy | None]:
    """Write the audit row and return a page of retention policies, newest first, and the policy in force if the page
    has a row. Needs the compliance role.
    """
    parameters = {"first": request.first, "after": request.after.number if request.after else None}
    rows = await _POLICIES.all(tx, parameters, fields=fields)
    page = Page(tuple(_policy(asdict(row)) for row in rows), any(row.has_next for row in rows))
    return page, _in_force(rows[0].terms_in_force if rows else None)


async def read_policy(tx: Transaction, policy_id: int) -> KeptPolicy | None:
    """Return one policy. Needs the role of a compliance officer or of the database owner."""
    row = await tx.one(_sql["read_policy"], {"id": policy_id})
    return None if row is None else _policy(row)


async def read_terms_in_force(tx: Transaction) -> RetentionPolicy | None:
    """Return the terms of the policy in force, if there is one. Needs the compliance role."""
    return _in_force(await tx.value(_sql["read_terms_in_force"]))


async def read_superseded_policy(tx: Transaction) -> KeptPolicy | None:
    """Return the policy that was in force before the present one, if there was one. Needs the compliance role."""
    row = await tx.one(_sql["read_superseded_policy"])
    return None if row is None else _policy(row)


async def list_open_policies(tx: Transaction) -> list[KeptPolicy]:
    """Return the retention policy in force, if there is one, and after it the proposed policies. Needs the owner."""
    return [_policy(row) for row in await tx.all(_sql["standing_policies"])]


async def approve(tx: Transaction, policy_id: int) -> bool:
    """Approve the policy. Return False if the policy does not exist. Raises Conflict (retention_policy_settled,
    retention_same_officer).
    """
    await tx.run(_sql["allow_time"], {"seconds": ACTIVATION_SECONDS})
    return bool(await tx.value(_sql["approve_policy"], {"id": policy_id}))


async def reject(tx: Transaction, policy_id: int) -> bool:
    """Reject the policy. Return False if the policy does not exist. Raises Conflict (retention_policy_settled)."""
    return bool(await tx.value(_sql["reject_policy"], {"id": policy_id}))


async def preview(tx: Transaction, policy_id: int) -> Preview:
    """Return the effect of a policy on existing recordings, and write the audit row. If the policy does not exist,
    its effect is empty. Needs the compliance role. Raises Conflict.
    """
    return _preview(await tx.all(_sql["preview_policy"], {"id": policy_id}))


async def compute_effects(tx: Transaction, policy_id: int) -> Preview:
    """Return the effect of a retention policy on existing recordings, and write no audit row. Needs the owner."""
    return _preview(await tx.all(_sql["policy_effects"], {"id": policy_id}))


async def propose(tx: Transaction, proposed: RetentionPolicy, source: str) -> int:
    """Store a proposed policy and return its id. Needs the owner. Raises Conflict (retention_policies_name_key)."""
    parameters = {
        "name": proposed.name,
        "sha256": compute_sha256(source),
        "source": source,
        "terms": Jsonb(proposed.terms),
    }
    return int(await tx.value(_sql["propose_policy"], parameters))


async def report_stored_bytes(tx: Transaction) -> tuple[StoredBytes, ...]:
    """Return the stored bytes by retention class and age, and write the audit row. Needs the compliance role."""
    return tuple(StoredBytes(**row) for row in await tx.all(_sql["report_storage"]))


async def report_storage_changes(tx: Transaction, days: int) -> StorageChanges:
    """Write the audit row. Return the counts of the recordings that become due within the next `days` days, and of
    the objects stored and URLs issued in the last `days` days. Needs the compliance role.
    """
    [row] = await tx.all(_sql["report_coming"], {"days": days})
    return StorageChanges(**row)


def _in_force(terms: Any) -> RetentionPolicy | None:
    return None if terms is None else RetentionPolicy.of_terms("in force", terms)


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
        MonthOfDeletions(
            row["month"],
            row["recordings"],
            row["size_bytes"],
            row["sooner"],
            row["held"],
            row["notes"],
            row["held_notes"],
        )
        for row in rows
    )
    dates = (row["earliest_due_at"] for row in rows if row["earliest_due_at"] is not None)
    return Preview(months, min(dates, default=None))
