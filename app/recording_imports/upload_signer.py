"""Signs the uploads of imports, as the worker, which has the bucket's key for writing. Also ends expired imports."""

from uuid import UUID

from app.integrations.storage.client import Storage
from app.integrations.storage.presigned_urls import MAX_URL_SECONDS
from app.postgres.database import Database
from app.recording_imports import store


class UploadSigner:
    """Signs and expires uploads. `storage` uses the bucket's key for writing."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def prepare(self, import_id: UUID) -> None:
        """Sign the upload URL of an import that has no URL yet."""
        async with self._database.as_service("prepare_import") as tx:
            wanted = await store.read_wanted_upload(tx, import_id)
        if wanted is None:
            return
        url = self._storage.presign_put(
            wanted.object_key,
            wanted.content_type,
            wanted.size_bytes,
            expires_in_seconds=min(wanted.seconds_left, MAX_URL_SECONDS),
        )
        async with self._database.as_service("prepare_import") as tx:
            await store.store_upload_url(tx, import_id, url)

    async def expire(self) -> int:
        """Erase expired URLs and end imports that were never completed. Return how many imports ended.

        The objects that were uploaded for the ended imports become orphaned objects.
        """
        async with self._database.as_service("expire_imports") as tx:
            return await store.expire(tx)
