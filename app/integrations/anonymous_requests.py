"""Requests an address without a key: one GET that follows no redirect and reads no body."""

import socket
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import httpx

_TIMEOUT_SECONDS: Final = 10.0
_REFUSALS: Final = (401, 403, 404)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Answer(StrEnum):
    """The result of an HTTP request that was sent without a key."""

    REFUSED = "refused"
    SERVED = "served"
    UNKNOWN = "unknown"


async def send_anonymous_request(
    url: str, *, also_refusals: tuple[int, ...] = (), http: httpx.AsyncClient | None = None
) -> Answer:
    """Request the URL without a key, and return whether the server refused or served it. The statuses 401, 403 and
    404 and an unknown host name mean refused. If the server does not answer, the result is unknown. Any status that
    does not mean refused means served. A redirect means that the URL gives access without a key. This function does
    not follow the redirect. R2's S3 host answers a request without a key with 401 (error 10002, Cloudflare, "Error
    codes", checked 2026-11-21). `also_refusals` adds statuses that also mean refused, because some users of R2
    report that R2 refuses with 400 InvalidArgument.
    """
    trusts_proxies = urlsplit(url).hostname not in _LOOPBACK
    client = http or httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=trusts_proxies)
    try:
        async with client.stream("GET", url, follow_redirects=False) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Answer.REFUSED if _has_no_address(error) else Answer.UNKNOWN
    finally:
        if http is None:
            await client.aclose()
    return Answer.REFUSED if status in (*_REFUSALS, *also_refusals) else Answer.SERVED


def _has_no_address(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.errno == socket.EAI_NONAME
        error = error.__cause__ or error.__context__
    return False
