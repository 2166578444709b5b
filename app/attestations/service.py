"""The service with which compliance officers attest the review of a month."""

from app.attestations import store
from app.attestations.model import AttestationOrder
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection


class Attestations:
    """The operations on attestations that the API offers. The newest TOTP code of the caller may be at most
    `totp_max_age_seconds` old, as for a download.
    """

    def __init__(self, database: Database, *, totp_max_age_seconds: int) -> None:
        self._database = database
        self._totp_max_age_seconds = totp_max_age_seconds

    async def page(self, asker: Asker, request: PageRequest, selection: Selection) -> Page[Row]:
        """Return a page of the attestations of all officers, newest first. Raises RateLimited (quota_pages)."""
        async with self._database.as_user(asker, permissions.LIST_ATTESTATIONS.on()) as tx:
            return await store.list_page(tx, request, selection)

    async def attest(self, asker: Asker, order: AttestationOrder, selection: Selection) -> Row:
        """Attest a month, and seal the attestation in the audit log. A repeated call with the same findings and note
        returns the recorded attestation. Raises Forbidden (totp_stale) and Conflict (bad_month, attested_already).
        """
        access = permissions.ATTEST_REVIEW.on()
        async with self._database.as_user(asker, access) as tx:
            made = await store.attest(tx, order, self._totp_max_age_seconds)
            shown = await store.show(tx, made, selection, access.action)
        if shown is None:
            raise RuntimeError("the attestation is hidden from its officer")
        return shown
