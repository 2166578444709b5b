"""The client of an S3 bucket. The client's methods call the functions of the storage package's other modules, which
send the requests.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from app.errors import Conflict, UpstreamFailed
from app.integrations.storage import copies, listing, objects, presigned_urls, uploads
from app.integrations.storage.caller import Credentials, S3Caller
from app.integrations.storage.copies import COPY_PART_BYTES
from app.integrations.storage.listing import PAGE_SIZE, ObjectPage, UploadPage
from app.integrations.storage.objects import StoredObject
from app.integrations.storage.presigned_urls import Disposition
from app.integrations.storage.uploads import PART_BYTES

MARK_KEY: Final = "deployment"
"""The key of the object that names the deployment to which the bucket belongs."""

_MARK_BYTES: Final = 200


class Storage:
    """The client of one bucket, with one pair of credentials. Each method calls the function that its docstring
    names. All methods that send a request raise the errors of `S3Caller.call`.
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
        attempts: int = 3,
        force_path_style: bool = True,
    ) -> None:
        self._s3 = S3Caller(
            endpoint_url=endpoint_url,
            bucket=bucket,
            credentials=credentials,
            region=region,
            call_timeout_seconds=call_timeout_seconds,
            max_connections=max_connections,
            attempts=attempts,
            force_path_style=force_path_style,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._s3.close()

    def presign_get(
        self,
        key: str,
        *,
        expires_in_seconds: int,
        filename: str,
        content_type: str | None = None,
        disposition: Disposition = "attachment",
    ) -> str:
        """See `presigned_urls.presign_get`."""
        return presigned_urls.presign_get(
            self._s3,
            key,
            expires_in_seconds=expires_in_seconds,
            filename=filename,
            content_type=content_type,
            disposition=disposition,
        )

    def presign_put(self, key: str, content_type: str, size_bytes: int, *, expires_in_seconds: int) -> str:
        """See `presigned_urls.presign_put`."""
        return presigned_urls.presign_put(
            self._s3, key, content_type, size_bytes, expires_in_seconds=expires_in_seconds
        )

    async def head(self, key: str) -> StoredObject | None:
        """Return the metadata of the object, or None if the object does not exist. See `objects.head`."""
        return await objects.head(self._s3, key)

    async def sha256(self, key: str, stored: StoredObject) -> str:
        """Return the SHA-256, in hex, of the object whose metadata `head` returned. See `objects.sha256`."""
        return await objects.sha256(self._s3, key, stored)

    async def read_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        """Return exactly `length` bytes of the object from `start`. See `objects.read_range`."""
        return await objects.read_range(self._s3, key, start, length, etag=etag)

    async def get_small(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the bytes of the object, or None if it does not exist. See `objects.get_small`."""
        return await objects.get_small(self._s3, key, limit_bytes)

    async def put_new(self, key: str, body: bytes, content_type: str) -> bool:
        """Store the object, unless an object with this key already exists. See `objects.put_new`."""
        return await objects.put_new(self._s3, key, body, content_type)

    async def put_replacing(self, key: str, body: bytes, content_type: str) -> None:
        """Store the object, and replace an existing object with this key. See `objects.put_replacing`."""
        await objects.put_replacing(self._s3, key, body, content_type)

    async def put_stream(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        content_type: str,
        *,
        filename: str,
        part_bytes: int = PART_BYTES,
    ) -> int:
        """Store the chunks as one object, and return its size in bytes. See `uploads.put_stream`."""
        return await uploads.put_stream(
            self._s3, key, chunks, content_type, filename=filename, part_bytes=part_bytes
        )

    async def copy(
        self, source: str, target: str, stored: StoredObject, *, part_bytes: int = COPY_PART_BYTES
    ) -> None:
        """Copy the source object, whose metadata `head` returned, to the target key. See `copies.copy_object`."""
        await copies.copy_object(self._s3, source, target, stored, part_bytes=part_bytes)

    async def delete(self, key: str) -> None:
        """Delete the object. See `objects.delete`."""
        await objects.delete(self._s3, key)

    def list_objects(self, prefix: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[ObjectPage]:
        """Yield the objects under the prefix, one page at a time. See `listing.list_objects`."""
        return listing.list_objects(self._s3, prefix, page_size=page_size)

    def list_uploads(self, prefix: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[UploadPage]:
        """Yield the unfinished uploads under the prefix, one page at a time. See `listing.list_uploads`."""
        return listing.list_uploads(self._s3, prefix, page_size=page_size)

    async def abort_upload(self, key: str, upload_id: str) -> bool:
        """Abort an unfinished upload. Return False if the multipart upload had already ended. See
        `listing.abort_upload`.
        """
        return await listing.abort_upload(self._s3, key, upload_id)

    async def require_unversioned(self, key: str) -> None:
        """Raise UpstreamFailed (`storage_versioned`) if the bucket keeps old versions. See
        `objects.require_unversioned`.
        """
        await objects.require_unversioned(self._s3, key)

    async def claim(self, mark: str) -> None:
        """Store an object in the bucket that names this deployment as the owner of the bucket. Raises Conflict
        (`storage_of_another_deployment`) if the bucket already has such an object that names a different
        deployment.

        Raises UpstreamFailed (`storage_overwrites`) if the store ignores conditional writes, on which Resguardo
        relies to overwrite nothing.
        """
        is_new = await self.put_new(MARK_KEY, mark.encode(), "text/plain")
        if not is_new and await self.read_mark() != mark:
            raise Conflict("storage_of_another_deployment")
        if is_new and await self.put_new(MARK_KEY, mark.encode(), "text/plain"):
            raise UpstreamFailed("storage_overwrites")

    async def read_mark(self) -> str | None:
        """Return the id of the deployment to which the bucket belongs, read from an object in the bucket, or None
        if there is no such object.
        """
        mark = await self.get_small(MARK_KEY, _MARK_BYTES)
        return None if mark is None else mark.decode(errors="replace")

    async def reachable(self) -> None:
        """Check that the S3 endpoint answers, that the bucket exists, and that the credentials may read the bucket.
        If one of these checks fails, raise an error. To check the bucket, the method sends a GET, because a
        server's answer to a HEAD does not contain the cause of an error. If the credentials are for another bucket,
        the store may not say that this bucket is missing. If the store hides a missing bucket, the error is
        `storage_access_denied`. Write-only credentials always cause the error `storage_access_denied`.
        """
        await self.read_mark()
