"""The database rows of emergency accesses."""

from pathlib import Path
from typing import Final

from app.emergency_access.model import EmergencyReason
from app.identity import permissions
from app.postgres.composer import EntityList, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_ACCESSES: Final = EntityList(
    entities=ENTITIES,
    entity="emergency_access",
    action=permissions.LIST_EMERGENCY_ACCESSES.action,
    time="began_at",
)


async def begin(tx: Transaction, patient_external_id: str, reason: EmergencyReason) -> Row | None:
    """Write the audit row, open the review case and the alert, and return the emergency access. Return None if the
    patient does not exist. Raises Forbidden, RateLimited and Conflict as `private.break_glass`.
    """
    about = {"external_id": patient_external_id, "reason": reason}
    access_id = await tx.value(_sql["break_glass"], about)
    if access_id is None:
        return None
    row = await tx.one(_sql["read_access"], {**about, "id": access_id})
    return None if row is None else dict(row)


async def list_page(tx: Transaction, request: PageRequest, selection: Selection) -> Page[Row]:
    """Write the audit row and return a page of emergency accesses, newest first."""
    return await _ACCESSES.page(tx, request, {}, selection)
