"""A stand-in for a browser that applies CORS to a page of another origin, without credentials.

Source: Fetch standard, "CORS protocol" and "CORS-preflight fetch" (checked 2026-11-29).
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx

from devstack.totp import totp_code

_SIMPLE_METHODS = frozenset({"GET", "HEAD", "POST"})
_SIMPLE_HEADERS = frozenset({"accept", "accept-language", "content-language"})
_SIMPLE_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_READABLE = frozenset(
    {
        "cache-control",
        "content-language",
        "content-length",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    }
)


class Blocked(Exception):  # noqa: N818 - it reads as what happened
    """The browser did not send the request, or hid the answer from the page. The exception's message names the
    cause.
    """


@dataclass(frozen=True)
class Answer:
    """The part of an answer that the page may read: the status, the body, and the exposed headers."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Page:
    """A web page from `origin` in a simulated browser."""

    http: httpx.AsyncClient
    origin: str

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        """Send a preflight request if a browser would send one, and then send the request itself. Raises Blocked."""
        headers = headers or {}
        unsafe = sorted(name.lower() for name, value in headers.items() if not _is_safe(name, value))
        if method not in _SIMPLE_METHODS or unsafe:
            await self._preflight(method, url, unsafe)
        answer = await self.http.request(
            method, url, headers={**headers, "Origin": self.origin}, content=content
        )
        self._require_origin(answer)
        readable = _READABLE | _listed(answer, "access-control-expose-headers")
        return Answer(
            answer.status_code,
            {name: value for name, value in answer.headers.items() if name in readable},
            answer.content,
        )

    async def _preflight(self, method: str, url: str, unsafe: list[str]) -> None:
        asked = {"Origin": self.origin, "Access-Control-Request-Method": method}
        if unsafe:
            asked["Access-Control-Request-Headers"] = ",".join(unsafe)
        answer = await self.http.request("OPTIONS", url, headers=asked)
        self._require_origin(answer)
        if not answer.is_success:
            raise Blocked(f"the preflight was answered {answer.status_code}")
        methods = {one.upper() for one in _listed(answer, "access-control-allow-methods")}
        if method not in _SIMPLE_METHODS | methods and "*" not in methods:
            raise Blocked(f"the method {method} is not allowed")
        allowed = _listed(answer, "access-control-allow-headers")
        refused = [
            name for name in unsafe if name not in allowed and ("*" not in allowed or name == "authorization")
        ]
        if refused:
            raise Blocked(f"these headers are not allowed: {', '.join(refused)}")

    def _require_origin(self, answer: httpx.Response) -> None:
        values = answer.headers.get_list("access-control-allow-origin")
        if values not in (["*"], [self.origin]):
            raise Blocked(
                f"the origin is not allowed: {answer.status_code}, {', '.join(values) or 'no header'}"
            )


def _is_safe(name: str, value: str) -> bool:
    match name.lower():
        case "content-type":
            return value.partition(";")[0].strip().lower() in _SIMPLE_TYPES
        case "range":
            return re.fullmatch(r"bytes=\d+-\d*", value) is not None
        case lowered:
            return lowered in _SIMPLE_HEADERS


def _listed(answer: httpx.Response, header: str) -> frozenset[str]:
    return frozenset(one.strip().lower() for one in answer.headers.get(header, "").split(",") if one.strip())


def authenticator_code(otpauth: str) -> str:
    """Return the current code of an authenticator app for an `otpauth://` URI."""
    (secret,) = parse_qs(urlsplit(otpauth).query)["secret"]
    return totp_code(secret, time.time())
