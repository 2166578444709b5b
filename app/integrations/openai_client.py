"""Makes clients for services that are compatible with OpenAI's API.

A client never repeats a request, follows no redirect, reads no environment variable, and sends only the headers that
a request needs. It reads at most 16 KiB of an error response, for the vendor's code, and never repeats the vendor's
message.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import openai

from app.errors import AppError
from app.settings import LOOPBACK

Translate = Callable[[int, bytes, Mapping[str, int]], AppError]
"""Returns the AppError for the status, the body (which may be truncated), and the detail `retry_after_seconds`."""

NOT_YET_SENT: Final = (httpx2.ConnectTimeout, httpx2.PoolTimeout)

_CONNECT_SECONDS: Final = 10.0
_MAX_RETRY_AFTER_SECONDS: Final = 3600
_MAX_REFUSAL_BYTES: Final = 16 * 1024
_REFUSAL_SECONDS: Final = 5.0
"""The time limit for the body of an error response. After it, only the status is used."""

_OWN_HEADERS: Final = frozenset(
    (
        "host",
        "authorization",
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
        "user-agent",
        "x-stainless-raw-response",  # with this header, the openai client leaves the reading of the response to us
    )
)

for _chatty in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_chatty).setLevel(
        logging.WARNING
    )  # at INFO they log URLs, and `OPENAI_LOG` could enable even more


def make_openai_client(
    api_key: str, base_url: str, timeout_seconds: float, translate: Translate
) -> openai.AsyncOpenAI:
    """Return a client that raises `translate`'s error for each response with a status other than 200."""
    return openai.AsyncOpenAI(
        api_key=api_key,
        admin_api_key="",  # if these are given, the openai client does not read them from the environment
        organization="",
        project="",
        webhook_secret="",
        base_url=base_url,
        max_retries=0,
        default_headers={"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity"},
        http_client=_http_client(base_url, timeout_seconds, translate),
    )


async def read_body(response: httpx2.Response, max_bytes: int) -> bytes | None:
    """Return the body of a response, or None if it is larger than `max_bytes`."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > max_bytes:
            return None
    return bytes(body)


def parse_error(body: bytes) -> Mapping[str, Any]:
    """Return the `error` object of the JSON document, or the document itself if it has no such object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = document.get("error", document) if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _http_client(base_url: str, timeout_seconds: float, translate: Translate) -> httpx2.AsyncClient:
    async def refuse(response: httpx2.Response) -> None:
        if response.status_code != 200:
            raise translate(response.status_code, await _refusal_body(response), _retry_after(response))

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
        trust_env=urlsplit(base_url).hostname not in LOOPBACK,
        follow_redirects=False,
        event_hooks={"request": [_remove_other_headers], "response": [refuse]},
    )


async def _remove_other_headers(request: httpx2.Request) -> None:
    for name in set(request.headers) - _OWN_HEADERS:
        del request.headers[name]


async def _refusal_body(response: httpx2.Response) -> bytes:
    """Return the part of an error response's body that arrives before the time and size limits, or nothing if the
    body is compressed.
    """
    body = bytearray()
    if response.headers.get("content-encoding", "identity") != "identity":
        return b""
    try:
        async with asyncio.timeout(_REFUSAL_SECONDS):
            async for part in response.aiter_raw():
                body += part
                if len(body) > _MAX_REFUSAL_BYTES:
                    break
    except (TimeoutError, httpx2.HTTPError):
        pass
    return bytes(body[:_MAX_REFUSAL_BYTES])


def _retry_after(response: httpx2.Response) -> dict[str, int]:
    """Return the number of seconds in the Retry-After header as a detail of the error, or no detail if the header
    has none. If the Retry-After header contains a date, which RFC 9110 (10.2.3) also allows, the function ignores
    the header.
    """
    given = response.headers.get("retry-after", "")
    if not (given.isascii() and given.isdigit()):
        return {}
    return {"retry_after_seconds": min(int(given[:9]), _MAX_RETRY_AFTER_SECONDS)}
