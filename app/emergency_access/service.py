"""The service with which a clinician gets emergency access to a patient of another doctor, and the list of emergency
accesses for compliance officers.

An emergency access lets the clinician see the same data as a share, for at most one hour. The clinician cannot download
anything. The database opens a review case and an alert in the transaction that gives the access
(`private.break_glass`).
"""

from app.emergency_access import store
from app.emergency_access.model import EmergencyReason
from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection


class EmergencyAccess:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, asker: Asker, patient_external_id: str, reason: EmergencyReason) -> Row:
        """Give the caller access to a patient for one hour. The caller's newest TOTP code must be at most 5 minutes
        old. If the caller has such an access already, return that access, which is not prolonged.

        Raises NotFound (patient_not_found), Forbidden (totp_stale), RateLimited (quota_emergencies), and Conflict
        (emergency_own_patient).
        """
        access = permissions.BREAK_GLASS.on(external_id=patient_external_id)
        async with self._database.as_user(asker, access) as tx:
            begun = await store.begin(tx, patient_external_id, reason)
        if begun is None:
            raise NotFound("patient_not_found")
        return begun

    async def page(self, asker: Asker, request: PageRequest, selection: Selection) -> Page[Row]:
        """Return a page of emergency accesses, newest first. Raises RateLimited (quota_pages)."""
        async with self._database.as_user(asker, permissions.LIST_EMERGENCY_ACCESSES.on()) as tx:
            return await store.list_page(tx, request, selection)
