"""What is LOST is looked for: for a week its object may still turn up, and then it is verified, by a job.

At first each minute, then ever more seldom: each look is a question to the bucket and a row in the audit log, and what
has been gone for days may wait for hours.
"""

import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.db import Database
from app.errors import AppError
from app.integrations.storage import Storage
from app.recordings import store
from app.recordings.controller import Clock

log = logging.getLogger(__name__)

LOOKED_FOR: Final = timedelta(days=7)
AT_ONCE: Final = 100
"""How many are looked for in one pass: the rest waits for the next."""

FIRST_PAUSE: Final = timedelta(seconds=30)
GROWTH: Final = 0.2
"""The next look comes when it has been lost for that much longer."""


class LostRecordings:
    """One pass after another, as the worker; two at once come to the same."""

    def __init__(self, database: Database, storage: Storage, *, clock: Clock = store.database_time) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock
        self._due: dict[UUID, datetime] = {}
        self._seen: dict[UUID, str] = {}

    def forget(self) -> None:
        """Looks for everything anew, as whoever has just become the leader does."""
        self._due, self._seen = {}, {}

    async def run_once(self) -> int:
        """How many objects have turned up since the last pass. Raises UpstreamFailed, Timeout."""
        async with self._database.as_service("look_for_lost") as tx:
            lost, now = await store.lost(tx, LOOKED_FOR), await self._clock(tx)
        self._due = {one: self._due.get(one, since) for one, since in lost.items()}
        self._seen = {one: etag for one, etag in self._seen.items() if one in lost}
        due = sorted((at, one) for one, at in self._due.items() if at <= now)
        found = 0
        for _, one in due[:AT_ONCE]:
            self._due[one] = now + FIRST_PAUSE + (now - lost[one]) * GROWTH
            found += await self._look_for(one)
        return found

    async def _look_for(self, recording_id: UUID) -> bool:
        """Each object is verified once; what cannot be asked of one is told, and leaves the others alone."""
        try:
            async with self._database.as_service("look_for_lost") as tx:
                key = await store.read_object_key(tx, recording_id)
            stored = await self._storage.head(key)
            if stored is None or self._seen.get(recording_id) == stored.etag:
                return False
            async with self._database.as_service("look_for_lost") as tx:
                await store.defer(tx, "verify_recording", recording_id)
        except AppError as error:
            log.warning("lost, and not looked for: recording=%s %s", recording_id, error.summary)
            return False
        self._seen[recording_id] = stored.etag
        return True
