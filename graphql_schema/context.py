"""The context that every resolver receives: the services, the caller, and the language of the answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import strawberry

from app.access_requests.service import AccessRequests
from app.access_reviews.service import AccessReviews
from app.accountings.service import Accountings
from app.alerts.service import AlertReads
from app.amendments.service import Amendments
from app.attestations.service import Attestations
from app.audit.service import Audit, Rejection
from app.audit_exports.service import AuditExports
from app.breaches.service import Breaches
from app.clips.service import Clips
from app.concurrency import ConcurrencyLimit, network_of
from app.consents.service import Consents
from app.consultations.labels import LabelReader
from app.consultations.service import Consultations
from app.costs.service import Costs
from app.deletions.service import Deletions
from app.disclosures.released_copies import ReleasedCopies
from app.disclosures.service import Disclosures
from app.emergency_access.service import EmergencyAccess
from app.errors import AppError, Unauthenticated
from app.fetches.service import FetchReports
from app.holds.service import LegalHolds
from app.identity.admission import Admission
from app.identity.permissions import Permission
from app.identity.tokens import Principal, TokenVerifier
from app.insights.asking.service import Asking
from app.insights.service import InsightsReads
from app.insights.topics import TopicReader
from app.notes.service import NoteDrafts
from app.notes.signed_notes import SignedNotes
from app.notes.signing import NoteSigning
from app.officer_proposals.service import OfficerProposals
from app.outgoing_webhooks.service import OutgoingWebhooks
from app.patient_reports.service import PatientReports
from app.postgres.database import Asker
from app.recording_imports.service import Imports
from app.recordings.changes import Subscriptions
from app.recordings.service import Recordings
from app.retention.service import Retention
from app.review.service import ReviewCases, ReviewRules
from app.session_notes.service import SessionNotes
from app.shares.service import Shares
from app.staff.service import Staff
from app.texts import Language
from app.thumbnails.service import Thumbnails
from app.transcripts.search.service import TranscriptSearch
from app.transcripts.service import Transcripts
from app.vendor_agreements.service import VendorAgreements


@dataclass(frozen=True)
class Services:
    """The services that the resolvers of one API process call."""

    admission: Admission
    consultations: Consultations
    recordings: Recordings
    subscriptions: Subscriptions
    imports: Imports
    consents: Consents
    access_requests: AccessRequests
    deletions: Deletions
    clips: Clips
    thumbnails: Thumbnails
    staff: Staff
    officer_proposals: OfficerProposals
    access_reviews: AccessReviews
    holds: LegalHolds
    retention: Retention
    costs: Costs
    transcripts: Transcripts
    note_drafts: NoteDrafts
    note_signing: NoteSigning
    transcript_search: TranscriptSearch
    session_notes: SessionNotes
    insights: InsightsReads
    topics: TopicReader
    labels: LabelReader
    asking: Asking
    signed_notes: SignedNotes
    patient_reports: PatientReports
    audit: Audit
    audit_exports: AuditExports
    outgoing_webhooks: OutgoingWebhooks
    vendor_agreements: VendorAgreements
    alerts: AlertReads
    fetches: FetchReports
    disclosures: Disclosures
    released_copies: ReleasedCopies
    review_cases: ReviewCases
    review_rules: ReviewRules
    breaches: Breaches
    attestations: Attestations
    accountings: Accountings
    amendments: Amendments
    shares: Shares
    emergency_access: EmergencyAccess


@dataclass(frozen=True)
class OperationLimits:
    """The limits on concurrent operations: of each person, and of all callers without a token at one client
    address.
    """

    people: ConcurrencyLimit
    guests: ConcurrencyLimit


class Context:
    """The context of one HTTP request or one WebSocket. `on_rejected` is called if the token of the request, or the
    signature of a webhook, is not valid.
    """

    def __init__(
        self,
        services: Services,
        verifier: TokenVerifier,
        limits: OperationLimits,
        *,
        authorization: str | None,
        request_id: UUID,
        address: str | None,
        language: Language,
        on_rejected: Callable[[Rejection], None],
    ) -> None:
        self.services = services
        self.request_id = request_id
        self.address = address
        self.language = language
        self._verifier = verifier
        self._limits = limits
        self._authorization = authorization
        self._on_rejected = on_rejected
        self._principal: asyncio.Task[Principal] | None = None

    async def principal(self) -> Principal:
        """Return the person whom the access token of the request identifies. The token is verified once for all
        fields of an operation. Raises Unauthenticated.
        """
        if self._principal is None:
            self._principal = asyncio.create_task(self._verify())
        return await asyncio.shield(self._principal)

    async def asker(self) -> Asker:
        """Return the caller. Raises Unauthenticated."""
        return Asker((await self.principal()).claims(), self.request_id, self.address)

    async def require(self, permission: Permission) -> None:
        """Return None if the caller has the permission. Raises Unauthenticated or Forbidden after the audit row of
        the refusal is written.
        """
        await self.services.admission.require(await self.asker(), permission)

    def guest(self) -> Asker:
        """Return a caller who has no login, such as a guest with an invitation."""
        return Asker(None, self.request_id, self.address)

    @asynccontextmanager
    async def person_slot(self) -> AsyncIterator[None]:
        """Hold one of the person's slots for concurrent operations. Raises RateLimited.

        A caller without a valid token needs no slot, because the API refuses the caller before it uses the
        database.
        """
        try:
            person = str((await self.principal()).user_id) if self._authorization else None
        except AppError:
            person = None  # the service raises the reason when it reads the principal
        if person is None:
            yield
            return
        async with self._limits.people.slot(person):
            yield

    @asynccontextmanager
    async def guest_slot(self) -> AsyncIterator[None]:
        """Hold one of the slots for concurrent operations of callers without a token. Raises RateLimited."""
        async with self._limits.guests.slot(network_of(self.address)):
            yield

    def reject(self, kind: Rejection) -> None:
        """Count an attempt that the API rejected because its token, signature or invitation is not valid."""
        self._on_rejected(kind)

    async def _verify(self) -> Principal:
        scheme, _, token = (self._authorization or "").partition(" ")
        try:
            return await self._verifier.verify(token if scheme.lower() == "bearer" else "")
        except Unauthenticated:
            self._on_rejected("request.reject")
            raise


Info: TypeAlias = strawberry.Info[Context, Any]
