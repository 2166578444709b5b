"""Cloudflare's API for the features of a bucket that S3 lacks: locks, the r2.dev address, and custom domains.

Only commands and the worker use this client. The client reads and replaces lock rules; other modules decide which
locks must exist. Cloudflare's API token appears in no error and no log. Errors contain Cloudflare's error code,
never its error text.

Cloudflare documents this API at developers.cloudflare.com/api/resources/r2/subresources/buckets (`locks`,
`domains`). The package cloudflare-python (`types/r2/buckets`) is generated from the same specification. Both were
checked 2026-11-21.
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
"""The limit for one bucket. Source: Cloudflare, "Bucket locks", checked 2026-11-21."""

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
"""The meaning of Cloudflare's API error codes, as users quote them, and of R2's ("Error codes"); checked
2026-11-29. An unlisted code is classified by its HTTP status, and is in the detail `code`.
"""

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
    """A bucket lock: nobody can delete or overwrite objects under the prefix ("" means all). The lock lasts until
    an object has a certain age, until a date, or without end.

    The lock has no end if both `max_age_seconds` and `until` (a datetime with a time zone) are None. If several
    locks cover an object, the object stays locked until the longest lock ends. A bucket lock takes precedence over
    the bucket's lifecycle rules. Source: Cloudflare, "Bucket locks", checked 2026-11-21.
    """

    id: str
    prefix: str
    enabled: bool = True
    max_age_seconds: int | None = None
    until: datetime | None = None

    @property
    def is_indefinite(self) -> bool:
        """Return whether the bucket lock has no end."""
        return self.max_age_seconds is None and self.until is None


@dataclass(frozen=True)
class PublicDomain:
    """A public address of the bucket. If a public address is enabled, Cloudflare serves the bucket's objects there
    to everyone.
    """

    domain: str
    enabled: bool


class Cloudflare:
    """The client for one bucket of a Cloudflare account. `token` needs the permission "Workers R2 Storage Write",
    or "Workers R2 Storage Read" to read only.

    Methods raise Timeout("cloudflare_timeout") if Cloudflare did not answer in time, so that it is unknown whether
    Cloudflare carried out the request. Methods raise UpstreamFailed with the reason `cloudflare_unreachable`, with
    a reason from `_REASONS`, or with `cloudflare_failed` and the details status and Cloudflare's error code.
    `aclose` does not close an `http` client that the caller passed in.
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
        """Close the connections."""
        if self._own_http is not None:
            await self._own_http.aclose()

    async def read_locks(self) -> tuple[LockRule, ...]:
        """Return all lock rules in Cloudflare's order.

        Raises UpstreamFailed("cloudflare_lock_unknown") for a lock rule of an undocumented kind, because writing
        the rules back without this rule would remove a lock.
        """
        return await self._ask("GET", "/lock", _lock_rules)

    async def replace_locks(self, rules: Sequence[LockRule]) -> None:
        """Replace all lock rules with these rules. If none of the new lock rules covers an object, the object is
        unlocked at once.

        Cloudflare offers no conditional write of the lock rules, so concurrent callers could overwrite each other's
        rules. The SQL function `private.take_rules_turn` lets only one caller at a time change the rules. Raises
        InvalidInput("lock_rules_limit") for more than 1,000 lock rules, and InvalidInput("lock_rule_twice") for two
        rules with one id.
        """
        if len(rules) > MAX_LOCK_RULES:
            raise InvalidInput("lock_rules_limit", limit=MAX_LOCK_RULES)
        if len({rule.id for rule in rules}) != len(rules):
            raise InvalidInput("lock_rule_twice")
        await self._ask("PUT", "/lock", lambda _: None, {"rules": [_to_wire(rule) for rule in rules]})

    async def managed_domain(self) -> PublicDomain:
        """Return the bucket's r2.dev address."""
        return await self._ask("GET", "/domains/managed", _domain)

    async def custom_domains(self) -> tuple[PublicDomain, ...]:
        """Return the custom domains of the bucket, both enabled and disabled."""
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
    """Return the `result` of Cloudflare's response envelope: `{"success", "errors": [{"code", "message"}],
    "messages", "result"}`.
    """
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
