"""Tests that the bucket accepts every kind of request that the product sends, and names the kind that fails.

The check sends a GET, because the answer to a GET shows why a server refuses. The check also sends the kinds of
request that the product uses: the worker sends HEAD, and doctors download with a presigned GET. A server may accept
a HEAD or GET and refuse a presigned GET, for example because botocore corrects some wrong settings only for the
requests that it sends itself.
"""

from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.clock_difference import measure_seconds_ahead
from app.integrations.storage.client import MARK_KEY, Storage
from app.integrations.storage.refusals import code_in, is_unnamed, refusal_of

_TIMEOUT_SECONDS: Final = 10.0
_MOST_BYTES: Final = 16 * 1024
_MOST_SKEW_SECONDS: Final = 30
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_MAY_BE_STYLE: Final = frozenset(
    {
        "storage_access_denied",
        "storage_bucket_missing",
        "storage_credentials_refused",
        "storage_failed",
        "storage_not_implemented",
        "storage_not_s3",
        "storage_unreachable",
    }
)
"""The errors of a server that got the bucket in the host name and expects it in the path, or the other way round."""


async def check_access(
    storage: Storage, *, url_lifetime_seconds: int, other_style: Storage | None = None
) -> None:
    """Check that a GET, a HEAD and a presigned GET succeed, and that the bucket keeps no old versions.

    Raises UpstreamFailed or Timeout. The reason is `storage_path_style` if only the address style of `other_style`
    works, `storage_presigned_refused` if the store refuses only presigned URLs, or `storage_versioned` if the
    bucket keeps old versions.
    """
    try:
        await storage.reachable()
        await storage.head(MARK_KEY)
    except AppError as error:
        if other_style is not None and error.reason in _MAY_BE_STYLE and await _is_reached(other_style):
            raise UpstreamFailed("storage_path_style") from error
        raise
    await _get_presigned(
        storage.presign_get(MARK_KEY, expires_in_seconds=url_lifetime_seconds, filename="mark")
    )
    await storage.require_unversioned(MARK_KEY)


async def _is_reached(storage: Storage) -> bool:
    try:
        await storage.reachable()
    except AppError:
        return False
    return True


async def _get_presigned(url: str) -> None:
    """Request a presigned URL. If the bucket is empty, the store answers 404 to a presigned URL that it accepts."""
    trusts_proxies = urlsplit(url).hostname not in _LOOPBACK
    try:
        async with (
            httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=trusts_proxies) as http,
            http.stream("GET", url, follow_redirects=False) as answer,
        ):
            body = await _start_of(answer)
    except httpx.TimeoutException as error:
        raise Timeout("storage_timeout", operation="presigned_get") from error
    except httpx.HTTPError as error:
        raise UpstreamFailed("storage_unreachable", operation="presigned_get") from error
    code = code_in(body)
    if answer.status_code == 200 or (answer.status_code == 404 and code == "NoSuchKey"):
        return
    raise _refusal(answer, code)


def _refusal(answer: httpx.Response, code: str) -> AppError:
    """Return the AppError for a refused presigned URL. A presigned URL expires sooner than a signature in a header.
    If our clock is slightly wrong, the store may therefore refuse only presigned URLs.
    """
    refusal = refusal_of(code, answer.status_code, "presigned_get")
    ahead = measure_seconds_ahead(answer.headers, datetime.now(UTC))
    if ahead is not None and abs(ahead) > _MOST_SKEW_SECONDS:
        return UpstreamFailed("storage_clock", operation="presigned_get", status=answer.status_code)
    if refusal.reason in (
        "storage_access_denied",
        "storage_credentials_refused",
        "storage_failed",
        "storage_not_s3",
    ):
        named = {} if is_unnamed(code) else {"vendor_code": code}
        return UpstreamFailed("storage_presigned_refused", status=answer.status_code, **named)
    return refusal


async def _start_of(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > _MOST_BYTES:
            break
    return bytes(body)
