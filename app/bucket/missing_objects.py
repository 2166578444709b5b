"""Finds recordings whose object is missing from the bucket.

If the object of a recording is missing, the worker reports this once and marks the recording as missing. If the
object of a marked recording returns, the worker removes the mark. After the quarantine, the worker destroys the
recording's remaining data and issues a certificate. The worker destroys the data only if all objects of the
recording are missing and no legal hold covers the recording. If the object of a video is missing and the object of
a sound beside it exists, or the other way round, the worker destroys nothing, and a person must decide.

The worker marks and destroys nothing if too many objects are missing at once, or if the bucket's mark names a
different deployment than the database. A bucket with many missing objects or a wrong mark may be the wrong bucket
or may have been emptied, so a person must check it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.alerts.model import AlertKind
from app.alerts.service import Alerts
from app.bucket import store
from app.bucket.object_keys import RECORDING_PREFIXES
from app.bucket.store import MissingObject
from app.deployment import require_own_bucket
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ObjectPage
from app.postgres.database import Database

log = logging.getLogger(__name__)

REASON: Final = "look_for_missing"

FEW_MISSING: Final = 20
MOST_MISSING: Final = 0.1
"""If more recordings are missing than both this number and this share, the bucket is probably the wrong one or was
emptied. The same applies to most of a small practice's recordings.
"""

TOO_MANY_MISSING: Final = "too_many_missing"


def _are_too_many(missing: int, verified: int) -> bool:
    few = missing <= max(FEW_MISSING, MOST_MISSING * verified)
    return not few or (missing > 2 and missing > verified / 2)


@dataclass(frozen=True)
class MissingReport:
    """The counts of one search for missing objects. `refusal` is the reason why the search marked and destroyed
    nothing, or None.
    """

    verified: int
    missing: int
    reported: int
    resolved: int
    refusal: str | None = None


@dataclass(frozen=True)
class _Clocks:
    """The current time according to the database, and according to the bucket. A quarantine has ended only if it
    has ended by the database's time and by the bucket's time.
    """

    database: datetime
    bucket: datetime

    def both_say_before(self, age: timedelta) -> datetime:
        return min(self.database, self.bucket) - age


class MissingObjects:
    """Searches for recordings whose object is missing from the bucket, one pass at a time. If a search is repeated,
    or two searches run at once, the result is the same as that of one search.
    """

    def __init__(
        self, database: Database, storage: Storage, *, deployment: str, quarantine: timedelta
    ) -> None:
        self._database = database
        self._storage = storage
        self._deployment = deployment
        self._quarantine = quarantine
        self._alerts = Alerts(database)

    async def run_once(self) -> MissingReport:
        """Look for the object of every verified recording in the bucket's list of objects. Report missing objects,
        and begin to destroy the recordings whose quarantine has ended.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout.
        """
        await require_own_bucket(self._storage, self._deployment)
        async with self._database.as_service(REASON) as tx:
            now, verified = await store.begin_search_for_missing(tx)
        missing, clocks = await self._compare(now)
        if _are_too_many(len(missing), verified):
            await self._alerts.open(AlertKind.OBJECTS_MISSING_TOO_MANY)
            log.warning(
                "nothing is done about missing objects: %s: %d of %d recordings; is this the right bucket?",
                TOO_MANY_MISSING,
                len(missing),
                verified,
            )
            return MissingReport(verified, len(missing), 0, 0, TOO_MANY_MISSING)
        await self._alerts.close(AlertKind.OBJECTS_MISSING_TOO_MANY)
        gone = [one for one in missing if await self._is_gone(one)]
        reported = [one for one in gone if one.missing_since is None and await self._report(one, clocks)]
        before = clocks.both_say_before(self._quarantine)
        past = [
            one for one in gone if one.video_id is None and one.missing_since and one.missing_since <= before
        ]
        resolved = [one for one in past if await self._resolve(one, before)]
        return MissingReport(verified, len(missing), len(reported), len(resolved))

    async def _compare(self, now: datetime) -> tuple[list[MissingObject], _Clocks]:
        missing: list[MissingObject] = []
        listed_at = now
        for prefix in RECORDING_PREFIXES:
            after = prefix
            async for page in self._storage.list_objects(prefix):
                last = _last_key(page, after) if page.next_token else _first_key_after(prefix)
                async with self._database.as_service(REASON) as tx:
                    missing += await store.find_missing_objects(
                        tx, after, last, [one.key for one in page.objects]
                    )
                after, listed_at = last, page.listed_at
        return missing, _Clocks(now, listed_at)

    async def _is_gone(self, one: MissingObject) -> bool:
        """Look up the object once more under its current key, because the recording may have been verified or moved
        after the bucket was listed. Return False if the recording was destroyed after the bucket was listed.
        """
        async with self._database.as_service(REASON) as tx:
            key = await store.read_object_key(tx, one.id)
        return key is not None and await self._storage.head(key) is None

    async def _report(self, one: MissingObject, clocks: _Clocks) -> bool:
        async with self._database.as_service(REASON) as tx:
            is_new = await store.report_missing(tx, one.id, clocks.bucket)
        if is_new:
            log.warning(
                "the object of a recording is missing: consultation=%s recording=%s",
                one.consultation_id,
                one.id,
            )
        return is_new

    async def _resolve(self, one: MissingObject, missing_before: datetime) -> bool:
        async with self._database.as_service(REASON) as tx:
            is_begun = await store.destroy_missing(tx, one.id, missing_before)
        if is_begun:
            log.warning("missing for too long, to be destroyed: recording=%s", one.id)
        else:
            log.warning("missing for too long, and kept: held, or its sound is there: recording=%s", one.id)
        return is_begun


def _last_key(page: ObjectPage, after: str) -> str:
    return page.objects[-1].key if page.objects else after


def _first_key_after(prefix: str) -> str:
    """Return the smallest object key, in byte order, that sorts after every key under the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
