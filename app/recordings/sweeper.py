"""Sweeps the bucket: objects that no recording has, and uploads that nobody finishes.

Every object under `r/` and `keep/` must be known to `private.unknown_object_keys`; what is not is an orphan. It is
reported, and deleted when it is older than the quarantine. What else is in the bucket (`audit/`, `ledger/`, `exports/`,
the mark) is neither listed nor touched, and what there does not bear a consultation's and a recording's id is reported
and left to people.

The quarantine is long because a restored database knows nothing of the objects of the days it lost: each would be an
orphan, and each is somebody's recording. For the same reason nothing goes where too much would go, or where the bucket
bears another mark than the database. An orphan in the folder of a DELETED recording has no quarantine: an egress that
was taken for dead uploaded it late, and what is destroyed must not come back.
"""

import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Final, LiteralString, TypeVar
from uuid import UUID

from app.deployment import require_own_bucket
from app.errors import UpstreamFailed
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ListedObject, ListedUpload
from app.integrations.storage.refusals import DELETE_REFUSALS
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries
from app.recordings.keys import PREFIXES
from app.recordings.model import RecordingStatus

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

UPLOAD_QUARANTINE: Final = timedelta(days=7)
"""R2 drops unfinished uploads after 7 days by itself (Cloudflare's documentation, checked 2026-11-21)."""

FEW_ORPHANS: Final = 20
MOST_ORPHANS: Final = 0.1
"""More than these, as a count and as a part of what is there, look like a wrong or a restored database."""

TOO_MANY_ORPHANS: Final = "too_many_orphans"
AT_ONCE: Final = 1000
"""How many are reported, and how many are swept, in one pass: the rest waits for the next."""

_Page = TypeVar("_Page")
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEY = re.compile(f"(?:keep|r/[a-z0-9_-]+)/({_UUID})/({_UUID})/[^/]+")
_RUNNING = [status for status in RecordingStatus if not status.is_terminal]
_UNSETTLED = [*_RUNNING, RecordingStatus.LOST]


@dataclass(frozen=True)
class SweepReport:
    """What one pass found and did.

    `orphans_waiting` are all that stay: in quarantine, held, or not ours. `uploads_waiting` counts the uploads of
    running recordings too. `refusal` is the reason for which nothing was swept at all.
    """

    objects_seen: int
    orphans_waiting: int
    orphans_swept: int
    uploads_waiting: int
    uploads_aborted: int
    refusal: str | None = None


@dataclass(frozen=True)
class _Ids:
    consultation: UUID
    recording: UUID


@dataclass(frozen=True)
class _Orphan:
    """`seen_at` is the earlier of the store's time and the database's: both must agree on its age.

    `is_destroyed` says that its recording is DELETED, with everything beside it.
    """

    stored: ListedObject
    ids: _Ids
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


class Sweeper:
    """One pass at a time; two at once, or one killed between any two lines and run again, come to the same.

    This machine's clock is asked nothing. An object is past the quarantine where the store's clock and the database's
    both say so, and an audit row that names it is committed before it goes.
    """

    def __init__(self, database: Database, storage: Storage, *, quarantine: timedelta) -> None:
        self._database = database
        self._storage = storage
        self._quarantine = quarantine
        self._reported: set[str] = set()
        self._held: set[str] = set()

    async def run_once(self) -> SweepReport:
        """Lists, reports, and sweeps what is past its quarantine.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout: what was not done
        then is done by the next pass.
        """
        now = await self._begin()
        found = await self._list_orphans(now)
        refusal = TOO_MANY_ORPHANS if found.are_too_many else None
        if refusal is not None:
            log.error(
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

    async def _begin(self) -> datetime:
        """The database's time, after it and the bucket were seen to bear the same mark."""
        async with self._database.as_service("sweep_bucket") as tx:
            row = await tx.one(_sql["begin_sweep"])
        assert row is not None  # noqa: S101 - a select without a from has one row
        await require_own_bucket(self._storage, row["deployment"] or "")
        now: datetime = row["now"]
        return now

    async def _list_orphans(self, now: datetime) -> _Found:
        found, reports_left = _Found(), AT_ONCE
        async for page in _under_each(self._storage.list_objects):
            found.seen += len(page.objects)
            unknown = await self._unknown([one.key for one in page.objects])
            orphans = [one for one in page.objects if one.key in unknown]
            found.orphans += len(orphans)
            reports_left -= await self._report(
                [one.key for one in orphans], "no_recording_has_it", reports_left
            )
            seen_at = min(now, page.listed_at)
            destroyed = await self._in_status([one.key for one in orphans], [RecordingStatus.DELETED])
            for one in orphans:
                ids = _ids_of(one.key)
                if ids is None or one.key in self._held or len(found.past_quarantine) >= AT_ONCE:
                    continue
                orphan = _Orphan(one, ids, seen_at, ids.recording in destroyed)
                if orphan.is_past(self._quarantine, one.last_modified):
                    found.past_quarantine.append(orphan)
        return found

    async def _unknown(self, keys: Sequence[str]) -> set[str]:
        async with self._database.as_service("sweep_bucket") as tx:
            return set(await tx.value(_sql["unknown_object_keys"], {"keys": list(keys)}))

    async def _report(self, keys: Iterable[str], reason: LiteralString, limit: int) -> int:
        """Once in a process's life each: to the log, without the key, and to the audit log; how many."""
        new = [key for key in keys if key not in self._reported][:limit]
        if not new:
            return 0
        ids = [_ids_of(key) for key in new]
        async with self._database.as_service("sweep_bucket") as tx:
            await tx.run(
                _sql["report_orphans"], {"reason": reason, "ids": [one.recording for one in ids if one]}
            )
        for one in ids:
            if one is None:
                log.warning("orphan in the bucket: %s, and it is not ours: left to people", reason)
            else:
                log.warning(
                    "orphan in the bucket: %s: consultation=%s recording=%s",
                    reason,
                    one.consultation,
                    one.recording,
                )
        self._reported.update(new)
        return len(new)

    async def _sweep(self, orphan: _Orphan) -> _Outcome:
        key = orphan.stored.key
        stored = await self._storage.head(key)
        if stored is None:
            return _Outcome.GONE
        is_past = orphan.is_past(self._quarantine, stored.last_modified)
        if stored.etag != orphan.stored.etag or not is_past:
            return _Outcome.WAITS
        async with self._database.as_service("sweep_bucket") as tx:
            if not await _may_sweep(tx, key, orphan):
                return _Outcome.WAITS
        return await self._delete(key, orphan.ids)

    async def _delete(self, key: str, ids: _Ids) -> _Outcome:
        """Deletes it and looks again. What the bucket refuses to give up, a lock holds: it is not asked for again."""
        try:
            await self._storage.delete(key)
        except UpstreamFailed as error:
            if error.reason not in DELETE_REFUSALS:
                raise
            return await self._keep(key, ids, "deletion_refused")
        if await self._storage.head(key) is not None:
            return await self._keep(key, ids, "still_there")
        log.info("orphan swept: consultation=%s recording=%s", ids.consultation, ids.recording)
        return _Outcome.SWEPT

    async def _keep(self, key: str, ids: _Ids, reason: LiteralString) -> _Outcome:
        async with self._database.as_service("sweep_bucket") as tx:
            await tx.run(_sql["record_unswept"], {"reason": reason, "recording_id": ids.recording})
        log.warning(
            "orphan not swept: %s: consultation=%s recording=%s", reason, ids.consultation, ids.recording
        )
        self._held.add(key)
        return _Outcome.WAITS

    async def _sweep_uploads(self, now: datetime, *, may_abort: bool) -> Counter[_Outcome]:
        outcomes, reports_left = Counter[_Outcome](), AT_ONCE
        async for page in _under_each(self._storage.list_uploads):
            running = await self._in_status([one.key for one in page.uploads], _RUNNING)
            idle = [one for one in page.uploads if _recording_of(one.key) not in running]
            outcomes[_Outcome.WAITS] += len(page.uploads) - len(idle)
            reports_left -= await self._report([one.key for one in idle], "unfinished_upload", reports_left)
            seen_at = min(now, page.listed_at)
            for one in idle:
                is_past = seen_at - one.initiated_at >= UPLOAD_QUARANTINE
                outcomes[await self._abort(one) if may_abort and is_past else _Outcome.WAITS] += 1
        return outcomes

    async def _in_status(self, keys: Iterable[str], statuses: Sequence[RecordingStatus]) -> set[UUID]:
        """Of the recordings that the keys name, those of which the video or a sound beside it is in one of these."""
        ids = [recording for recording in map(_recording_of, keys) if recording]
        if not ids:
            return set()
        async with self._database.as_service("sweep_bucket") as tx:
            rows = await tx.all(_sql["recordings_in_status"], {"ids": ids, "statuses": list(statuses)})
        return {row["id"] for row in rows}

    async def _abort(self, upload: ListedUpload) -> _Outcome:
        recording = _recording_of(upload.key)
        if recording is None:
            return _Outcome.WAITS
        async with self._database.as_service("sweep_bucket") as tx:
            if not await tx.run(_sql["record_abort"], {"recording_id": recording, "statuses": _RUNNING}):
                return _Outcome.WAITS
        is_ended = await self._storage.abort_upload(upload.key, upload.upload_id)
        return _Outcome.SWEPT if is_ended else _Outcome.GONE


async def _may_sweep(tx: Transaction, key: str, orphan: _Orphan) -> bool:
    """Asks the database once more and, where still nobody has the object, writes the audit row of its end.

    An object of a recording that is not settled, LOST included, waits: it may be all that there is of it.
    """
    parameters = {
        "object_key": key,
        "recording_id": orphan.ids.recording,
        "statuses": _UNSETTLED,
        "reason": "recording_deleted" if orphan.is_destroyed else "past_quarantine",
    }
    return await tx.run(_sql["record_sweep"], parameters) == 1


async def _under_each(pages: Callable[[str], AsyncIterator[_Page]]) -> AsyncIterator[_Page]:
    for prefix in PREFIXES:
        async for page in pages(prefix):
            yield page


def _ids_of(key: str) -> _Ids | None:
    match = _KEY.fullmatch(key)
    return None if match is None else _Ids(UUID(match[1]), UUID(match[2]))


def _recording_of(key: str) -> UUID | None:
    ids = _ids_of(key)
    return None if ids is None else ids.recording
