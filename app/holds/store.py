"""Reads and writes the database rows of legal holds."""

from collections.abc import Collection
from pathlib import Path
from typing import Final
from uuid import UUID

from app.holds.model import HoldOrder, LegalHold, PlacedHold
from app.identity import permissions
from app.postgres.audited import AuditedList
from app.postgres.database import Transaction
from app.postgres.paging import PageRequest
from app.postgres.queries import Queries
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    TimeRange,
    consultation_parameters,
    patient_parameters,
)

_sql = Queries(Path(__file__).with_name("queries.sql"))
_HOLDS: Final = AuditedList(
    table="resguardo.legal_holds",
    columns={"is_active": ("released_at",), "recorded_from": ("recorded_since",)},
    conditions={"is_active": "r.released_at is null", "is_released": "r.released_at is not null"},
    items=LegalHold,
    action=permissions.LIST_HOLDS.action,
    entity_type="legal_hold",
    time="placed_at",
)


async def place(tx: Transaction, order: HoldOrder) -> PlacedHold | None:
    """Insert a legal hold, its audit row, and the job that protects the held recordings in the bucket. Return None
    if the consultation or the patient of the hold does not exist.
    """
    scope = order.scope
    recorded = scope if isinstance(scope, TimeRange) else TimeRange()
    row = await tx.one(
        _sql["place_hold"],
        {
            **consultation_parameters(scope if isinstance(scope, ConsultationBy) else None),
            **patient_parameters(scope if isinstance(scope, PatientBy) else None),
            "recorded_since": recorded.since,
            "recorded_until": recorded.until,
            "matter": order.matter,
            "custodian": order.custodian,
        },
    )
    if row is None:
        return None
    hold = LegalHold(
        id=row["id"],
        consultation_id=row["consultation_id"],
        patient_id=row["patient_id"],
        recorded_since=recorded.since,
        recorded_until=recorded.until,
        matter=order.matter,
        custodian=order.custodian,
        placed_by=row["placed_by"],
        placed_at=row["placed_at"],
        released_by=None,
        released_at=None,
    )
    return PlacedHold(hold, row["covered_recordings"], row["recordings_in_destruction"])


async def release(tx: Transaction, hold_id: UUID) -> LegalHold | None:
    """Release a legal hold, write the audit row of the release, and return the hold. Return None if the hold does
    not exist. Raises Conflict.
    """
    row = await tx.one(_sql["release_hold"], {"id": hold_id})
    return None if row is None else LegalHold(**row)


async def list_page(
    tx: Transaction, request: PageRequest, is_active: bool | None, selected: Collection[str]
) -> list[LegalHold]:
    """Return the selected fields of a page of legal holds, newest first, and write the audit row of the page. If
    the result has one hold more than the page holds, another page follows.
    """
    filters = {"is_active": is_active or None, "is_released": is_active is False or None}
    return await _HOLDS.page(tx, request, filters, fields=["scope", "matter", "custodian"], selected=selected)
