"""What a resolver has to hand: the services, who asks, and in which language to answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import strawberry

from app.access_requests.service import AccessRequests
from app.admission import Admission
from app.audit.service import Audit, Rejection
from app.auth import Principal, TokenVerifier
from app.concurrency import ConcurrencyLimit, network_of
from app.consents.service import Consents
from app.consultations.service import Consultations
from app.db import Asker
from app.deletions.service import Deletions
from app.errors import AppError, Unauthenticated
from app.holds.service import LegalHolds
from app.permissions import Permission
from app.recordings.changes import RecordingChanges
from app.recordings.imports import Imports
from app.recordings.service import Recordings
from app.retention.service import Retention
from app.staff.service import Staff
from app.texts import Language
from app.transcripts.search import TranscriptSearch
from app.transcripts.service import Transcripts


@dataclass(frozen=True)
class Services:
    """One of each for the whole process."""

    admission: Admission
    consultations: Consultations
    recordings: Recordings
    recording_changes: RecordingChanges
    imports: Imports
    consents: Consents
    access_requests: AccessRequests
    deletions: Deletions
    staff: Staff
    holds: LegalHolds
    retention: Retention
    transcripts: Transcripts
    transcript_search: TranscriptSearch
    audit: Audit


@dataclass(frozen=True)
class OperationLimits:
    """How many operations run at once: of each person, and of callers without a token, by their address."""

    people: ConcurrencyLimit
    guests: ConcurrencyLimit


class Context:
    """One request, or one WebSocket. `on_rejected` is told when its token, or a webhook's signature, is none."""

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
        """Whose token it is; it is verified once, however many fields want to know. Raises Unauthenticated."""
        if self._principal is None:
            self._principal = asyncio.create_task(self._verify())
        return await asyncio.shield(self._principal)

    async def asker(self) -> Asker:
        """Who asks. Raises Unauthenticated."""
        return Asker((await self.principal()).claims(), self.request_id, self.address)

    async def require(self, permission: Permission) -> None:
        """Returns if the caller has the permission. Raises Unauthenticated or Forbidden, after the audit row."""
        await self.services.admission.require(await self.asker(), permission)

    def guest(self) -> Asker:
        """Somebody without a login."""
        return Asker(None, self.request_id, self.address)

    @asynccontextmanager
    async def person_slot(self) -> AsyncIterator[None]:
        """Holds one of the operations that a person may run at once. Raises RateLimited.

        It holds none for a caller without a valid token, who is refused before anything is asked of the database.
        """
        try:
            person = str((await self.principal()).user_id) if self._authorization else None
        except AppError:
            person = None  # the service that asks for the principal is told why
        if person is None:
            yield
            return
        async with self._limits.people.slot(person):
            yield

    @asynccontextmanager
    async def guest_slot(self) -> AsyncIterator[None]:
        """Holds one of the operations that callers without a token may run at once. Raises RateLimited."""
        async with self._limits.guests.slot(network_of(self.address)):
            yield

    def reject(self, kind: Rejection) -> None:
        """Counts an attempt that nobody can be held to: without a valid token, signature or invitation."""
        self._on_rejected(kind)

    async def _verify(self) -> Principal:
        scheme, _, token = (self._authorization or "").partition(" ")
        try:
            return await self._verifier.verify(token if scheme.lower() == "bearer" else "")
        except Unauthenticated:
            self._on_rejected("request.reject")
            raise


Info: TypeAlias = strawberry.Info[Context, Any]
