"""Makes clips in the worker: reads the recording in ranges, encodes the clip in a child process, and stores it in the
folder of the recording.

The worker is killed at any moment: the job then begins anew with a higher number of the attempt, and deletes what the
attempt before may have stored. An attempt that another one has overtaken, or whose recording is being deleted, stores
nothing, or deletes what it has stored.
"""

import hashlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Final
from uuid import UUID

from app.clips import store
from app.clips.store import BegunClip
from app.errors import AppError, Conflict, NotFound
from app.integrations.storage.client import Storage
from app.media.clips import CONTENT_TYPE, ClipCut, cut_clip
from app.postgres.database import Database

log = logging.getLogger(__name__)

REASON: Final = "make_clip"

REPORT_PERCENT: Final = 5
"""Progress is stored in steps of this size, because each step notifies the subscriptions."""


class ClipCutter:
    """The service that makes a clip for a worker's job. The job is safe to repeat."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def make(self, clip_id: UUID) -> None:
        """Make the clip, or do nothing if it needs no work. A permanent error sets the clip to FAILED with a reason
        that the doctor sees. A temporary error is raised, so that the job queue retries the job.

        Raises UpstreamFailed, Timeout, RateLimited, and NotFound (storage_object_missing).
        """
        async with self._database.as_service(REASON) as tx:
            begun = await store.begin(tx, clip_id)
        if begun is None:
            return
        if begun.earlier_key is not None:
            await self._storage.delete(begun.earlier_key)
        try:
            await self._make(clip_id, begun)
        except AppError as error:
            if error.retryable or isinstance(error, NotFound) or error.reason == "concurrent_change":
                raise
            await self._fail(clip_id, begun.run, error.reason)

    async def give_up(self, clip_id: UUID, reason: str) -> None:
        """Set the clip to FAILED after the last attempt of its job, with a reason that the doctor sees."""
        await self._fail(clip_id, None, reason)

    async def _make(self, clip_id: UUID, begun: BegunClip) -> None:
        read = partial(self._storage.read_range, begun.object_key)
        async with cut_clip(read, begun.size_bytes, "mp4", begun.start_ms, begun.end_ms) as clip:
            if not await self._encode(clip_id, begun.run, clip):
                return
            found = clip.found
            if found is None or found.last_ms < begun.end_ms - begun.start_ms:
                raise Conflict("clip_past_end")
            await self._store(clip_id, begun.run, clip)

    async def _encode(self, clip_id: UUID, run: int, clip: ClipCut) -> bool:
        """Encode the clip, and store the progress. Return False if the attempt must end."""
        reported = 0
        async for percent in clip.progress():
            if percent < reported + REPORT_PERCENT:
                continue
            reported = percent
            async with self._database.as_service(REASON) as tx:
                if not await store.report(tx, clip_id, run, percent):
                    return False
        return True

    async def _store(self, clip_id: UUID, run: int, clip: ClipCut) -> None:
        async with self._database.as_service(REASON) as tx:
            key = await store.begin_storing(tx, clip_id, run)
        if key is None:
            return
        digest = hashlib.sha256()

        async def content() -> AsyncIterator[bytes]:
            async for part in clip.content():
                digest.update(part)
                yield part

        size = await self._storage.put_stream(key, content(), CONTENT_TYPE, filename=f"{clip_id}.webm")
        async with self._database.as_service(REASON) as tx:
            is_kept = await store.finish(tx, clip_id, run, key, digest.hexdigest(), size)
        if not is_kept:
            await self._storage.delete(key)

    async def _fail(self, clip_id: UUID, run: int | None, reason: str) -> None:
        async with self._database.as_service(REASON) as tx:
            await store.fail(tx, clip_id, run, reason)
        log.warning("no clip could be made: clip=%s %s", clip_id, reason)
