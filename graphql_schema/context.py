"""What a resolver has to hand: the services, who asks, and in which language to answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import strawberry

from app.audit.service import Audit, Rejection
from app.auth import TokenVerifier
from app.consents.service import Consents
from app.consultations.service import Consultations
from app.db import Asker
from app.errors import Unauthenticated
from app.recordings.service import Recordings
from app.staff.service import Staff


@dataclass(frozen=True)
class Services:
    """One of each for the whole process."""

    consultations: Consultations
    recordings: Recordings
    consents: Consents
    staff: Staff
    audit: Audit


class Context:
    """One request. `on_rejected` is told when its token, or a webhook's signature, turns out to be none."""

    def __init__(
        self,
        services: Services,
        verifier: TokenVerifier,
        *,
        authorization: str | None,
        request_id: UUID,
        address: str | None,
        language: str,
        on_rejected: Callable[[Rejection], None],
    ) -> None:
        self.services = services
        self.request_id = request_id
        self.address = address
        self.language = language
        self._verifier = verifier
        self._authorization = authorization
        self._on_rejected = on_rejected
        self._asker: asyncio.Task[Asker] | None = None

    async def asker(self) -> Asker:
        """Who asks; the token is verified once, however many fields want to know. Raises Unauthenticated."""
        if self._asker is None:
            self._asker = asyncio.create_task(self._verify())
        return await asyncio.shield(self._asker)

    def guest(self) -> Asker:
        """Somebody without a login."""
        return Asker(None, self.request_id, self.address)

    def reject(self, kind: Rejection) -> None:
        """Counts an attempt that nobody can be held to: without a valid token, signature or invitation."""
        self._on_rejected(kind)

    async def _verify(self) -> Asker:
        scheme, _, token = (self._authorization or "").partition(" ")
        try:
            principal = await self._verifier.verify(token if scheme.lower() == "bearer" else "")
        except Unauthenticated:
            self._on_rejected("request.reject")
            raise
        return Asker(principal.claims(), self.request_id, self.address)


Info: TypeAlias = strawberry.Info[Context, Any]
