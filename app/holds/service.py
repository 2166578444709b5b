"""Services for legal holds: compliance officers place holds, list holds, and release holds that a different officer
placed.

The database prevents the destruction of a held recording. `bucket_protection.py` protects the objects of held
recordings from the bucket's rules.
"""

from collections.abc import Collection
from uuid import UUID

from app.errors import NotFound
from app.holds import store
from app.holds.model import HoldOrder, PlacedHold, Scope
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.references import ConsultationBy, PatientBy
from app.postgres.selection import Selection


class LegalHolds:
    """The operations on legal holds that the API offers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def place(
        self, asker: Asker, order: HoldOrder, selection: Selection, besides: Collection[str] = ()
    ) -> tuple[Row, PlacedHold]:
        """Place a legal hold, which takes effect at once and also covers recordings that are made later. Return the
        hold, and how many recordings it covers. `besides` has the counts that the caller shows, for the audit row. If
        the same compliance officer repeats the call, return the existing hold.

        Raises NotFound (consultation_not_found, patient_not_found).
        """
        access = _place_access(order.scope)
        async with self._database.as_user(asker, access) as tx:
            placed = await store.place(tx, order)
            if placed is None:
                is_patient = isinstance(order.scope, PatientBy)
                raise NotFound("patient_not_found" if is_patient else "consultation_not_found")
            shown = await store.show(tx, placed.id, selection, access.action, besides=besides)
        return shown, placed

    async def release(self, asker: Asker, hold_id: UUID, selection: Selection) -> Row:
        """Release a legal hold that a different compliance officer placed. If the officer who released the hold
        repeats the call, return the released hold.

        Raises NotFound (hold_not_found), Conflict (own_hold, hold_released).
        """
        access = permissions.RELEASE_HOLD.on(hold_id)
        async with self._database.as_user(asker, access) as tx:
            if not await store.release(tx, hold_id):
                raise NotFound("hold_not_found")
            return await store.show(tx, hold_id, selection, access.action)

    async def page(
        self, asker: Asker, request: PageRequest, is_active: bool | None, selection: Selection
    ) -> Page[Row]:
        """Return a page of holds, newest first. If `is_active` is None, the page contains active and released holds.
        Raises RateLimited (quota_pages).
        """
        access = permissions.LIST_HOLDS.on()
        async with self._database.as_user(asker, access) as tx:
            return await store.list_page(tx, request, is_active, selection)


def _place_access(scope: Scope) -> Access:
    """Return the permission that a caller needs to place a hold. If the database refuses to place the hold, the
    audit row of the refusal names the hold's scope.
    """
    match scope:
        case ConsultationBy(id, external_id):
            return permissions.PLACE_HOLD.on(id, entity_type="consultation", external_id=external_id)
        case PatientBy(id, external_id):
            return permissions.PLACE_HOLD.on(id, entity_type="patient", external_id=external_id)
    return permissions.PLACE_HOLD.on()
