"""Finds recordings whose object is missing from the bucket.

A missing object is reported once and marked, and the mark is removed if the object returns. After the quarantine,
if nothing of the recording is left and nothing holds it, its remaining data is destroyed with a certificate. If a
video is missing and one of its sounds exists, or the other way round, a person must decide.

Nothing is marked or destroyed if too many objects are missing at once, or if the bucket has another mark than the
database. The bucket is then the wrong one or was emptied, and a person must check it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from app.deployment import require_own_bucket
from app.errors import NotFound
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ObjectPage
from app.postgres.database import Database
from app.postgres.queries import Queries
from app.recordings import store
from app.recordings.keys import PREFIXES

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("missing.sql"))

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
    """The counts of one pass. `refusal` is the reason why nothing was marked or destroyed."""

    verified: int
    missing: int
    reported: int
    resolved: int
    refusal: str | None = None


@dataclass(frozen=True)
class _Missing:
    id: UUID
    video_id: UUID | None
    consultation_id: UUID
    missing_since: datetime | None


@dataclass(frozen=True)
class _Clocks:
    """The times of the database and the bucket. An age counts only if both agree."""

    database: datetime
    bucket: datetime

    def both_say_before(self, age: timedelta) -> datetime:
        return min(self.database, self.bucket) - age


class MissingObjects:
    """Runs one pass at a time. Concurrent passes, and passes that died and run again, give the same result."""

    def __init__(
        self, database: Database, storage: Storage, *, deployment: str, quarantine: timedelta
    ) -> None:
        self._database = database
        self._storage = storage
        self._deployment = deployment
        self._quarantine = quarantine

    async def run_once(self) -> MissingReport:
        """Compare every verified recording with the bucket's list, report missing objects, and resolve those past
        their quarantine.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout.
        """
        await require_own_bucket(self._storage, self._deployment)
        async with self._database.as_service(REASON) as tx:
            begun = await tx.one(_sql["begin"])
        assert begun is not None  # noqa: S101 - a select without a from has one row
        missing, clocks = await self._compare(begun["at"])
        if _are_too_many(len(missing), begun["verified"]):
            log.error(
                "nothing is done about missing objects: %s: %d of %d recordings; is this the right bucket?",
                TOO_MANY_MISSING,
                len(missing),
                begun["verified"],
            )
            return MissingReport(begun["verified"], len(missing), 0, 0, TOO_MANY_MISSING)
        gone = [one for one in missing if await self._is_gone(one)]
        reported = [one for one in gone if one.missing_since is None and await self._report(one, clocks)]
        before = clocks.both_say_before(self._quarantine)
        past = [
            one for one in gone if one.video_id is None and one.missing_since and one.missing_since <= before
        ]
        resolved = [one for one in past if await self._resolve(one, before)]
        return MissingReport(begun["verified"], len(missing), len(reported), len(resolved))

    async def _compare(self, now: datetime) -> tuple[list[_Missing], _Clocks]:
        missing, listed_at = [], now
        for prefix in PREFIXES:
            after = prefix
            async for page in self._storage.list_objects(prefix):
                last = _last(page, after) if page.next_token else _behind(prefix)
                missing += await self._missing(after, last, page)
                after, listed_at = last, page.listed_at
        return missing, _Clocks(now, listed_at)

    async def _missing(self, after: str, last: str, page: ObjectPage) -> list[_Missing]:
        present = [one.key for one in page.objects]
        async with self._database.as_service(REASON) as tx:
            rows = await tx.all(
                _sql["missing_objects"], {"after_key": after, "last_key": last, "present": present}
            )
        return [_Missing(**row) for row in rows]

    async def _is_gone(self, one: _Missing) -> bool:
        """Check the object once more under its present key, because it may have been verified or moved since the
        list was read.
        """
        try:
            async with self._database.as_service(REASON) as tx:
                key = await store.read_object_key(tx, one.id)
        except NotFound:
            return False  # it was destroyed meanwhile
        return await self._storage.head(key) is None

    async def _report(self, one: _Missing, clocks: _Clocks) -> bool:
        async with self._database.as_service(REASON) as tx:
            is_new = await tx.value(_sql["report_missing"], {"id": one.id, "seen_at": clocks.bucket})
        if is_new:
            log.error(
                "the object of a recording is missing: consultation=%s recording=%s",
                one.consultation_id,
                one.id,
            )
        return bool(is_new)

    async def _resolve(self, one: _Missing, missing_before: datetime) -> bool:
        async with self._database.as_service(REASON) as tx:
            wanted = {"id": one.id, "missing_before": missing_before}
            is_begun = bool(await tx.value(_sql["destroy_missing"], wanted))
        if is_begun:
            log.warning("missing for too long, to be destroyed: recording=%s", one.id)
        else:
            log.warning("missing for too long, and kept: held, or its sound is there: recording=%s", one.id)
        return is_begun


def _last(page: ObjectPage, after: str) -> str:
    return page.objects[-1].key if page.objects else after


def _behind(prefix: str) -> str:
    """Return the first key after all keys under the prefix, in byte order."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
