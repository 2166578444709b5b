"""Writes an object of unknown size in parts, with one part in memory.

An upload stores the whole object or nothing: after any error, this module aborts the upload.
"""

import logging
from collections.abc import AsyncIterable
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from app.errors import AppError, UpstreamFailed
from app.integrations.storage import listing, objects
from app.integrations.storage.caller import S3Caller

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = logging.getLogger(__name__)

PART_BYTES: Final = 16 * 1024 * 1024
"""R2 requires parts of 5 MiB to 5 GiB, of equal size except the last, and at most 10,000 parts, so an object has at
most 160 GiB (Cloudflare's documentation of multipart uploads, checked 2026-11-21).
"""

_ABORT_SECONDS: Final = 10


async def put_stream(
    s3: S3Caller,
    key: str,
    chunks: AsyncIterable[bytes],
    content_type: str,
    *,
    filename: str,
    part_bytes: int = PART_BYTES,
) -> int:
    """Store the chunks (at least one byte in total) as one object, which browsers download as `filename`. Return
    the object's size in bytes. If `chunks` raises an exception, the function stores nothing and raises the
    exception unchanged. Raises UpstreamFailed (`storage_failed`) if the stored object does not have the size that
    was sent. If the store's answer to the last request is lost, the object may exist although the function raised
    an error.
    """
    upload_id = await s3.call(
        "begin_upload",
        partial(_begin, s3.client, s3.bucket, key, content_type, filename),
    )
    try:
        parts: list[CompletedPartTypeDef] = []
        size = 0
        async for part in _parts(chunks, part_bytes):
            put = partial(_put, s3.client, s3.bucket, key, upload_id, len(parts) + 1, part)
            parts.append(await s3.call("put_part", put))
            size += len(part)
        await s3.call("complete_upload", partial(_complete, s3.client, s3.bucket, key, upload_id, parts))
    except BaseException:
        await _abort(s3, key, upload_id)
        raise
    stored = await objects.head(s3, key)
    if stored is None or stored.size_bytes != size:
        raise UpstreamFailed("storage_failed", operation="put_stream")
    return size


async def _abort(s3: S3Caller, key: str, upload_id: str) -> None:
    """Abort the upload after an error or at shutdown. If the store does not abort the upload, the worker's periodic
    sweep of the bucket aborts it later.
    """
    with anyio.move_on_after(_ABORT_SECONDS, shield=True):
        try:
            await listing.abort_upload(s3, key, upload_id)
        except AppError as error:
            log.warning("upload not aborted: %s", error.summary)


async def _parts(chunks: AsyncIterable[bytes], part_bytes: int) -> AsyncIterable[bytes]:
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= part_bytes:
            yield bytes(held[:part_bytes])
            del held[:part_bytes]
    if held:
        yield bytes(held)


def _begin(client: "S3Client", bucket: str, key: str, content_type: str, filename: str) -> str:
    answer = client.create_multipart_upload(
        Bucket=bucket,
        Key=key,
        ContentType=content_type,
        ContentDisposition=f'attachment; filename="{filename}"',
    )
    return answer["UploadId"]


def _put(
    client: "S3Client", bucket: str, key: str, upload_id: str, number: int, part: bytes
) -> "CompletedPartTypeDef":
    answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=part)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def _complete(
    client: "S3Client", bucket: str, key: str, upload_id: str, parts: "list[CompletedPartTypeDef]"
) -> None:
    client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )
