"""Cloudflare's own API, for what S3 has no word for: a bucket's locks, its r2.dev address, its custom domains.

For the command and the worker alone. It reads and replaces; which locks there ought to be, it does not decide. The
token is in no error and no log; what Cloudflare answers comes back as a code, never as its text.

The API is documented at developers.cloudflare.com/api/resources/r2/subresources/buckets (`locks`, `domains`) and,
generated from the same specification, in cloudflare-python `types/r2/buckets`; checked 2026-11-21.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from app.errors import AppError, InvalidInput, Timeout, UpstreamFailed

T = TypeVar("T")

API_URL: Final = "https://api.cloudflare.com/client/v4"
MAX_LOCK_RULES: Final = 1000
"""Of a bucket. Cloudflare, "Bucket locks", checked 2026-11-21."""

_TIMEOUT_SECONDS: Final = 15.0
_REASONS: Final[Mapping[int, str]] = {
    971: "cloudflare_limited",
    1000: "cloudflare_token_refused",
    1001: "cloudflare_token_refused",
    6003: "cloudflare_token_refused",
    6111: "cloudflare_token_refused",
    7000: "cloudflare_account_unknown",
    7003: "cloudflare_account_unknown",
    9106: "cloudflare_token_refused",
    9109: "cloudflare_token_refused",
    9400: "cloudflare_account_suspended",
    10000: "cloudflare_token_refused",
    10001: "cloudflare_failed",
    10003: "cloudflare_access_denied",
    10006: "cloudflare_bucket_missing",
    10042: "cloudflare_not_enabled",
    10043: "cloudflare_unavailable",
    10058: "cloudflare_limited",
}
"""What Cloudflare's codes mean: those of its API as its users quote them, and R2's ("Error codes"); checked 2026-11-29.
A code that is not here is told by its status, and is in the detail `code`."""

_FIRST_IMPOSSIBLE_CODE: Final = 10_000_000

_OF_STATUS: Final[Mapping[int, str]] = {
    401: "cloudflare_token_refused",
    403: "cloudflare_token_refused",
    404: "cloudflare_bucket_missing",
    429: "cloudflare_limited",
    503: "cloudflare_unavailable",
    520: "cloudflare_unavailable",
    521: "cloudflare_unavailable",
    522: "cloudflare_unavailable",
    524: "cloudflare_unavailable",
}
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class LockRule:
    """Objects under the prefix ("" is all) can neither be deleted nor overwritten: for an age, until a day, or ever.

    With neither `max_age_seconds` nor `until` (aware) it has no end. Of several that cover an object the longest
    counts, and any beats the bucket's lifecycle. Cloudflare, "Bucket locks", checked 2026-11-21.
    """

    id: str
    prefix: str
    enabled: bool = True
    max_age_seconds: int | None = None
    until: datetime | None = None

    @property
    def is_indefinite(self) -> bool:
        """Whether it has no end."""
        return self.max_age_seconds is None and self.until is None


@dataclass(frozen=True)
class PublicDomain:
    """An address at which Cloudflare serves the bucket to anybody, where it is enabled."""

    domain: str
    enabled: bool


class Cloudflare:
    """One bucket, by its account; `token` needs "Workers R2 Storage Write" (to read alone: "... Read").

    Methods raise Timeout("cloudflare_timeout") where it is not known whether Cloudflare acted, and UpstreamFailed:
    `cloudflare_unreachable`, a reason of `_REASONS`, and `cloudflare_failed` for everything else, with the status and
    Cloudflare's code. An `http` client given is left open.
    """

    def __init__(
        self,
        *,
        account_id: str,
        bucket: str,
        token: str,
        jurisdiction: str | None = None,
        api_url: str = API_URL,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = f"{api_url.rstrip('/')}/accounts/{account_id}/r2/buckets/{bucket}"
        self._headers = {"Authorization": f"Bearer {token}"}
        if jurisdiction is not None:
            self._headers["cf-r2-jurisdiction"] = jurisdiction
        is_loopback = urlsplit(api_url).hostname in _LOOPBACK
        self._own_http = (
            httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=not is_loopback) if http is None else None
        )
        self._http = http or self._own_http

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._own_http is not None:
            await self._own_http.aclose()

    async def read_locks(self) -> tuple[LockRule, ...]:
        """Every lock rule, in Cloudflare's order.

        One of a kind that is not documented raises UpstreamFailed("cloudflare_lock_unknown"): whoever wrote the rules
        back without it would unlock something.
        """
        return await self._ask("GET", "/lock", _lock_rules)

    async def replace_locks(self, rules: Sequence[LockRule]) -> None:
        """Makes these the rules, all of them: what is not named is unlocked from then on.

        Cloudflare knows no condition for it, so two who read and write at once lose one's rules: see
        `private.lock_bucket()`. Raises InvalidInput("lock_rules_limit") beyond 1,000, InvalidInput("lock_rule_twice").
        """
        if len(rules) > MAX_LOCK_RULES:
            raise InvalidInput("lock_rules_limit", limit=MAX_LOCK_RULES)
        if len({rule.id for rule in rules}) != len(rules):
            raise InvalidInput("lock_rule_twice")
        await self._ask("PUT", "/lock", lambda _: None, {"rules": [_to_wire(rule) for rule in rules]})

    async def managed_domain(self) -> PublicDomain:
        """The bucket's r2.dev address."""
        return await self._ask("GET", "/domains/managed", _domain)

    async def custom_domains(self) -> tuple[PublicDomain, ...]:
        """The domains of ones own that are attached to the bucket, enabled or not."""
        return await self._ask(
            "GET", "/domains/custom", lambda result: tuple(_domain(one) for one in result["domains"])
        )

    async def _ask(
        self, method: str, path: str, understand: Callable[[Any], T], body: object | None = None
    ) -> T:
        async with _translated():
            answer = await self._client.request(
                method, self._url + path, headers=self._headers, json=body, follow_redirects=False
            )
        result = _result(answer)
        try:
            return understand(result)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UpstreamFailed("cloudflare_failed", status=answer.status_code) from error

    @property
    def _client(self) -> httpx.AsyncClient:
        assert self._http is not None  # noqa: S101 - one of the two was made above
        return self._http


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Timeout("cloudflare_timeout") from error
    except httpx.ConnectError as error:
        raise UpstreamFailed("cloudflare_unreachable") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UpstreamFailed("cloudflare_failed") from error


def _result(answer: httpx.Response) -> object:
    """What the envelope holds: `{"success", "errors": [{"code", "message"}], "messages", "result"}`."""
    try:
        envelope = answer.json()
    except ValueError:
        envelope = None
    if not isinstance(envelope, dict):
        raise _refusal(answer.status_code, 0)
    if answer.is_success and envelope.get("success") is True:
        return envelope.get("result")
    raise _refusal(answer.status_code, _first_code(envelope.get("errors")))


def _first_code(errors: object) -> int:
    match errors:
        case [{"code": int(code)}, *_]:
            return code
    return 0


def _refusal(status: int, code: int) -> AppError:
    reason = _REASONS.get(code) or _OF_STATUS.get(status, "cloudflare_failed")
    named = {"vendor_code": str(code)} if code not in _REASONS and 0 < code < _FIRST_IMPOSSIBLE_CODE else {}
    return UpstreamFailed(reason, status=status, code=code, **named)


def _lock_rules(result: Any) -> tuple[LockRule, ...]:
    return tuple(_lock_rule(one) for one in result.get("rules") or ())


def _lock_rule(one: Any) -> LockRule:
    name, prefix, enabled = str(one["id"]), str(one.get("prefix") or ""), bool(one["enabled"])
    match one["condition"]:
        case {"type": "Indefinite"}:
            return LockRule(name, prefix, enabled)
        case {"type": "Age", "maxAgeSeconds": int(seconds)}:
            return LockRule(name, prefix, enabled, max_age_seconds=seconds)
        case {"type": "Date", "date": str(text)}:
            return LockRule(name, prefix, enabled, until=_aware(datetime.fromisoformat(text)))
    raise UpstreamFailed("cloudflare_lock_unknown")


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _to_wire(rule: LockRule) -> dict[str, object]:
    condition: dict[str, object] = {"type": "Indefinite"}
    if rule.max_age_seconds is not None:
        condition = {"type": "Age", "maxAgeSeconds": rule.max_age_seconds}
    elif rule.until is not None:
        condition = {"type": "Date", "date": _aware(rule.until).strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {"id": rule.id, "prefix": rule.prefix, "enabled": rule.enabled, "condition": condition}


def _domain(one: Any) -> PublicDomain:
    return PublicDomain(str(one["domain"]), bool(one["enabled"]))
