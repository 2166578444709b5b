"""The register of business associate agreements. Compliance and the owner add entries. A process in production does not
start without a valid agreement for each service that receives PHI from it, and an alert opens before one expires.
"""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from app.alerts.model import AlertKind, Finding
from app.alerts.service import Alerts
from app.errors import Conflict
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection
from app.vendor_agreements import store
from app.vendor_agreements.model import NewAgreement, VendorService

WARNING_DAYS: Final = 30
"""An alert opens this many days before an agreement expires."""

_PLAIN = Selection()


class VendorAgreements:
    """The operations on the register that the API offers to compliance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        services: Sequence[VendorService] | None,
        selection: Selection = _PLAIN,
    ) -> Page[Row]:
        """Return a page of entries, newest first. If `services` is None, it contains entries of every service."""
        async with self._database.as_user(asker, permissions.LIST_VENDOR_AGREEMENTS.on()) as tx:
            return await store.list_page(tx, request, services, selection)

    async def record(self, asker: Asker, agreement: NewAgreement, selection: Selection = _PLAIN) -> Row:
        """Record an entry. If the newest entry of the service is the same, return that entry. Raises InvalidInput
        (bad_agreement) and Conflict (agreement_signed_ahead).
        """
        access = permissions.RECORD_VENDOR_AGREEMENT.on()
        async with self._database.as_user(asker, access) as tx:
            agreement.check()
            entry = await store.record(tx, agreement)
            return await store.show(tx, entry, selection, access.action)


class OwnedRegister:
    """The operations on the register that the database owner may run. Needs the owner's login."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, agreement: NewAgreement) -> UUID:
        """Record an entry. Raises InvalidInput (bad_agreement) and Conflict (agreement_signed_ahead)."""
        agreement.check()
        async with self._database.as_service("record_agreement") as tx:
            return await store.record_as_owner(tx, agreement)

    async def list_newest(self) -> list[NewAgreement]:
        """Return the newest entry of each service, without the signatory."""
        async with self._database.as_service("record_agreement") as tx:
            return await store.list_newest(tx)


async def require_agreements(database: Database, services: Collection[VendorService]) -> None:
    """Raise Conflict (vendor_agreement_missing) unless the register has an agreement for each service that is valid
    today. The detail names each service and its problem.
    """
    async with database.as_service("start_up") as tx:
        gaps = await store.find_gaps(tx, services, 0)
    if gaps:
        raise Conflict("vendor_agreement_missing", services=", ".join(gap.describe() for gap in gaps))


class AgreementWatch:
    """Opens an alert for each service in use whose agreement has expired or expires soon, as the worker."""

    def __init__(self, database: Database, alerts: Alerts, services: Collection[VendorService]) -> None:
        self._database = database
        self._alerts = alerts
        self._services = services

    async def run_once(self) -> None:
        """Compare the register with today. A service without an entry opens no alert, because a process in production
        does not start without the entry.
        """
        async with self._database.as_service("watch_agreements") as tx:
            gaps = await store.find_gaps(tx, self._services, WARNING_DAYS)
        await self._alerts.replace(
            AlertKind.VENDOR_AGREEMENT_EXPIRING,
            [
                Finding(gap.service.value, "vendor_agreement", [gap.agreement_id])
                for gap in gaps
                if gap.agreement_id is not None
            ],
        )
