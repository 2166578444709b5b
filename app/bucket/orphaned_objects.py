"""Sweeps the bucket: deletes orphaned objects and aborts unfinished uploads.

An object under `r/` or `keep/` is orphaned if the database does not know its key (`private.unknown_object_keys`).
The sweep reports an orphaned object, and deletes the object only after a quarantine. The sweep neither lists nor
deletes objects outside `r/` and `keep/`. If the key of an object under `r/` or `keep/` contains no consultation id
and no recording id, the sweep only reports the object. A person must decide whether to delete the object.

The quarantine is long, because a database that was restored from a backup lacks the recordings that were made after
the backup. After a restore of the database, the objects of recordings that are newer than the backup look orphaned,
although they must stay. The sweep deletes nothing if too many objects are orphaned, because the database may have
been restored. The sweep also deletes nothing if the bucket's mark names a different deployment than the database,
because the bucket or the database may be the wrong one. If an orphaned object is in the folder of a DELETED
recording, the sweep deletes it without a quarantine, because a destroyed recording must not come back. An object of
a destroyed recording can appear if LiveKit uploads a file late, after Resguardo considered the egress dead.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final, LiteralString, TypeVar
from uuid import UUID

from app.alerts.model import AlertKind
from app.alerts.service import Alerts
from app.bucket import store
from app.bucket.object_keys import RECORDING_PREFIXES, RecordingKey, parse_recording_key
from app.deployment import require_own_bucket
from app.errors import UpstreamFailed
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ListedObject, ListedUpload
from app.integrations.storage.refusals import DELETE_REFUSALS
from app.postgres.database import Database

log = logging.getLogger(__name__)

REASON: Final = "sweep_bucket"

UPLOAD_QUARANTINE: Final = timedelta(days=7)
"""R2 drops unfinished uploads after 7 days by itself (Cloudflare's documentation, checked 2026-11-21)."""

FEW_ORPHANS: Final = 20
MOST_ORPHANS: Final = 0.1
"""If more objects are orphaned than both this number and this share, the database is probably the wrong one or was
restored.
"""

TOO_MANY_ORPHANS: Final = "too_many_orphans"
AT_ONCE: Final = 1000
"""The maximum number of reports and of deletions in one pass. The rest waits for the next pass."""

_Page = TypeVar("_Page")


@dataclass(frozen=True)
class SweepReport:
    """The counts of one sweep of the bucket. `orphans_waiting` counts all orphaned objects that stay: objects in
    quarantine, locked objects, and objects whose key contains no recording id. `uploads_waiting` counts all
    unfinished uploads that stay, including those of recordings in progress. `refusal` is the reason why the sweep
    deleted nothing, or None.
    """

    objects_seen: int
    orphans_waiting: int
    orphans_swept: int
    uploads_waiting: int
    uploads_aborted: int
    refusal: str | None = None


@dataclass(frozen=True)
class _Orphan:
    """An orphaned object. `seen_at` is the earlier of the object store's time and the database's time, so that the
    quarantine of an object is over only if it is over by both clocks. `is_destroyed` means that the video whose id
    is in the object's key is DELETED.
    """

    stored: ListedObject
    key: RecordingKey
    seen_at: datetime
    is_destroyed: bool

    def is_past(self, quarantine: timedelta, last_modified: datetime) -> bool:
        return self.is_destroyed or self.seen_at - last_modified >= quarantine


@dataclass
class _Found:
    seen: int = 0
    orphans: int = 0
    past_quarantine: list[_Orphan] = field(default_factory=list)

    @property
    def are_too_many(self) -> bool:
        return self.orphans > max(FEW_ORPHANS, MOST_ORPHANS * self.seen)


class _Outcome(Enum):
    SWEPT = auto()
    GONE = auto()
    WAITS = auto()


class OrphanedObjects:
    """Sweeps the bucket, one pass at a time. If a sweep is repeated, or two sweeps run at once, the result is the
    same as that of one sweep. The sweep never uses this machine's clock. Before the sweep deletes an object, it
    commits the audit row of the deletion.
    """

    def __init__(self, database: Database, storage: Storage, *, quarantine: timedelta) -> None:
        self._database = database
        self._storage = storage
        self._quarantine = quarantine
        self._alerts = Alerts(database)
        self._reported: set[str] = set()
        self._undeletable: set[str] = set()

    async def run_once(self) -> SweepReport:
        """Report orphaned objects and unfinished uploads. Delete the objects and abort the uploads whose quarantine
        has ended.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout. If a sweep fails,
        the next sweep does the remaining work.
        """
        async with self._database.as_service(REASON) as tx:
            now, deployment = await store.begin_sweep(tx)
        await require_own_bucket(self._storage, deployment)
        found = await self._find_orphans(now)
        refusal = TOO_MANY_ORPHANS if found.are_too_many else None
        if refusal is None:
            await self._alerts.close(AlertKind.OBJECTS_ORPHANED_TOO_MANY)
        else:
            await self._alerts.open(AlertKind.OBJECTS_ORPHANED_TOO_MANY)
            log.warning(
                "nothing is swept: %s: %d of %d objects; is this the right database, or a restored one?",
                refusal,
                found.orphans,
                found.seen,
            )
        orphans = Counter[_Outcome]()
        for orphan in () if refusal else found.past_quarantine:
            orphans[await self._sweep(orphan)] += 1
        uploads = await self._sweep_uploads(now, may_abort=refusal is None)
        return SweepReport(
            objects_seen=found.seen,
            orphans_waiting=found.orphans - orphans[_Outcome.SWEPT] - orphans[_Outcome.GONE],
            orphans_swept=orphans[_Outcome.SWEPT],
            uploads_waiting=uploads[_Outcome.WAITS],
            uploads_aborted=uploads[_Outcome.SWEPT],
            refusal=refusal,
        )

    async def _find_orphans(self, now: datetime) -> _Found:
        """List the objects under `r/` and `keep/`, and report each orphaned object."""
        found, reports_left = _Found(), AT_ONCE
        async for page in _under_each_prefix(self._storage.list_objects):
            found.seen += len(page.objects)
            async with self._database.as_service(REASON) as tx:
                unknown = await store.find_unknown_object_keys(tx, [one.key for one in page.objects])
                orphans = [one for one in page.objects if one.key in unknown]
                destroyed = await store.find_deleted_videos(tx, _video_ids(one.key for one in orphans))
            found.orphans += len(orphans)
            reports_left -= await self._report(
                [one.key for one in orphans], "no_recording_has_it", reports_left
            )
            seen_at = min(now, page.listed_at)
            for one in orphans:
                key = parse_recording_key(one.key)
                if key is None or one.key in self._undeletable or len(found.past_quarantine) >= AT_ONCE:
                    continue
                orphan = _Orphan(one, key, seen_at, key.video_id in destroyed)
                if orphan.is_past(self._quarantine, one.last_modified):
                    found.past_quarantine.append(orphan)
        return found

    async def _report(self, keys: Iterable[str], reason: LiteralString, limit: int) -> int:
        """Report keys that this process has not reported yet, at most `limit` of them. The log and the audit log
        get only the ids in the keys. Return the number of keys that were reported.
        """
        new = [key for key in keys if key not in self._reported][:limit]
        if not new:
            return 0
        async with self._database.as_service(REASON) as tx:
            await store.report_orphans(tx, _video_ids(new), reason)
        for key in map(parse_recording_key, new):
            if key is None:
                log.warning("orphan in the bucket: %s: its key is not ours, so a person must decide", reason)
            else:
                log.warning(
                    "orphan in the bucket: %s: consultation=%s recording=%s",
                    reason,
                    key.consultation_id,
                    key.video_id,
                )
        self._reported.update(new)
        return len(new)

    async def _sweep(self, orphan: _Orphan) -> _Outcome:
        """Delete an orphaned object if it is unchanged, its quarantine has ended, and the database still does not
        know its key.
        """
        key = orphan.stored.key
        stored = await self._storage.head(key)
        if stored is None:
            return _Outcome.GONE
        is_past = orphan.is_past(self._quarantine, stored.last_modified)
        if stored.etag != orphan.stored.etag or not is_past:
            return _Outcome.WAITS
        reason: LiteralString = "recording_deleted" if orphan.is_destroyed else "past_quarantine"
        async with self._database.as_service(REASON) as tx:
            if not await store.record_sweep(tx, key, orphan.key.video_id, reason):
                return _Outcome.WAITS
        return await self._delete(orphan)

    async def _delete(self, orphan: _Orphan) -> _Outcome:
        """Delete an orphaned object, and check that it is gone. If the object store refuses the deletion, for
        example because of a lock, this process does not try to delete the object again.
        """
        try:
            await self._storage.delete(orphan.stored.key)
        except UpstreamFailed as error:
            if error.reason not in DELETE_REFUSALS:
                raise
            return await self._leave(orphan, "deletion_refused")
        if await self._storage.head(orphan.stored.key) is not None:
            return await self._leave(orphan, "still_there")
        log.info(
            "orphan swept: consultation=%s recording=%s", orphan.key.consultation_id, orphan.key.video_id
        )
        return _Outcome.SWEPT

    async def _leave(self, orphan: _Orphan, reason: LiteralString) -> _Outcome:
        key = orphan.key
        async with self._database.as_service(REASON) as tx:
            await store.record_failed_sweep(tx, key.video_id, reason)
        log.warning(
            "orphan not swept: %s: consultation=%s recording=%s", reason, key.consultation_id, key.video_id
        )
        self._undeletable.add(orphan.stored.key)
        return _Outcome.WAITS

    async def _sweep_uploads(self, now: datetime, *, may_abort: bool) -> Counter[_Outcome]:
        outcomes, reports_left = Counter[_Outcome](), AT_ONCE
        async for page in _under_each_prefix(self._storage.list_uploads):
            async with self._database.as_service(REASON) as tx:
                running = await store.find_videos_in_progress(tx, _video_ids(one.key for one in page.uploads))
            idle = [one for one in page.uploads if _video_id(one.key) not in running]
            outcomes[_Outcome.WAITS] += len(page.uploads) - len(idle)
            reports_left -= await self._report([one.key for one in idle], "unfinished_upload", reports_left)
            seen_at = min(now, page.listed_at)
            for one in idle:
                is_past = seen_at - one.initiated_at >= UPLOAD_QUARANTINE
                outcomes[await self._abort(one) if may_abort and is_past else _Outcome.WAITS] += 1
        return outcomes

    async def _abort(self, upload: ListedUpload) -> _Outcome:
        video_id = _video_id(upload.key)
        if video_id is None:
            return _Outcome.WAITS
        async with self._database.as_service(REASON) as tx:
            if not await store.record_abort(tx, video_id):
                return _Outcome.WAITS
        is_ended = await self._storage.abort_upload(upload.key, upload.upload_id)
        return _Outcome.SWEPT if is_ended else _Outcome.GONE


async def _under_each_prefix(pages: Callable[[str], AsyncIterator[_Page]]) -> AsyncIterator[_Page]:
    for prefix in RECORDING_PREFIXES:
        async for page in pages(prefix):
            yield page


def _video_id(key: str) -> UUID | None:
    parsed = parse_recording_key(key)
    return None if parsed is None else parsed.video_id


def _video_ids(keys: Iterable[str]) -> list[UUID]:
    return [video_id for video_id in map(_video_id, keys) if video_id is not None]
