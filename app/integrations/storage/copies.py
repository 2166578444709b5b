"""Copies objects within the bucket without downloading them.

Callers decide which objects are copied; this module deletes no object. A copy larger than one part is made in parts
of equal size, with one call for each part. R2 allows at most 10,000 parts in an upload. All parts except the last
must have the same size, from 5 MiB to 5 MiB less than 5 GiB. R2 drops an unfinished upload after 7 days
(Cloudflare's "Multipart upload" and "Limits"). R2 accepts `x-amz-copy-source-if-match` on CopyObject. R2 can make a
copy depend on a condition on the target only with a header that is still in beta (Cloudflare's "S3 API
compatibility" and "Extensions"). Resguardo does not use R2's beta header for a condition on the target, so no other
process may write to the target's key during a copy. The Cloudflare pages that this docstring cites were checked
2026-11-21.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from app.errors import AppError, Conflict, UpstreamFailed
from app.integrations.storage import listing, objects, refusals
from app.integrations.storage.caller import S3Caller
from app.integrations.storage.objects import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

COPY_PART_BYTES: Final = 128 * 1024 * 1024
"""The bytes that one call copies, small enough to finish within the call's time limit."""


async def copy_object(
    s3: S3Caller, source: str, target: str, stored: StoredObject, *, part_bytes: int = COPY_PART_BYTES
) -> None:
    """Copy the source object, whose metadata `head` returned, with its content type. After the copy, a `head` of
    the target confirms its size. If the target already exists with the size of the source, the function assumes
    that an earlier call made this copy and that the store's answer was lost. Raises Conflict
    (`storage_object_changed`), and stores nothing, if the source was replaced or deleted. Raises UpstreamFailed
    (`storage_failed`) if the target does not have the size of the source after the copy.
    """
    there = await objects.head(s3, target)
    if there is None or there.size_bytes != stored.size_bytes:
        if stored.size_bytes <= part_bytes:
            await s3.call("copy", partial(_copy, s3.client, s3.bucket, source, target, stored.etag))
        else:
            await _copy_in_parts(s3, source, target, stored, part_bytes)
        there = await objects.head(s3, target)
    if there is None or there.size_bytes != stored.size_bytes:
        raise UpstreamFailed("storage_failed", operation="copy")


async def _copy_in_parts(
    s3: S3Caller, source: str, target: str, stored: StoredObject, part_bytes: int
) -> None:
    begin = partial(
        s3.client.create_multipart_upload,
        Bucket=s3.bucket,
        Key=target,
        ContentType=stored.content_type,
    )
    upload_id = (await s3.call("begin_copy", begin))["UploadId"]
    copy_part = partial(_copy_part, s3.client, s3.bucket, source, target, upload_id)
    try:
        parts = [
            await s3.call("copy_part", partial(copy_part, number, span))
            for number, span in enumerate(_spans(stored.size_bytes, part_bytes), start=1)
        ]
        left = await objects.head(s3, source)
        if left is None or left.etag != stored.etag:
            raise Conflict("storage_object_changed")
        complete = partial(
            s3.client.complete_multipart_upload,
            Bucket=s3.bucket,
            Key=target,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )
        await s3.call("complete_copy", complete)
    except AppError:
        await listing.abort_upload(s3, target, upload_id)
        raise


def _spans(size_bytes: int, part_bytes: int) -> Iterator[str]:
    for start in range(0, size_bytes, part_bytes):
        yield f"bytes={start}-{min(start + part_bytes, size_bytes) - 1}"


def _copy(client: "S3Client", bucket: str, source: str, target: str, etag: str) -> None:
    with _unchanged():
        client.copy_object(
            Bucket=bucket,
            Key=target,
            CopySource={"Bucket": bucket, "Key": source},
            CopySourceIfMatch=f'"{etag}"',
        )


def _copy_part(
    client: "S3Client", bucket: str, source: str, target: str, upload_id: str, number: int, span: str
) -> "CompletedPartTypeDef":
    with _unchanged():
        answer = client.upload_part_copy(
            Bucket=bucket,
            Key=target,
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": source},
            CopySourceRange=span,
        )
    return {"ETag": answer["CopyPartResult"].get("ETag", ""), "PartNumber": number}


@contextmanager
def _unchanged() -> Iterator[None]:
    """Raise Conflict if the store reports that the source object has changed since `head` returned its metadata."""
    try:
        yield
    except ClientError as error:
        if refusals.code_of(error) == "NoSuchKey" or refusals.status_of(error) == 412:
            raise Conflict("storage_object_changed") from error
        raise
