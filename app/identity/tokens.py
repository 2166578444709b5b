"""Verifies Supabase access tokens and returns a Principal: the person, the session, and how they authenticated.

The verifier checks the signature, algorithm, audience, issuer, times and role of an access token. A token does not
show whether its session has ended or its person was banned. In every transaction, the database checks that the
session is live and its person is not banned (`private.person()`). This module knows nothing of HTTP requests. The
errors of this module contain no token and no part of a token.

Supabase signs `{aud, exp, iat, iss, sub, role, aal, amr, session_id, is_anonymous, ...}` (supabase/auth,
internal/tokens/service.go; checked 2026-11-21). The method `get_claims` of Supabase's client checks only the
signature and `exp`. PyJWT checks the signature, `exp`, `aud` and `iss` of the token; this module checks all other
claims.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

import httpx
import jwt
from jwt.types import Options

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
    """One authentication of a person: its method (`password`, `totp`, ...) and its time (aware UTC, whole seconds)."""

    method: str
    at: datetime


@dataclass(frozen=True)
class Principal:
    """A person with a valid access token. `amr` is in Supabase's order, most recent first.

    `mac` is the token's `resguardo_mac`, or None. Only the database can compute and check a MAC.
    """

    user_id: UUID
    session_id: UUID = field(repr=False)
    aal: Aal
    amr: tuple[Amr, ...]
    expires_at: datetime
    mac: str | None = field(default=None, repr=False)

    def claims(self) -> dict[str, object]:
        """Return the value of the database setting `request.jwt.claims`, which contains ids, the assurance level
        and times, but no names.
        """
        mac = {} if self.mac is None else {"resguardo_mac": self.mac}
        return mac | {
            "sub": str(self.user_id),
            "session_id": str(self.session_id),
            "role": ROLE,
            "aal": self.aal,
            "amr": [{"method": entry.method, "timestamp": int(entry.at.timestamp())} for entry in self.amr],
            "exp": int(self.expires_at.timestamp()),
        }


REASONS: Final[Mapping[type[jwt.PyJWTError], str]] = {
    jwt.InvalidAlgorithmError: "token_algorithm",
    jwt.InvalidSignatureError: "token_signature",
    jwt.ExpiredSignatureError: "token_expired",
    jwt.InvalidAudienceError: "token_audience",
    jwt.InvalidIssuerError: "token_issuer",
}
"""The reasons for PyJWT's errors. Every other error means that the token is malformed."""
_MISSING_REASONS: Final = {"aud": "token_audience", "iss": "token_issuer"}
_OPTIONS: Final[Options] = {
    "require": ["exp", "iat", "sub", "session_id"],
    "strict_aud": True,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""PyJWT has one leeway for all times, so `_verified_claims` compares `iat` and `nbf` itself."""


class _AccessTokens(jwt.PyJWT):
    """PyJWT with strict times. PyJWT itself accepts text and booleans as times (2.15.1, `int(payload["exp"])`)."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        claims = super()._decode_payload(decoded)
        for name in ("exp", "iat", "nbf"):
            _require_unix_seconds(claims.get(name, 0))
        if claims.get("aud") == [AUDIENCE]:
            claims["aud"] = AUDIENCE
        return claims


class TokenVerifier:
    """Verifies the access tokens of one Supabase project.

    The claim `iss` of a token must be equal to `issuer`. `issuer` is None for a project whose tokens have no `iss`.
    `monotonic` is the clock, in seconds, by which the cache of signing keys expires. The caller must keep the HTTP
    client `http` open until it has closed the verifier.
    """

    def __init__(
        self,
        *,
        issuer: str | None,
        jwks_url: str,
        http: httpx.AsyncClient,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._tokens = _AccessTokens()
        self._keys = SigningKeys(jwks_url, http, monotonic=monotonic)

    async def verify(self, token: str) -> Principal:
        """Return the person whom this token identifies.

        Raises Unauthenticated with the reason token_missing, token_malformed, token_algorithm, token_key_unknown,
        token_signature, token_expired, token_clock, token_audience, token_issuer, token_claims, token_role,
        token_anonymous or session_delegated. Raises UpstreamFailed("jwks_unavailable") if no recent keys are
        available.
        """
        if not token:
            raise Unauthenticated("token_missing")
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise Unauthenticated("token_malformed")
        key = await self._find_key(token)
        return _principal(self._verified_claims(token, key))

    async def aclose(self) -> None:
        """Stop a key fetch that is still running."""
        await self._keys.aclose()

    async def _find_key(self, token: str) -> SigningKey:
        """Return the published key that the header of the token names."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
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

    def _verified_claims(self, token: str, key: SigningKey) -> Mapping[str, Any]:
        """Return the claims of a token if its signature, times, audience and issuer are valid. The type of the
        signing key determines the signature algorithm.
        """
        try:
            claims = self._tokens.decode(
                token,
                key.public_key,
                algorithms=[key.algorithm],
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options=_OPTIONS,
            )
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(_MISSING_REASONS.get(error.claim, "token_claims")) from None
        except jwt.PyJWTError as error:
            raise Unauthenticated(REASONS.get(type(error), "token_malformed")) from None
        if max(claims["iat"], claims.get("nbf", 0)) > datetime.now(UTC).timestamp() + AHEAD_SECONDS:
            raise Unauthenticated("token_clock")
        if self._issuer is None and claims.get("iss") is not None:
            raise Unauthenticated("token_issuer")
        return claims


def _principal(claims: Mapping[str, Any]) -> Principal:
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
        expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        mac=_mac(claims.get("resguardo_mac")),
    )


def _require_unix_seconds(value: object) -> float:
    """Return the time, in Unix seconds, that a claim contains. The comparison of a time with the limits also
    refuses NaN and infinity.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_UNIX_SECONDS:
        raise Unauthenticated("token_claims")
    return value


def _uuid(value: object) -> UUID:
    """Return the UUID that a text represents in the usual form with hyphens. Python's `UUID()` would also accept a
    text with braces or with the prefix `urn:uuid:`.
    """
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
    """Return the MAC unchanged. The database checks the MAC of a session if MACs are required."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_MAC_LENGTH else None


def _amr(value: object) -> tuple[Amr, ...]:
    """Return the authentications in the token's claim `amr` that have a time.

    An adopter's custom access token hook may replace the entries of `amr` by bare method names (RFC 8176). The
    result leaves out entries of `amr` that are only the name of a method, because they have no time.
    """
    if not isinstance(value, list) or len(value) > MAX_AMR_ENTRIES:
        raise Unauthenticated("token_claims")
    return tuple(_amr_entry(entry) for entry in value if not isinstance(entry, str))


def _amr_entry(entry: object) -> Amr:
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise Unauthenticated("token_claims")
    at = datetime.fromtimestamp(int(_require_unix_seconds(entry.get("timestamp"))), UTC)
    return Amr(method=entry["method"], at=at)
