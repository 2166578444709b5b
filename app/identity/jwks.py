"""Fetches and caches the public signing keys of a Supabase project.

All callers that wait for the key set share one fetch. Tokens with an unknown key id cause at most one fetch per
`min_refresh_seconds` for the whole process. The module fetches keys that are older than `refresh_seconds` again in
the background. While Supabase is unreachable, the keys stay valid for at most `keep_seconds`.

The module accepts ES256 (P-256) and RS256 (2048 bits or more) keys and ignores every other entry of the key set, so
that one unusual key does not lock everyone out. A fetch follows no redirect and reads at most `MAX_DOCUMENT_BYTES`.
If an entry of the key set contains a private key, the module reads only the public key. Supabase serves the key set
at `<project>/auth/v1/.well-known/jwks.json` with `max-age=600` and without symmetric keys (supabase/auth,
internal/api/jwks.go; checked 2026-11-21).
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.errors import UpstreamFailed

Algorithm = Literal["ES256", "RS256"]

ALGORITHMS: tuple[Algorithm, ...] = ("ES256", "RS256")
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_KID_LENGTH = 256
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT = 2**33
FETCH_SECONDS = 5.0
MAX_WAITING = 1000
"""The maximum number of callers that wait for one fetch. A token with a known key does not wait."""
MIN_REFRESH_SECONDS = 2.0
"""The pause between two fetches for unknown key ids. A new key is accepted this soon after it is published."""
RETRY_SECONDS = 2.0
"""The pause before another fetch while there is no usable key."""


@dataclass(frozen=True)
class SigningKey:
    """A parsed public key. The signature algorithm follows from the type of the key, and is never read from a
    token.
    """

    kid: str
    algorithm: Algorithm
    public_key: EllipticCurvePublicKey | RSAPublicKey


def parse_keys(document: bytes) -> dict[str, SigningKey]:
    """Return the usable keys of a JWK set by their id. If two keys have the same id, the first one is returned.

    Raises ValueError if the document is not a JWK set. The result leaves out the keys that this module cannot use.
    """
    try:
        entries = json.loads(document)["keys"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a JWK set") from error
    if not isinstance(entries, list):
        raise ValueError("not a JWK set")  # noqa: TRY004 - callers catch one kind
    keys: dict[str, SigningKey] = {}
    for entry in entries:
        key = _parse_key(entry)
        if key is not None:
            keys.setdefault(key.kid, key)
    return keys


def _parse_key(entry: object) -> SigningKey | None:
    if not isinstance(entry, dict) or not _may_verify(entry):
        return None
    kid = entry.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
        return None
    try:
        if (entry.get("kty"), entry.get("crv"), entry.get("alg", "ES256")) == ("EC", "P-256", "ES256"):
            public = {name: entry.get(name) for name in ("kty", "crv", "x", "y")}
            return SigningKey(kid, "ES256", cast("EllipticCurvePublicKey", ECAlgorithm.from_jwk(public)))
        if (entry.get("kty"), entry.get("alg", "RS256")) == ("RSA", "RS256"):
            public = {name: entry.get(name) for name in ("kty", "n", "e")}
            rsa = cast("RSAPublicKey", RSAAlgorithm.from_jwk(public))
            return SigningKey(kid, "RS256", rsa) if _is_sound(rsa) else None
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    return None


def _is_sound(key: RSAPublicKey) -> bool:
    """Return whether the key can verify a signature in a bounded time."""
    numbers = key.public_numbers()
    return (
        MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and numbers.n % 2 == 1 and numbers.e <= MAX_RSA_EXPONENT
    )


def _may_verify(entry: Mapping[str, object]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


class SigningKeys:
    """The set of public signing keys at one URL.

    `monotonic` counts seconds. Keys younger than `refresh_seconds` are used without a fetch. Keys older than
    `refresh_seconds` are used while a fetch runs in the background. Keys older than `keep_seconds` are not used.
    """

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        min_refresh_seconds: float = MIN_REFRESH_SECONDS,
        refresh_seconds: float = 600,
        keep_seconds: float = 3600,
    ) -> None:
        self._url = url
        self._http = http
        self._monotonic = monotonic
        self._min_refresh_seconds = min_refresh_seconds
        self._refresh_seconds = refresh_seconds
        self._keep_seconds = keep_seconds
        self._keys: dict[str, SigningKey] = {}
        self._fetched_at: float | None = None
        self._attempted_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0

    async def find(self, kid: str) -> SigningKey | None:
        """Return the signing key with the given id, or None if the Supabase project does not publish it.

        Raises UpstreamFailed("jwks_unavailable") if there is no recent key set.
        """
        if not self._younger_than(self._keep_seconds) or kid not in self._keys:
            await self._refresh()
        elif not self._younger_than(self._refresh_seconds):
            self._start_fetch()
        if not self._younger_than(self._keep_seconds):
            raise UpstreamFailed("jwks_unavailable")
        return self._keys.get(kid)

    async def aclose(self) -> None:
        """Stop a running fetch of the keys. The caller must close the HTTP client; this class leaves it open."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _younger_than(self, seconds: float) -> bool:
        return self._fetched_at is not None and self._monotonic() - self._fetched_at < seconds

    async def _refresh(self) -> None:
        """Wait for a fetch. Raises UpstreamFailed if too many callers already wait for the key set, because all
        their tokens may name invented keys.
        """
        fetching = self._start_fetch()
        if fetching is None:
            return
        if self._waiting >= MAX_WAITING:
            raise UpstreamFailed("jwks_unavailable")
        self._waiting += 1
        try:
            await asyncio.shield(fetching)
        finally:
            self._waiting -= 1

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """Return the task of the running fetch, or start a new fetch. Returns None if the last fetch of the keys is
        too recent for a new fetch.
        """
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        pause = self._min_refresh_seconds if self._younger_than(self._keep_seconds) else RETRY_SECONDS
        if self._attempted_at is not None and self._monotonic() - self._attempted_at < pause:
            return None
        self._attempted_at = self._monotonic()
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        """Replace the keys. If the fetch of the keys fails, the old keys keep their age, and the method `find`
        decides whether they are still valid.
        """
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = parse_keys(await self._download())
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
            return
        self._keys = keys
        self._fetched_at = self._monotonic()

    async def _download(self) -> bytes:
        document = bytearray()
        async with self._http.stream(
            "GET", self._url, follow_redirects=False, timeout=FETCH_SECONDS
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError("unexpected status")
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise ValueError("document too large")
        return bytes(document)
