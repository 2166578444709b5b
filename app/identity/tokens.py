"""Verifies Supabase access tokens and returns a Principal: the person, the session, and how they authenticated.

The verifier checks everything in the token: signature, algorithm, audience, issuer, times and role. It cannot know
whether the session has ended or the person was banned; the database checks that in every transaction
(`private.person()`). The module does not know HTTP. No error contains a token or a part of one.

Supabase signs `{aud, exp, iat, iss, sub, role, aal, amr, session_id, is_anonymous, ...}` (supabase/auth,
internal/tokens/service.go; checked 2026-11-21). The vendor's `get_claims` checks only the signature and `exp`, so
this module checks the rest.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import httpx
from jwt import InvalidAlgorithmError, InvalidSignatureError, PyJWS, PyJWTError

from app.errors import Unauthenticated
from app.identity.jwks import ALGORITHMS, MAX_KID_LENGTH, SigningKey, SigningKeys

AUDIENCE = "authenticated"
ROLE = "authenticated"
MAX_TOKEN_BYTES = 8 * 1024
MAX_AMR_ENTRIES = 32
MAX_UNIX_SECONDS = 253_402_300_799
"""The last second of the year 9999, the latest time that datetime supports."""
MAX_MAC_LENGTH = 200
LEEWAY_SECONDS = 5
"""How long after its `exp` a token is still accepted."""
AHEAD_SECONDS = 30
"""How far in the future `iat` and `nbf` may be, because Supabase's clock may be ahead of ours."""
REFUSED_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c"})
DELEGATED_CLAIMS = frozenset({"client_id", "scope"})
"""Supabase Auth's OAuth 2.1 server adds these claims to the tokens of third-party clients, and to no other token.

A token with one of these claims is refused whatever its value is, including an empty or null `client_id`.
"""

Aal = Literal["aal1", "aal2"]


@dataclass(frozen=True)
class Amr:
    """One authentication: its method (`password`, `totp`, ...) and its time (aware UTC, whole seconds)."""

    method: str
    at: datetime


@dataclass(frozen=True)
class Principal:
    """A person with a valid token. `amr` is in Supabase's order, most recent first.

    `mac` is the token's `resguardo_mac`, or None. Only the database can compute and check it.
    """

    user_id: UUID
    session_id: UUID = field(repr=False)
    aal: Aal
    amr: tuple[Amr, ...]
    expires_at: datetime
    mac: str | None = field(default=None, repr=False)

    def claims(self) -> dict[str, object]:
        """Return the `request.jwt.claims` for the database: ids, assurance level and times, and no names."""
        mac = {} if self.mac is None else {"resguardo_mac": self.mac}
        return mac | {
            "sub": str(self.user_id),
            "session_id": str(self.session_id),
            "role": ROLE,
            "aal": self.aal,
            "amr": [{"method": entry.method, "timestamp": int(entry.at.timestamp())} for entry in self.amr],
            "exp": int(self.expires_at.timestamp()),
        }


class TokenVerifier:
    """Verifies the access tokens of one Supabase project.

    `issuer` must equal `iss`; None is for a project whose tokens have no `iss`. `clock` returns Unix seconds. The
    caller keeps `http` open, and closes the verifier first.
    """

    def __init__(
        self,
        *,
        issuer: str | None,
        jwks_url: str,
        http: httpx.AsyncClient,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._jws = PyJWS(algorithms=list(ALGORITHMS))
        self._keys = SigningKeys(jwks_url, http, monotonic=monotonic)

    async def verify(self, token: str) -> Principal:
        """Return the person of this token.

        Raises Unauthenticated with the reason token_missing, token_malformed, token_algorithm, token_key_unknown,
        token_signature, token_expired, token_clock, token_audience, token_issuer, token_claims, token_role,
        token_anonymous or session_delegated. Raises UpstreamFailed("jwks_unavailable") if no recent keys are
        available.
        """
        if not token:
            raise Unauthenticated("token_missing")
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise Unauthenticated("token_malformed")
        key = await self._key_of(token)
        return self._principal(_claims(self._signed_payload(token, key)))

    async def aclose(self) -> None:
        """Stop a key fetch that is still running."""
        await self._keys.aclose()

    async def _key_of(self, token: str) -> SigningKey:
        """Return the published key that the header names. A header that contradicts the key's type is refused."""
        try:
            header = self._jws.get_unverified_header(token)
        except (PyJWTError, RecursionError):
            raise Unauthenticated("token_malformed") from None
        if header.get("alg") not in ALGORITHMS:
            raise Unauthenticated("token_algorithm")
        if not REFUSED_HEADERS.isdisjoint(header):
            raise Unauthenticated("token_malformed")
        kid = header.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
            raise Unauthenticated("token_key_unknown")
        key = await self._keys.find(kid)
        if key is None:
            raise Unauthenticated("token_key_unknown")
        return key

    def _signed_payload(self, token: str, key: SigningKey) -> bytes:
        try:
            payload: bytes = self._jws.decode(token, key.public_key, algorithms=[key.algorithm])
        except InvalidAlgorithmError:
            raise Unauthenticated("token_algorithm") from None
        except InvalidSignatureError:
            raise Unauthenticated("token_signature") from None
        except PyJWTError:
            raise Unauthenticated("token_malformed") from None
        return payload

    def _principal(self, claims: Mapping[str, object]) -> Principal:
        expires_at = self._check_times(claims)
        if claims.get("aud") not in (AUDIENCE, [AUDIENCE]):
            raise Unauthenticated("token_audience")
        if claims.get("iss") != self._issuer:
            raise Unauthenticated("token_issuer")
        if claims.get("role") != ROLE:
            raise Unauthenticated("token_role")
        if claims.get("is_anonymous", False) is not False:
            raise Unauthenticated("token_anonymous")
        if not DELEGATED_CLAIMS.isdisjoint(claims):
            raise Unauthenticated("session_delegated")
        return Principal(
            user_id=_uuid(claims.get("sub")),
            session_id=_uuid(claims.get("session_id")),
            aal=_aal(claims.get("aal", "aal1")),
            amr=_amr(claims.get("amr", [])),
            expires_at=expires_at,
            mac=_mac(claims.get("resguardo_mac")),
        )

    def _check_times(self, claims: Mapping[str, object]) -> datetime:
        now = self._clock()
        expires_at = _unix_seconds(claims.get("exp"))
        if expires_at <= now - LEEWAY_SECONDS:
            raise Unauthenticated("token_expired")
        not_before = max(_unix_seconds(claims.get("iat")), _unix_seconds(claims.get("nbf", 0)))
        if not_before > now + AHEAD_SECONDS:
            raise Unauthenticated("token_clock")
        return datetime.fromtimestamp(int(expires_at), UTC)


def _claims(payload: bytes) -> Mapping[str, object]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        raise Unauthenticated("token_malformed") from None
    if not isinstance(claims, dict):
        raise Unauthenticated("token_malformed")
    return claims


def _unix_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated("token_claims")
    if not math.isfinite(value) or not 0 <= value <= MAX_UNIX_SECONDS:
        raise Unauthenticated("token_claims")
    return value


def _uuid(value: object) -> UUID:
    """Return a UUID in its usual form. `UUID()` would also accept braces and `urn:uuid:`."""
    try:
        parsed = UUID(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != str(value).lower():
        raise Unauthenticated("token_claims")
    return parsed


def _aal(value: object) -> Aal:
    if value == "aal1":
        return "aal1"
    if value == "aal2":
        return "aal2"
    raise Unauthenticated("token_claims")


def _mac(value: object) -> str | None:
    """Return the MAC unchanged. The database checks it, if MACs are required."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_MAC_LENGTH else None


def _amr(value: object) -> tuple[Amr, ...]:
    """Return the authentications that have a time.

    A custom access token hook may issue bare method names (RFC 8176). They have no time and are left out.
    """
    if not isinstance(value, list) or len(value) > MAX_AMR_ENTRIES:
        raise Unauthenticated("token_claims")
    return tuple(_amr_entry(entry) for entry in value if not isinstance(entry, str))


def _amr_entry(entry: object) -> Amr:
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise Unauthenticated("token_claims")
    at = datetime.fromtimestamp(int(_unix_seconds(entry.get("timestamp"))), UTC)
    return Amr(method=entry["method"], at=at)
