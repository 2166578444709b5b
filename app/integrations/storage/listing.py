"""Lists objects and unfinished uploads, and aborts unfinished uploads. Each page of a listing contains the time, by
the store's clock, at which the store listed the page.

Cloudflare R2 lists with strong consistency, and supports ListObjectsV2's continuation token and
ListMultipartUploads' two markers. R2 does not support `If-Match` on DeleteObject. Source: Cloudflare's
documentation (S3 API compatibility, consistency model), checked 2026-11-21.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from app.errors import UpstreamFailed
from app.integrations.storage import refusals
from app.integrations.storage.caller import S3Caller

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListMultipartUploadsOutputTypeDef, ResponseMetadataTypeDef

PAGE_SIZE: Final = 1000
"""The largest page that S3 returns."""


@dataclass(frozen=True)
class ListedObject:
    """An object in a listing of the bucket. `etag` has no quotes."""

    key: str
    size_bytes: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True)
class ObjectPage:
    """A page of objects in the order of their keys, and the time at which the store listed them."""

    objects: tuple[ListedObject, ...]
    listed_at: datetime
    next_token: str | None


@dataclass(frozen=True)
class ListedUpload:
    """A multipart upload that was started and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated_at: datetime


@dataclass(frozen=True)
class UploadPage:
    """A page of unfinished uploads, and the time at which the store listed them."""

    uploads: tuple[ListedUpload, ...]
    listed_at: datetime
    next_markers: tuple[str, str] | None


async def list_objects(s3: S3Caller, prefix: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[ObjectPage]:
    """Yield the objects under the prefix, one page at a time and at least one page."""
    token: str | None = None
    while True:
        page = await s3.call(
            "list_objects", partial(_objects, s3.client, s3.bucket, prefix, page_size, token)
        )
        yield page
        token = page.next_token
        if token is None:
            return


async def list_uploads(s3: S3Caller, prefix: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[UploadPage]:
    """Yield the unfinished uploads under the prefix, one page at a time and at least one page."""
    markers: tuple[str, str] | None = None
    while True:
        page = await s3.call(
            "list_uploads", partial(_uploads, s3.client, s3.bucket, prefix, page_size, markers)
        )
        yield page
        markers = page.next_markers
        if markers is None:
            return


async def abort_upload(s3: S3Caller, key: str, upload_id: str) -> bool:
    """Abort an unfinished multipart upload, so that the store deletes the parts. Return False if the multipart
    upload had already ended.

    If two callers abort one upload at once, Swift 2.38 tells one of them that a part is missing (`NoSuchKey`; tried
    2026-11-21).
    """

    def abort() -> bool:
        try:
            s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if refusals.code_of(error) in ("NoSuchUpload", "NoSuchKey"):
                return False
            raise
        return True

    return await s3.call("abort_upload", abort)


def _objects(client: "S3Client", bucket: str, prefix: str, page_size: int, token: str | None) -> ObjectPage:
    ask = partial(client.list_objects_v2, Bucket=bucket, Prefix=prefix, MaxKeys=page_size)
    answer = ask() if token is None else ask(ContinuationToken=token)
    if "IsTruncated" not in answer:  # botocore reads a web page as an empty answer
        raise UpstreamFailed("storage_not_s3", operation="list_objects")
    next_token = answer.get("NextContinuationToken") if answer["IsTruncated"] else None
    if answer["IsTruncated"] and next_token in (None, token):
        raise UpstreamFailed("storage_failed", operation="list_objects")
    return ObjectPage(
        objects=tuple(
            ListedObject(one["Key"], one["Size"], one["ETag"].strip('"'), one["LastModified"])
            for one in answer.get("Contents", ())
        ),
        listed_at=_time_of(answer["ResponseMetadata"], "list_objects"),
        next_token=next_token,
    )


def _uploads(
    client: "S3Client", bucket: str, prefix: str, page_size: int, markers: tuple[str, str] | None
) -> UploadPage:
    ask = partial(client.list_multipart_uploads, Bucket=bucket, Prefix=prefix, MaxUploads=page_size)
    answer = ask() if markers is None else ask(KeyMarker=markers[0], UploadIdMarker=markers[1])
    if "IsTruncated" not in answer:
        raise UpstreamFailed("storage_not_s3", operation="list_uploads")
    uploads = tuple(
        ListedUpload(one["Key"], one["UploadId"], one["Initiated"]) for one in answer.get("Uploads", ())
    )
    return UploadPage(
        uploads, _time_of(answer["ResponseMetadata"], "list_uploads"), _next_markers(answer, uploads)
    )


def _next_markers(
    answer: "ListMultipartUploadsOutputTypeDef", uploads: tuple[ListedUpload, ...]
) -> tuple[str, str] | None:
    """Return the two markers with which a listing of uploads continues after the last upload of this page. If a
    page of a listing has only one upload, Swift 2.38 leaves the markers of the next page empty (tried 2026-11-21).
    """
    if not answer["IsTruncated"] or not uploads:
        return None
    last = uploads[-1]
    return answer.get("NextKeyMarker") or last.key, answer.get("NextUploadIdMarker") or last.upload_id


def _time_of(metadata: "ResponseMetadataTypeDef", operation: str) -> datetime:
    """Return when the store answered, by the store's clock: the `Date` header of RFC 9110, with a resolution of one
    second.
    """
    headers: Mapping[str, str] = metadata["HTTPHeaders"]
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError) as error:
        raise UpstreamFailed("storage_failed", operation=operation) from error
