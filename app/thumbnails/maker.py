"""Makes thumbnails in the worker: reads a few percent of the video in ranges, chooses a picture in a child process, and
stores it encrypted. The job is safe to repeat.
"""

import logging
from functools import partial
from typing import Final
from uuid import UUID

from app.errors import AppError, NotFound
from app.integrations.storage.client import Storage
from app.keys.keyring import Keyring
from app.media.thumbnails import make_thumbnail
from app.postgres.database import Database
from app.thumbnails import store
from app.thumbnails.model import thumbnail_field

log = logging.getLogger(__name__)

BASIS: Final = "make_thumbnail"


class ThumbnailMaker:
    """The service that makes a thumbnail for a worker's job."""

    def __init__(self, database: Database, storage: Storage, keyring: Keyring) -> None:
        self._database = database
        self._storage = storage
        self._keyring = keyring

    async def make(self, recording_id: UUID) -> None:
        """Make the thumbnail of a recording, or do nothing if it needs no work. A permanent error sets the thumbnail to
        FAILED. A temporary error is raised, so that the job queue retries the job.

        Raises UpstreamFailed, Timeout, RateLimited, and NotFound (storage_object_missing).
        """
        async with self._database.as_service(BASIS) as tx:
            begun = await store.begin(tx, recording_id)
        if begun is None:
            return
        try:
            key = self._keyring.unwrap(begun.wrapped, begun.root_key_id)
            read = partial(self._storage.read_range, begun.object_key)
            jpeg = await make_thumbnail(read, begun.size_bytes, "mp4", begun.duration_seconds)
        except AppError as error:
            if error.retryable or isinstance(error, NotFound):
                raise
            await self.give_up(recording_id, error.reason)
            return
        ciphertext = None if jpeg is None else key.encrypt(thumbnail_field(recording_id), jpeg)
        async with self._database.as_service(BASIS) as tx:
            await store.finish(tx, recording_id, ciphertext)

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """Set the thumbnail to FAILED after the last attempt of its job."""
        async with self._database.as_service(BASIS) as tx:
            await store.fail(tx, recording_id, reason)
        log.warning("no thumbnail could be made: recording=%s %s", recording_id, reason)
