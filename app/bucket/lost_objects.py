"""Looks for the object of a LOST recording in the bucket for a week. If the object of a LOST recording appears, a
job verifies the recording. The longer a recording has been LOST, the less often it is checked, because each check
costs a request to the bucket and an audit row.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.bucket import store
from app.errors import AppError
from app.integrations.storage.client import Storage
from app.jobs.queue import defer_job
from app.postgres.clock import database_time
from app.postgres.database import Database, Transaction

log = logging.getLogger(__name__)

REASON: Final = "look_for_lost"
SEARCH_PERIOD: Final = timedelta(days=7)
AT_ONCE: Final = 100
"""The maximum number of checks in one pass. The rest waits for the next pass."""

FIRST_PAUSE: Final = timedelta(seconds=30)
GROWTH: Final = 0.2
"""The next check comes after this fraction of the time since the recording was lost."""

Clock = Callable[[Transaction], Awaitable[datetime]]


class LostObjects:
    """Searches the bucket for the objects of LOST recordings, one pass at a time. If several passes run
    concurrently, the result is the same as that of one pass.
    """

    def __init__(self, database: Database, storage: Storage, *, clock: Clock = database_time) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock
        self._due: dict[UUID, datetime] = {}
        self._seen: dict[UUID, str] = {}

    def forget(self) -> None:
        """Forget earlier checks. A worker that becomes the leader therefore checks every LOST recording at once."""
        self._due, self._seen = {}, {}

    async def run_once(self) -> int:
        """Look up the objects of LOST recordings in the bucket, and return how many have appeared since the last
        pass. Raises UpstreamFailed, Timeout.
        """
        async with self._database.as_service(REASON) as tx:
            lost, now = await store.list_lost_recordings(tx, SEARCH_PERIOD), await self._clock(tx)
        self._due = {one: self._due.get(one, since) for one, since in lost.items()}
        self._seen = {one: etag for one, etag in self._seen.items() if one in lost}
        due = sorted((at, one) for one, at in self._due.items() if at <= now)
        found = 0
        for _, one in due[:AT_ONCE]:
            self._due[one] = now + FIRST_PAUSE + (now - lost[one]) * GROWTH
            found += await self._look_for(one)
        return found

    async def _look_for(self, recording_id: UUID) -> bool:
        """Check one LOST recording, and queue the job that verifies it if its object has appeared. A failure is
        logged, and the other LOST recordings are still checked.
        """
        try:
            async with self._database.as_service(REASON) as tx:
                key = await store.read_object_key(tx, recording_id)
            stored = None if key is None else await self._storage.head(key)
            if stored is None or self._seen.get(recording_id) == stored.etag:
                return False
            async with self._database.as_service(REASON) as tx:
                await defer_job(tx, "verify_recording", recording_id)
        except AppError as error:
            log.warning("lost, and not checked for: recording=%s %s", recording_id, error.summary)
            return False
        self._seen[recording_id] = stored.etag
        return True
