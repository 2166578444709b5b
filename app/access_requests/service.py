"""Services with which patients and compliance officers handle access requests. The worker makes and deletes the
encrypted copies in `exports.py`.

Compliance officers decide requests and get no URL of a copy. The patient downloads the encrypted copy through
Resguardo, and gets the copy's secret from the practice by telephone or post. The database enforces what patients
and compliance officers may do with access requests.

Each method that changes an access request returns the request with the fields in `selection`. The audit row of the
change also names everything that is returned.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from app.access_requests import store
from app.access_requests.model import (
    AccessRequestStatus,
    DenialGround,
    ExportUrl,
    ExtensionReason,
    ReviewOutcome,
    require_days,
    require_determination,
    require_key,
    require_name,
)
from app.consents.model import Representative
from app.errors import NotFound
from app.identity import permissions
from app.integrations.storage.client import Storage
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database, Transaction
from app.postgres.paging import Page, PageRequest
from app.postgres.references import ConsultationBy, PatientBy
from app.postgres.selection import Selection


class AccessRequests:
    """The operations on access requests that the API offers. `url_lifetime_seconds` is 1 to 900."""

    def __init__(self, database: Database, storage: Storage, *, url_lifetime_seconds: int) -> None:
        self._database = database
        self._storage = storage
        self._url_lifetime_seconds = url_lifetime_seconds

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        statuses: Sequence[AccessRequestStatus] | None,
        selection: Selection,
    ) -> Page[Row]:
        """Return a page of access requests, newest first. A patient gets only their own requests, and a compliance
        officer gets all. If `statuses` is None, the page contains requests of every status.
        """
        access = permissions.LIST_ACCESS_REQUESTS.on()
        async with self._database.as_user(asker, access) as tx:
            return await store.list_page(tx, request, statuses, selection)

    async def file(
        self,
        asker: Asker,
        consultation: ConsultationBy | None,
        representative: Representative | None,
        selection: Selection,
    ) -> Row:
        """File an access request for the patient who is logged in. If an access request with the same scope is
        already open, return the open request.

        Raises NotFound, InvalidInput (bad_representative), Conflict (representative_differs), RateLimited
        (quota_pages).
        """
        speaker = require_name(representative)
        named = consultation or ConsultationBy()
        access = permissions.REQUEST_ACCESS.on(named.id, external_id=named.external_id)
        return await self._change(
            asker,
            access,
            lambda tx: store.file(
                tx, patient=None, consultation=consultation, received_on=None, representative=speaker
            ),
            selection,
            missing="consultation_not_found",
        )

    async def file_written(
        self,
        asker: Asker,
        patient: PatientBy,
        consultation: ConsultationBy | None,
        received_on: date,
        representative: Representative | None,
        selection: Selection,
    ) -> Row:
        """File an access request that a patient sent in writing. The caller is a compliance officer, and the
        request arrived within the last 60 days. Otherwise like `file`.

        Also raises Conflict (bad_received_on).
        """
        speaker = require_name(representative)
        access = permissions.RECORD_ACCESS_REQUEST.on(patient.id, external_id=patient.external_id)
        return await self._change(
            asker,
            access,
            lambda tx: store.file(
                tx,
                patient=patient,
                consultation=consultation,
                received_on=received_on,
                representative=speaker,
            ),
            selection,
            missing="consultation_not_found" if consultation else "patient_not_found",
        )

    async def withdraw(self, asker: Asker, request_id: UUID, selection: Selection) -> Row:
        """Withdraw an access request. The caller is the patient, or a compliance officer if the request was filed
        in writing. Safe to repeat.

        Raises NotFound, Conflict (access_request_closed, request_not_written), RateLimited (quota_pages).
        """
        access = permissions.WITHDRAW_ACCESS_REQUEST.on(request_id)
        return await self._change(asker, access, lambda tx: store.withdraw(tx, request_id), selection)

    async def approve(self, asker: Asker, request_id: UUID, selection: Selection) -> Row:
        """Approve an access request, and queue the job that makes its encrypted copy. If the request is approved
        already and its copy failed, queue the job again.

        Raises NotFound, Conflict (access_request_closed, review_pending), RateLimited (quota_pages).
        """
        access = permissions.APPROVE_ACCESS_REQUEST.on(request_id)
        return await self._change(asker, access, lambda tx: store.approve(tx, request_id), selection)

    async def deny(
        self,
        asker: Asker,
        request_id: UUID,
        ground: DenialGround,
        determined_by: UUID | None,
        selection: Selection,
    ) -> Row:
        """Deny a request. Raises NotFound, InvalidInput (bad_determination), Conflict (access_request_closed,
        review_pending, clinician_unknown, request_has_no_representative).
        """
        require_determination(ground, determined_by)
        access = permissions.DENY_ACCESS_REQUEST.on(request_id)
        return await self._change(
            asker, access, lambda tx: store.deny(tx, request_id, ground, determined_by), selection
        )

    async def extend(
        self, asker: Asker, request_id: UUID, days: int, reason: ExtensionReason, selection: Selection
    ) -> Row:
        """Extend the deadline of an access request. A deadline can be extended only once, and only before it has
        passed. Raises NotFound, InvalidInput (bad_extension), Conflict (access_request_closed, review_pending,
        extended_already, past_due).
        """
        longer = require_days(days)
        access = permissions.EXTEND_ACCESS_REQUEST.on(request_id)
        return await self._change(
            asker, access, lambda tx: store.extend(tx, request_id, longer, reason), selection
        )

    async def ask_review(self, asker: Asker, request_id: UUID, selection: Selection) -> Row:
        """Ask for the review of a denied access request. The caller is the patient, or a compliance officer if the
        request was filed in writing. After this call, the access request is OPEN until a compliance officer has
        recorded the outcome of the review.

        Raises NotFound, Conflict (not_reviewable, reviewed_already, access_request_open_already,
        request_not_written), RateLimited (quota_pages).
        """
        access = permissions.ASK_ACCESS_REVIEW.on(request_id)
        return await self._change(asker, access, lambda tx: store.ask_review(tx, request_id), selection)

    async def record_review(
        self,
        asker: Asker,
        request_id: UUID,
        reviewer_id: UUID,
        outcome: ReviewOutcome,
        selection: Selection,
    ) -> Row:
        """Record the outcome of the review of a denied access request. Raises NotFound, Conflict (no_review_asked,
        clinician_unknown, reviewer_took_part).
        """
        access = permissions.RECORD_ACCESS_REVIEW.on(request_id)
        return await self._change(
            asker, access, lambda tx: store.record_review(tx, request_id, reviewer_id, outcome), selection
        )

    async def issue_url(self, asker: Asker, request_id: UUID) -> ExportUrl:
        """Return a presigned URL of the encrypted copy. Only the patient who owns the access request gets a URL.
        The database commits the audit row before this process signs the URL.

        Raises NotFound, Conflict (export_not_there), RateLimited (quota_urls).
        """
        access = permissions.ISSUE_EXPORT_URL.on(request_id)
        async with self._database.as_user(asker, access) as tx:
            key = await store.release_export_key(tx, request_id)
            if key is None:
                raise NotFound("access_request_not_found")
        lifetime = self._url_lifetime_seconds
        url = self._storage.presign_get(
            require_key(key), expires_in_seconds=lifetime, filename="recordings.zip"
        )
        return ExportUrl(url, datetime.now(UTC) + timedelta(seconds=lifetime), lifetime)

    async def reveal_secret(self, asker: Asker, request_id: UUID, selection: Selection) -> tuple[Row, str]:
        """Return the access request and the secret of its encrypted copy to a compliance officer, once. The officer
        gives the secret to the patient by telephone or post. Revealing the secret also erases it from the database.

        Raises NotFound, Conflict (export_secret_gone).
        """
        access = permissions.REVEAL_EXPORT_SECRET.on(request_id)
        async with self._database.as_user(asker, access) as tx:
            secret = await store.reveal_export_secret(tx, request_id)
            if secret is None:
                raise NotFound("access_request_not_found")
            shown = await store.show(tx, request_id, selection, access.action, besides=["secret"])
        return shown, secret

    async def _change(
        self,
        asker: Asker,
        access: Access,
        change: Callable[[Transaction], Awaitable[UUID | None]],
        selection: Selection,
        *,
        missing: str = "access_request_not_found",
    ) -> Row:
        """Change an access request and return it. `change` returns the id of the request. Raises NotFound with the
        reason `missing` if `change` returns None.
        """
        async with self._database.as_user(asker, access) as tx:
            changed = await change(tx)
            if changed is None:
                raise NotFound(missing)
            return await store.show(tx, changed, selection, access.action)
