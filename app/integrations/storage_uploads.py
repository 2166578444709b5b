"""The streaming side of the bucket: an object of unknown size, written part by part, one part in memory.

It stores whole objects or nothing: whatever goes wrong, the upload is aborted.
"""

import logging
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import anyio

from app.errors import AppError, UpstreamFailed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from app.integrations.storage import StoredObject

log = logging.getLogger(__name__)
T = TypeVar("T")

PART_BYTES: Final = 16 * 1024 * 1024
"""R2 wants parts of 5 MiB to 5 GiB, all of one size but the last, and 10,000 at most: 160 GiB in all (Cloudflare's
documentation of multipart uploads, checked 2026-11-21)."""

_ABORT_SECONDS: Final = 10


class _Calling(Protocol):
    _bucket: str
    _client: "S3Client"

    async def _call(self, operation: str, work: Callable[[], T]) -> T: ...
    async def head(self, key: str) -> "StoredObject | None": ...
    async def abort_upload(self, key: str, upload_id: str) -> bool: ...


class Uploading:
    """The part of `Storage` that writes streams; its errors are those of `Storage`."""

    async def put_stream(
        self: _Calling,
        key: str,
        chunks: AsyncIterable[bytes],
        content_type: str,
        *,
        filename: str,
        part_bytes: int = PART_BYTES,
    ) -> int:
        """Stores the chunks, at least one byte, as one object that downloads as `filename`; its size in bytes.

        What `chunks` raises is raised, and nothing is stored. Also raises UpstreamFailed (`storage_failed`) where the
        store holds another size than was sent; after an answer that was lost the object may be there all the same.
        """
        upload_id = await self._call(
            "begin_upload",
            partial(_begin, self._client, self._bucket, key, content_type, filename),
        )
        try:
            parts: list[CompletedPartTypeDef] = []
            size = 0
            async for part in _parts(chunks, part_bytes):
                put = partial(_put, self._client, self._bucket, key, upload_id, len(parts) + 1, part)
                parts.append(await self._call("put_part", put))
                size += len(part)
            await self._call(
                "complete_upload", partial(_complete, self._client, self._bucket, key, upload_id, parts)
            )
        except BaseException:
            await _abort(self, key, upload_id)
            raise
        stored = await self.head(key)
        if stored is None or stored.size_bytes != size:
            raise UpstreamFailed("storage_failed", operation="put_stream")
        return size


async def _abort(storage: _Calling, key: str, upload_id: str) -> None:
    """On the way out of a failure, or of a shutdown; what it leaves behind, the sweep of the bucket ends."""
    with anyio.move_on_after(_ABORT_SECONDS, shield=True):
        try:
            await storage.abort_upload(key, upload_id)
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
