"""Client of the bucket: presigned URLs, object metadata, digests, and small private objects.

Only this module imports boto3. It translates botocore's errors into AppErrors, and no message contains a URL or a
secret. Listing and deletion are in `listing.py`. Services decide and audit who may download or upload
before they call this client.

Settings for Cloudflare R2 and botocore: checksums only `when_required`, because R2 rejects the newer defaults as
`Unauthorized`; no versioning; no tags. Source: Cloudflare's documentation and botocore 1.44, checked 2026-11-21.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError
from botocore.exceptions import ConnectionError as EndpointUnreachable
from botocore.parsers import ResponseParserError

from app.errors import Conflict, InvalidInput, NotFound, Timeout, UpstreamFailed
from app.integrations.storage import refusals
from app.integrations.storage.copies import Copying
from app.integrations.storage.listing import Listing
from app.integrations.storage.uploads import Uploading

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

MARK_KEY: Final = "deployment"
"""The key of the object that names the deployment to which the bucket belongs."""

MAX_URL_SECONDS: Final = 900

MAX_PUT_BYTES: Final = 5_000_000_000
"""The largest object of a single PUT: S3 takes 5 GB, R2 5 MiB less than 5 GiB (both documentations, checked
2026-11-21).
"""

_CHUNK_BYTES: Final = 8 * 1024 * 1024
_MARK_BYTES: Final = 200
_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 10
_ATTEMPTS: Final = 3
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Credentials:
    """An S3 key pair, with a session token if the credentials are temporary."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StoredObject:
    """The metadata of an object. `etag` has no quotes, and is not a digest if the object was uploaded in parts."""

    size_bytes: int
    content_type: str
    etag: str
    last_modified: datetime


def upload_headers(content_type: str, size_bytes: int) -> dict[str, str]:
    """Return the headers that a client must send with a URL of `Storage.presign_put`. A browser sets Content-Length
    itself.
    """
    return {"Content-Type": content_type, "Content-Length": str(size_bytes), "If-None-Match": "*"}


class Storage(Listing, Copying, Uploading):
    """One bucket, accessed with one pair of credentials.

    Every method that calls the store raises UpstreamFailed (`storage_unreachable`, a reason of `storage_refusals`,
    or `storage_failed`) or Timeout (`storage_timeout`, or `storage_unreachable` if no connection was made), within
    `call_timeout_seconds` for each call. `sha256` makes one call for each 8 MB. A call is sent at most `attempts`
    times.
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        bucket: str,
        credentials: Credentials,
        region: str = "auto",
        call_timeout_seconds: float = 30.0,
        max_connections: int = 10,
        attempts: int = _ATTEMPTS,
        force_path_style: bool = True,
    ) -> None:
        self._bucket = bucket
        style: Literal["path", "virtual"] = "path" if force_path_style else "virtual"
        self._client = _client(endpoint_url, region, style, credentials, max_connections, attempts)
        self._call_timeout_seconds = call_timeout_seconds
        self._limiter = anyio.CapacityLimiter(max_connections)

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def presign_get(
        self, key: str, *, expires_in_seconds: int, filename: str, content_type: str | None = None
    ) -> str:
        """Return a URL that downloads the object as `filename`. The URL is signed without a call to the store.

        The store answers with `content_type`, or with the type that the object was stored with if it is None.
        Everyone who has the URL can use it repeatedly until it expires, 1 to 900 s from now, so treat it as a
        secret. Raises InvalidInput (`url_lifetime`, `filename`). A filename has at most 100 characters: ASCII
        letters, digits and `._-`.
        """
        if not 1 <= expires_in_seconds <= MAX_URL_SECONDS:
            raise InvalidInput("url_lifetime", max_seconds=MAX_URL_SECONDS)
        if _FILENAME.fullmatch(filename) is None:
            raise InvalidInput("filename")
        answered = {"ResponseContentDisposition": f'attachment; filename="{filename}"'}
        if content_type is not None:
            answered["ResponseContentType"] = content_type
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": key, **answered},
            ExpiresIn=expires_in_seconds,
            HttpMethod="GET",
        )

    def presign_put(self, key: str, content_type: str, size_bytes: int, *, expires_in_seconds: int) -> str:
        """Return a URL that stores one object of exactly this type and size, once. The URL is signed without a call
        to the store.

        The client must send `upload_headers` unchanged, because the signature covers them. `If-None-Match: *` lets
        only the first write succeed; later writes get 412. A request that begins before the URL expires, 1 to 900 s
        from now, may finish later. Treat the URL as a secret. Raises InvalidInput (`url_lifetime`), and ValueError
        for a size that a single PUT cannot have.
        """
        if not 1 <= expires_in_seconds <= MAX_URL_SECONDS:
            raise InvalidInput("url_lifetime", max_seconds=MAX_URL_SECONDS)
        if not 1 <= size_bytes <= MAX_PUT_BYTES:
            raise ValueError("no such size")
        return self._client.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ContentType": content_type,
                "ContentLength": size_bytes,
                "IfNoneMatch": "*",
            },
            ExpiresIn=expires_in_seconds,
            HttpMethod="PUT",
        )

    async def head(self, key: str) -> StoredObject | None:
        """Return the metadata of the object, or None if there is none. A HEAD request cannot distinguish a missing
        bucket from a missing object.
        """

        def ask() -> StoredObject | None:
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if refusals.status_of(error) == 404:
                    return None
                if refusals.status_of(error) < 500:
                    self._require_named_refusal(key)
                raise
            _require_object(answer, "head")
            return StoredObject(
                size_bytes=answer["ContentLength"],
                content_type=answer.get("ContentType", ""),
                etag=answer["ETag"].strip('"'),
                last_modified=answer["LastModified"],
            )

        return await self._call("head", ask)

    async def sha256(self, key: str, stored: StoredObject) -> str:
        """Return the SHA-256, in hex, of the object that `head` found. Reads ranges of 8 MB, one at a time.

        Raises Conflict (`storage_object_changed`) if the object was replaced or deleted since.
        """
        digest = hashlib.sha256()
        for start in range(0, stored.size_bytes, _CHUNK_BYTES):
            length = min(_CHUNK_BYTES, stored.size_bytes - start)
            chunk = await self.read_range(key, start, length, etag=stored.etag)
            await anyio.to_thread.run_sync(digest.update, chunk)
        return digest.hexdigest()

    async def read_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        """Return exactly `length` bytes of the object, at least one, from the offset `start`.

        With an `etag` (from `head`), the method raises Conflict (`storage_object_changed`) if the object is not the
        one with that etag. Without one, it raises NotFound (`storage_object_missing`) if the object does not exist.
        It raises `storage_failed` if the object ends too early.
        """
        if start < 0 or length < 1:
            raise ValueError("no such range")
        span = f"bytes={start}-{start + length - 1}"
        get = partial(self._client.get_object, Bucket=self._bucket, Key=key, Range=span)

        def read() -> bytes:
            try:
                answer = get() if etag is None else get(IfMatch=f'"{etag}"')
            except ClientError as error:
                if refusals.status_of(error) == 412 or (etag is not None and _code(error) == "NoSuchKey"):
                    raise Conflict("storage_object_changed") from error
                if _code(error) == "NoSuchKey":
                    raise NotFound("storage_object_missing") from error
                raise
            with closing(answer["Body"]) as body:
                _require_object(answer, "read_range")
                if answer["ContentLength"] != length:
                    raise UpstreamFailed("storage_failed", operation="read_range")
                return body.read()

        return await self._call("read_range", read)

    async def put_new(self, key: str, body: bytes, content_type: str) -> bool:
        """Store the object and return True, or return False if the key already exists. If the existing body is
        equal, as after a lost answer, return True.
        """

        def put() -> tuple[bool, int]:
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
                )
            except ClientError as error:
                if refusals.status_of(error) == 412:
                    return False, error.response["ResponseMetadata"]["RetryAttempts"]
                raise
            return True, 0

        is_new, retries = await self._call("put_new", put)
        if not is_new and retries > 0:
            return await self.get_small(key, len(body)) == body
        return is_new

    async def get_small(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the bytes of the object, or None if it does not exist. Raises UpstreamFailed
        (`storage_object_too_large`) above the limit.
        """

        def get() -> bytes | None:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    return None
                raise
            with closing(answer["Body"]) as body:
                _require_object(answer, "get_small")
                if answer["ContentLength"] > limit_bytes:
                    raise UpstreamFailed("storage_object_too_large", limit_bytes=limit_bytes)
                return body.read()

        return await self._call("get_small", get)

    async def claim(self, mark: str) -> None:
        """Mark the bucket as this deployment's. Raises Conflict (`storage_of_another_deployment`) if it has another
        mark.

        Raises UpstreamFailed (`storage_overwrites`) if the store ignores conditional writes, on which Resguardo
        relies to overwrite nothing.
        """
        is_new = await self.put_new(MARK_KEY, mark.encode(), "text/plain")
        if not is_new and await self.read_mark() != mark:
            raise Conflict("storage_of_another_deployment")
        if is_new and await self.put_new(MARK_KEY, mark.encode(), "text/plain"):
            raise UpstreamFailed("storage_overwrites")

    async def read_mark(self) -> str | None:
        """Return the bucket's mark, or None if it has none."""
        mark = await self.get_small(MARK_KEY, _MARK_BYTES)
        return None if mark is None else mark.decode(errors="replace")

    async def reachable(self) -> None:
        """Return if the endpoint answers, the bucket exists, and the credentials may read it; otherwise raise.

        The method sends a GET, because a HEAD cannot distinguish these errors. A store may hide a missing bucket
        from a key of another bucket. The error is then `storage_access_denied`, as it always is for write-only
        credentials.
        """
        await self.read_mark()

    async def require_unversioned(self, key: str) -> None:
        """Raise UpstreamFailed (`storage_versioned`) if the bucket keeps old versions, in which a deleted object
        would survive.

        If the server does not support versions, or this key may not ask, only the object at `key` is checked.
        """

        def ask() -> bool:
            try:
                return self._client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled"
            except ClientError:
                pass
            try:
                version = self._client.head_object(Bucket=self._bucket, Key=key).get("VersionId", "null")
            except ClientError:
                return False
            return version not in ("", "null")

        if await self._call("versioning", ask):
            raise UpstreamFailed("storage_versioned")

    def _require_named_refusal(self, key: str) -> None:
        """Repeat a refused HEAD as a GET for one byte, because only the body of a GET contains S3's reason."""
        answer = self._client.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")
        answer["Body"].close()

    async def _call(self, operation: str, work: Callable[[], T]) -> T:
        def bounded() -> T:
            with translated(operation):
                return work()

        try:
            with anyio.fail_after(self._call_timeout_seconds):
                return await anyio.to_thread.run_sync(bounded, abandon_on_cancel=True, limiter=self._limiter)
        except TimeoutError as error:
            raise Timeout("storage_timeout", operation=operation) from error


def _client(
    endpoint_url: str,
    region: str,
    style: Literal["path", "virtual"],
    credentials: Credentials,
    max_connections: int,
    attempts: int,
) -> "S3Client":
    is_loopback = urlsplit(endpoint_url).hostname in ("127.0.0.1", "::1", "localhost")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": style},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=max_connections,
        proxies={} if is_loopback else None,
    )
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
        aws_session_token=credentials.session_token,
        config=config,
    )
    client.meta.events.register("before-call.s3", _refuse_other_regions)
    return client


def _refuse_other_regions(context: dict[str, Any], **_: object) -> None:
    """Stop botocore from repeating a call in the region that the store names.

    Otherwise calls would succeed with a wrong region setting, and only presigned URLs, which botocore signs
    offline, would fail (botocore 1.44, `S3RegionRedirectorv2.redirect_from_error`, checked 2026-11-29).
    """
    context["s3_redirect"] = {**context.get("s3_redirect", {}), "redirected": True}


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Translate botocore's exceptions into AppErrors that contain only the operation and the status."""
    try:
        yield
    except ClientError as error:
        raise refusals.refusal(error, operation) from error
    except ConnectTimeoutError as error:
        raise Timeout("storage_unreachable", operation=operation) from error
    except ReadTimeoutError as error:
        raise Timeout("storage_timeout", operation=operation) from error
    except EndpointUnreachable as error:
        raise UpstreamFailed("storage_unreachable", operation=operation) from error
    except ResponseParserError as error:
        raise UpstreamFailed("storage_not_s3", operation=operation) from error
    except BotoCoreError as error:
        raise UpstreamFailed("storage_failed", operation=operation) from error


def _require_object(answer: "Mapping[str, Any]", operation: str) -> None:
    """Raise if the answer has no ETag. Every object of an S3 server has one, and a web page usually has none."""
    if not answer.get("ETag"):
        raise UpstreamFailed("storage_not_s3", operation=operation)


def _code(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")
