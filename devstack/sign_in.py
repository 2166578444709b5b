"""Signs people in through the real `supabase` client, for the demo and for tests.

Each call creates a new client, because a client acts as the person who last signed in with it.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from supabase_auth.types import Session as ClientSession

from app.errors import UpstreamFailed
from devstack.totp import totp_code
from supabase import AsyncClient, AsyncClientOptions

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Session:
    """A person's tokens."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    user_id: UUID


async def sign_in(
    url: str,
    publishable_key: str,
    email: str,
    password: str,
    totp_secret: str | None = None,
    *,
    http: httpx.AsyncClient | None = None,
    clock: Callable[[], float] = time.time,
) -> Session:
    """Return a new session, at aal2 if the secret of the user's verified TOTP factor is given, otherwise at aal1.

    A sign-in that reaches aal2 ends the user's other aal1 sessions. Raises the client's errors (AuthApiError).
    """
    async with _client(url, publishable_key, http) as client:
        await client.auth.sign_in_with_password({"email": email, "password": password})
        if totp_secret is not None:
            factors = await client.auth.mfa.list_factors()
            if not factors.totp:
                raise UpstreamFailed("totp_not_enrolled")
            await _verify(client, factors.totp[0].id, totp_code(totp_secret, clock()))
        return _session(await client.auth.get_session())


async def enrol_totp(
    url: str,
    publishable_key: str,
    email: str,
    password: str,
    *,
    http: httpx.AsyncClient | None = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """Enrol and verify the user's first TOTP factor, and return its base32 secret."""
    async with _client(url, publishable_key, http) as client:
        await client.auth.sign_in_with_password({"email": email, "password": password})
        enrolled = await client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "authenticator"})
        if enrolled.totp is None:
            raise UpstreamFailed("totp_not_enrolled")
        await _verify(client, enrolled.id, totp_code(enrolled.totp.secret, clock()))
        return enrolled.totp.secret


async def _verify(client: AsyncClient, factor_id: str, code: str) -> None:
    challenge = await client.auth.mfa.challenge({"factor_id": factor_id})
    await client.auth.mfa.verify({"factor_id": factor_id, "challenge_id": challenge.id, "code": code})


def _session(session: ClientSession | None) -> Session:
    if session is None:
        raise UpstreamFailed("session_missing")
    return Session(session.access_token, session.refresh_token, UUID(session.user.id))


@asynccontextmanager
async def _client(url: str, key: str, http: httpx.AsyncClient | None) -> AsyncIterator[AsyncClient]:
    own = httpx.AsyncClient(timeout=TIMEOUT_SECONDS) if http is None else None
    try:
        options = AsyncClientOptions(auto_refresh_token=False, httpx_client=http or own)
        yield AsyncClient(url, key, options)
    finally:
        if own is not None:
            await own.aclose()


async def sign_out(
    url: str, publishable_key: str, session: Session, *, http: httpx.AsyncClient | None = None
) -> None:
    """End this session. The access token of the session stays valid until it expires."""
    async with _client(url, publishable_key, http) as client:
        await client.auth.set_session(session.access_token, session.refresh_token)
        await client.auth.sign_out({"scope": "local"})
