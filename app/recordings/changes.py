"""Runs the subscriptions to a consultation, to the recordings of a consultation, and to all recordings of a doctor.
A subscription first sends the present state, and then each change. After the commit of a change, each subscription
reads the changed entities with the rights of the person who opened it, under row level security. Each read by a
subscription has one audit row, which names everything that the read sent. For each subscription, the process stores
only the last state that the client has received. Many changes at once therefore become one message, and a slow client
does not delay other clients.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar
from uuid import UUID

from app.consultations import service as consultations
from app.errors import NotFound, RateLimited, Timeout, UpstreamFailed
from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.paging import MAX_PAGE_SIZE
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.recordings import store
from app.recordings.change_feed import ChangeFeed, Changes

RETRY_SECONDS = 1
MOST_PRESENT: Final = 25
"""How many recordings the subscription to all recordings of a doctor sends at first."""
MOST_MISSED: Final = 1000
"""How many recordings that subscription compares after it may have missed notifications."""
_sql = Queries(Path(__file__).with_name("queries.sql"))


_WATCHED: Final = AuditedRead(
    rows=_sql["watch_consultation"],
    items=object,
    action=permissions.WATCH_RECORDINGS.action,
    entity_type="consultation",
    asked="%(consultation_id)s",
    consultations="p.id",
    meter="pages",
)

Item = TypeVar("Item")
Slot = Callable[[], AbstractAsyncContextManager[None]]
"""Holds one of the person's slots for concurrent operations. Raises RateLimited."""
Versions = dict[UUID, str]
"""The last state of each recording that was sent: a text that differs if the recording, its media files, its
transcription, its insights or its deletion has changed.
"""


class Reader(Protocol[Item]):
    """Reads what a subscription sends."""

    async def read_present(self) -> list[Item]:
        """Return the present state. Raises NotFound and RateLimited."""

    async def read_changed(self, changes: Changes) -> list[Item]:
        """Return the changed entities, as they are now."""


class Subscriptions:
    """The service.

    The start of a subscription counts as one page against the quota of pages, and the changes that follow do not
    count. Each generator ends only with an error: NotFound or RateLimited at the start, and Unauthenticated or
    Forbidden when the session ends. A generator waits while the database is unreachable, and waits for a slot
    before each read.
    """

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._feed = feed

    def watch_consultation(
        self, asker: Asker, consultation_id: UUID, selection: Selection, slot: Slot = nullcontext
    ) -> AsyncGenerator[Row]:
        """Yield the consultation, and then the consultation again after each change of it, of its participants,
        its consents or its recordings.
        """
        reader = _ConsultationReader(self._database, asker, consultation_id, selection)
        return self.follow(consultation_id, reader, slot)

    def watch_recordings(
        self, asker: Asker, consultation_id: UUID, selection: Selection, slot: Slot = nullcontext
    ) -> AsyncGenerator[Row]:
        """Yield the newest recording of the consultation, if there is one, and then each recording that changes."""
        reader = _RecordingsReader(self._database, asker, consultation_id, selection)
        return self.follow(consultation_id, reader, slot)

    def watch_own_recordings(
        self, asker: Asker, selection: Selection, slot: Slot = nullcontext
    ) -> AsyncGenerator[Row]:
        """Yield the doctor's recordings that changed last, at most 25 and the oldest change first, and then each
        recording that changes.
        """
        reader = _OwnRecordingsReader(self._database, asker, selection)
        return self.follow(UUID(str(asker.person)), reader, slot)

    async def follow(self, watched_id: UUID, reader: Reader[Item], slot: Slot) -> AsyncGenerator[Item]:
        """Yield what the reader reads at first, and then what it reads after each change of the consultation or the
        doctor with this id.
        """
        with self._feed.watch(watched_id) as watcher:
            for item in await _run_to_end(slot, reader.read_present()):
                yield item
            while True:
                changes = await watcher.wait()
                try:
                    items = await _run_to_end(slot, reader.read_changed(changes))
                except (UpstreamFailed, Timeout, RateLimited):
                    watcher.wake(changes)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                for item in items:
                    yield item


@dataclass
class _ConsultationReader:
    database: Database
    asker: Asker
    consultation_id: UUID
    selection: Selection
    sent: tuple[str, Versions] | None = None

    async def read_present(self) -> list[Row]:
        return await self._read(is_start=True)

    async def read_changed(self, changes: Changes) -> list[Row]:
        return await self._read(is_start=False)

    async def _read(self, *, is_start: bool) -> list[Row]:
        access = permissions.WATCH_CONSULTATION.on(self.consultation_id)
        about = {"consultation_id": self.consultation_id}
        async with self.database.as_user(self.asker, access) as tx:
            version = await tx.value(_sql["consultation_version"], about)
            versions = (str(version), await _read_versions_of(tx, self.consultation_id))
            if versions == self.sent:
                return []
            found = await consultations.show_consultation(
                tx, self.consultation_id, self.selection, access.action, counts_as_page=is_start
            )
        self.sent = versions
        return [found]


@dataclass
class _RecordingsReader:
    database: Database
    asker: Asker
    consultation_id: UUID
    selection: Selection
    sent: Versions = field(default_factory=dict)

    async def read_present(self) -> list[Row]:
        access = permissions.WATCH_RECORDINGS.on(self.consultation_id)
        async with self.database.as_user(self.asker, access) as tx:
            videos = await _read_versions_of(tx, self.consultation_id)
            newest = await _read(tx, list(videos)[-1:], self.selection, counts_as_page=True)
            if not newest:
                parameters = {"consultation_id": self.consultation_id}
                if not await _WATCHED.all(tx, parameters, fields=self.selection.paths):
                    raise NotFound("consultation_not_found")
        self.sent.update(videos)
        return newest

    async def read_changed(self, changes: Changes) -> list[Row]:
        access = permissions.WATCH_RECORDINGS.on(self.consultation_id)
        async with self.database.as_user(self.asker, access) as tx:
            videos = await _read_versions_of(tx, self.consultation_id)
            unsent = await _read(tx, _list_unsent(videos, self.sent), self.selection)
        _remember(self.sent, videos, unsent)
        return unsent


@dataclass
class _OwnRecordingsReader:
    database: Database
    asker: Asker
    selection: Selection
    sent: Versions = field(default_factory=dict)

    async def read_present(self) -> list[Row]:
        async with self.database.as_user(self.asker, permissions.WATCH_OWN_RECORDINGS.on()) as tx:
            last = await list_last_changed(tx, MOST_PRESENT)
            versions = await _read_versions(tx, list(reversed(last)))
            present = await store.show_watched(tx, list(versions), self.selection, counts_as_page=True)
        _remember(self.sent, versions, present)
        return present

    async def read_changed(self, changes: Changes) -> list[Row]:
        async with self.database.as_user(self.asker, permissions.WATCH_OWN_RECORDINGS.on()) as tx:
            versions = await _read_versions(tx, list(changes.recordings))
            if changes.has_missed:
                versions |= await self._read_missed(tx)
            unsent = await _read(tx, _list_unsent(versions, self.sent), self.selection)
        _remember(self.sent, versions, unsent)
        return unsent

    async def _read_missed(self, tx: Transaction) -> Versions:
        """Return the recordings that changed last, up to the last one whose state was sent, oldest change first."""
        versions = await _read_versions(tx, await list_last_changed(tx, MOST_MISSED))
        known = [place for place, (one, text) in enumerate(versions.items()) if self.sent.get(one) == text]
        newest = list(versions.items())[: known[-1] if known else MOST_MISSED]
        return dict(reversed(newest))


async def list_last_changed(tx: Transaction, most: int) -> list[UUID]:
    """Return at most `most` recordings of the doctor that changed last, newest change first. Writes no audit row."""
    return [row["id"] for row in await tx.all(_sql["last_changed_videos"], {"most": most})]


async def _read_versions_of(tx: Transaction, consultation_id: UUID) -> Versions:
    rows = await tx.all(_sql["videos_of_consultation"], {"consultation_id": consultation_id})
    return await _read_versions(tx, [row["id"] for row in rows])


async def _read_versions(tx: Transaction, ids: list[UUID]) -> Versions:
    """Return the versions of those videos that the person may see, in the given order."""
    rows = await tx.all(_sql["versions"], {"ids": ids}) if ids else []
    return {row["id"]: row["version"] for row in rows}


def _list_unsent(versions: Versions, sent: Versions) -> list[UUID]:
    return [one for one, version in versions.items() if sent.get(one) != version]


def _remember(sent: Versions, versions: Versions, recordings: list[Row]) -> None:
    """Store the versions of the given recordings. Forget those that were sent before the last 1000."""
    for one in recordings:
        recording_id = UUID(one["id"])
        sent.pop(recording_id, None)
        sent[recording_id] = versions[recording_id]
    for one_id in list(sent)[:-MOST_MISSED]:
        del sent[one_id]


async def _read(
    tx: Transaction, ids: list[UUID], selection: Selection, *, counts_as_page: bool = False
) -> list[Row]:
    """Return these recordings in their order. Each statement reads at most 100 of them and writes one audit row."""
    found: list[Row] = []
    for start in range(0, len(ids), MAX_PAGE_SIZE):
        some = ids[start : start + MAX_PAGE_SIZE]
        found += await store.show_watched(tx, some, selection, counts_as_page=counts_as_page)
    return found


async def _run_to_end(slot: Slot, reading: Coroutine[None, None, list[Item]]) -> list[Item]:
    """Run a read to its end even if the client disconnects, so that the audit row of the read is written."""
    task = asyncio.create_task(_read_in_slot(slot, reading))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


async def _read_in_slot(slot: Slot, reading: Coroutine[None, None, list[Item]]) -> list[Item]:
    try:
        async with slot():
            return await reading
    finally:
        reading.close()  # without a slot, the coroutine has not begun
