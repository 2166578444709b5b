"""Reads and writes the database rows of legal holds."""

from collections.abc import Collection
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from app.errors import NotFound
from app.holds.model import HoldOrder, PlacedHold
from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    TimeRange,
    consultation_parameters,
    patient_parameters,
)
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_HOLD: Final = EntityRead(
    entities=ENTITIES, entity="legal_hold", where="r.id = %(id)s", action=permissions.LIST_HOLDS.action
)
_HOLDS: Final = EntityList(
    entities=ENTITIES,
    entity="legal_hold",
    conditions={"is_active": "r.released_at is null", "is_released": "r.released_at is not null"},
    action=permissions.LIST_HOLDS.action,
    time="placed_at",
)


async def place(tx: Transaction, order: HoldOrder) -> PlacedHold | None:
    """Insert a legal hold and the job that protects the held recordings in the bucket. Return None if the
    consultation or the patient of the hold does not exist.
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
    return None if row is None else PlacedHold(**row)


async def release(tx: Transaction, hold_id: UUID) -> bool:
    """Release a legal hold. Return False if the hold does not exist. Raises Conflict."""
    return await tx.value(_sql["release_hold"], {"id": hold_id}) is not None


async def show(
    tx: Transaction,
    hold_id: UUID,
    selection: Selection,
    action: LiteralString,
    *,
    besides: Collection[str] = (),
) -> Row:
    """Return a legal hold that the transaction has placed or released, and write the audit row of the change, which
    also names everything that is shown, and the fields `besides`. Raises NotFound (hold_not_found).
    """
    shown = await _HOLD.show(tx, selection, {"id": hold_id}, action=action, is_counted=False, besides=besides)
    if shown is None:
        raise NotFound("hold_not_found")
    return shown


async def list_page(
    tx: Transaction, request: PageRequest, is_active: bool | None, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page of legal holds, newest first. If `is_active` is None, the page contains
    active and released holds.
    """
    filters = {"is_active": is_active or None, "is_released": is_active is False or None}
    return await _HOLDS.page(tx, request, filters, selection)
