"""Reads, writes and deletes single objects of the bucket."""

import hashlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import anyio.to_thread
from botocore.exceptions import ClientError

from app.errors import Conflict, NotFound, UpstreamFailed
from app.integrations.storage import refusals
from app.integrations.storage.caller import S3Caller

_CHUNK_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class StoredObject:
    """The metadata of an object. `etag` is the object's ETag without the quotes. If the object was uploaded in
    parts, the ETag is not a digest of its content.
    """

    size_bytes: int
    content_type: str
    etag: str
    last_modified: datetime


async def head(s3: S3Caller, key: str) -> StoredObject | None:
    """Return the metadata of the object, or None if the object does not exist. A HEAD request cannot distinguish a
    missing bucket from a missing object.
    """

    def ask() -> StoredObject | None:
        try:
            answer = s3.client.head_object(Bucket=s3.bucket, Key=key)
        except ClientError as error:
            if refusals.status_of(error) == 404:
                return None
            if refusals.status_of(error) < 500:
                _require_named_refusal(s3, key)
            raise
        _require_object(answer, "head")
        return StoredObject(
            size_bytes=answer["ContentLength"],
            content_type=answer.get("ContentType", ""),
            etag=answer["ETag"].strip('"'),
            last_modified=answer["LastModified"],
        )

    return await s3.call("head", ask)


async def sha256(s3: S3Caller, key: str, stored: StoredObject) -> str:
    """Return the SHA-256, in hex, of the object whose metadata `head` returned. The function reads ranges of 8 MB,
    one at a time.

    Raises Conflict (`storage_object_changed`) if the object was replaced or deleted after `head` returned its
    metadata.
    """
    digest = hashlib.sha256()
    for start in range(0, stored.size_bytes, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, stored.size_bytes - start)
        chunk = await read_range(s3, key, start, length, etag=stored.etag)
        await anyio.to_thread.run_sync(digest.update, chunk)
    return digest.hexdigest()


async def read_range(s3: S3Caller, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
    """Return exactly `length` bytes of the object, at least one, from the offset `start`.

    If an `etag` (from `head`) is given and the object does not have this ETag, the function raises Conflict
    (`storage_object_changed`). If no `etag` is given and the object does not exist, the function raises NotFound
    (`storage_object_missing`). The function raises UpstreamFailed (`storage_failed`) if the object has fewer bytes
    than the requested range.
    """
    if start < 0 or length < 1:
        raise ValueError("no such range")
    span = f"bytes={start}-{start + length - 1}"
    get = partial(s3.client.get_object, Bucket=s3.bucket, Key=key, Range=span)

    def read() -> bytes:
        try:
            answer = get() if etag is None else get(IfMatch=f'"{etag}"')
        except ClientError as error:
            if refusals.status_of(error) == 412 or (
                etag is not None and refusals.code_of(error) == "NoSuchKey"
            ):
                raise Conflict("storage_object_changed") from error
            if refusals.code_of(error) == "NoSuchKey":
                raise NotFound("storage_object_missing") from error
            raise
        with closing(answer["Body"]) as body:
            _require_object(answer, "read_range")
            if answer["ContentLength"] != length:
                raise UpstreamFailed("storage_failed", operation="read_range")
            return body.read()

    return await s3.call("read_range", read)


async def put_new(s3: S3Caller, key: str, body: bytes, content_type: str) -> bool:
    """Store the object and return True, or return False if an object with this key already exists. If boto3
    repeated the request and the existing object has the same body, return True, because an earlier attempt of this
    call stored the object.
    """

    def put() -> tuple[bool, int]:
        try:
            s3.client.put_object(
                Bucket=s3.bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
            )
        except ClientError as error:
            if refusals.status_of(error) == 412:
                return False, error.response["ResponseMetadata"]["RetryAttempts"]
            raise
        return True, 0

    is_new, retries = await s3.call("put_new", put)
    if not is_new and retries > 0:
        return await get_small(s3, key, len(body)) == body
    return is_new


async def put_replacing(s3: S3Caller, key: str, body: bytes, content_type: str) -> None:
    """Store the object. If an object with this key already exists, replace it."""
    put = partial(s3.client.put_object, Bucket=s3.bucket, Key=key, Body=body, ContentType=content_type)
    await s3.call("put_replacing", put)


async def get_small(s3: S3Caller, key: str, limit_bytes: int) -> bytes | None:
    """Return the bytes of the object, or None if it does not exist. Raises UpstreamFailed
    (`storage_object_too_large`) if the object is larger than `limit_bytes`.
    """

    def get() -> bytes | None:
        try:
            answer = s3.client.get_object(Bucket=s3.bucket, Key=key)
        except ClientError as error:
            if refusals.code_of(error) == "NoSuchKey":
                return None
            raise
        with closing(answer["Body"]) as body:
            _require_object(answer, "get_small")
            if answer["ContentLength"] > limit_bytes:
                raise UpstreamFailed("storage_object_too_large", limit_bytes=limit_bytes)
            return body.read()

    return await s3.call("get_small", get)


async def delete(s3: S3Caller, key: str) -> None:
    """Delete the object. If the object does not exist, `delete` succeeds. The success of `delete` does not prove
    that the object is gone; only a `head` after it does.

    If a bucket lock covers the object, R2 refuses to delete it, and the error is `storage_object_locked`
    (`ObjectLockedByBucketPolicy`, Cloudflare, "Error codes", checked 2026-11-29). Other stores answer
    `storage_access_denied`.
    """
    await s3.call("delete", partial(s3.client.delete_object, Bucket=s3.bucket, Key=key))


async def require_unversioned(s3: S3Caller, key: str) -> None:
    """Raise UpstreamFailed (`storage_versioned`) if the bucket keeps old versions, in which a deleted object
    would survive.

    If the server does not support versions, or the credentials may not request the versioning state, the function
    checks only the object at `key`.
    """

    def ask() -> bool:
        try:
            return s3.client.get_bucket_versioning(Bucket=s3.bucket).get("Status") == "Enabled"
        except ClientError:
            pass
        try:
            version = s3.client.head_object(Bucket=s3.bucket, Key=key).get("VersionId", "null")
        except ClientError:
            return False
        return version not in ("", "null")

    if await s3.call("versioning", ask):
        raise UpstreamFailed("storage_versioned")


def _require_named_refusal(s3: S3Caller, key: str) -> None:
    """Repeat a refused HEAD as a GET for one byte, because only the body of a GET contains S3's reason."""
    answer = s3.client.get_object(Bucket=s3.bucket, Key=key, Range="bytes=0-0")
    answer["Body"].close()


def _require_object(answer: Mapping[str, Any], operation: str) -> None:
    """Raise an error if the server's answer to a request for an object has no ETag. An S3 server sends an ETag with
    every object, and a server of web pages usually sends none.
    """
    if not answer.get("ETag"):
        raise UpstreamFailed("storage_not_s3", operation=operation)
