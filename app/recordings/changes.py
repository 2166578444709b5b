"""Sends changes of recordings to the subscriptions that watch a consultation. Each API process has one LISTEN
connection. A database notification is only a hint and contains only the id of the consultation. After the commit of
a change, each subscription reads the changed recording with the rights of the person who opened the subscription,
under row level security. Each read by a subscription has its own audit row. For each subscription, the process
stores only the last state that the client has received. Many changes at once therefore become one message, and a
slow client does not delay other clients. When a lost LISTEN connection is open again, the process wakes all
subscriptions, because it may have missed notifications.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, LiteralString, Self
from uuid import UUID

from app.errors import NotFound, RateLimited, Timeout, UpstreamFailed
from app.failures import describe_failure
from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.database import Asker, Database, Transaction
from app.postgres.queries import Queries
from app.recordings import store
from app.recordings.model import Recording, RecordingSelection

log = logging.getLogger(__name__)

CHANNEL = "resguardo_recordings"
PAUSES_SECONDS = (0.1, 0.5, 1, 2, 5)
RETRY_SECONDS = 1
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

Listen = Callable[[LiteralString], AbstractAsyncContextManager[AsyncGenerator[str]]]
Slot = Callable[[], AbstractAsyncContextManager[None]]
"""Holds one of the person's slots for concurrent operations. Raises RateLimited."""
Versions = dict[UUID, str]
"""The last state of each recording that was sent: a text that differs if the recording or its transcript has
changed.
"""


class ChangeFeed:
    """Wakes the subscriptions that watch a consultation. In an `async with` block, a ChangeFeed listens for
    notifications, and reconnects after a failure.
    """

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._watchers: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to listen for notifications, and return before the connection is open."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @contextmanager
    def watch(self, consultation_id: UUID) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever a recording of the consultation may have changed."""
        changed = asyncio.Event()
        self._watchers[consultation_id].add(changed)
        try:
            yield changed
        finally:
            self._watchers[consultation_id].discard(changed)
            if not self._watchers[consultation_id]:
                del self._watchers[consultation_id]

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with self._listen(CHANNEL) as payloads:
                    failures = 0
                    self._wake_all()
                    async for payload in payloads:
                        self._wake(payload)
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever a lost connection raises
                log.warning("changes of recordings are not heard: %s", describe_failure(error))
            await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])
            failures += 1

    def _wake(self, payload: str) -> None:
        with suppress(ValueError):
            for changed in self._watchers.get(UUID(payload), ()):
                changed.set()

    def _wake_all(self) -> None:
        for watchers in self._watchers.values():
            for changed in watchers:
                changed.set()


class RecordingChanges:
    """The service."""

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._feed = feed

    async def watch(
        self, asker: Asker, consultation_id: UUID, selection: RecordingSelection, slot: Slot = nullcontext
    ) -> AsyncGenerator[Recording]:
        """Yield the newest recording of the consultation, if there is one, and then each recording that changes.

        The start of a subscription counts as one page against the quota of pages, and the changes that follow do
        not count. The generator ends only with an error: NotFound or RateLimited at the start, and Unauthenticated
        or Forbidden when the session ends. The generator waits while the database is unreachable, and waits for a
        slot before each read.
        """
        with self._feed.watch(consultation_id) as changed:
            sent: Versions = {}
            for recording in await _run_to_end(
                slot, self._read_newest(asker, consultation_id, selection, sent)
            ):
                yield recording
            while True:
                await changed.wait()
                changed.clear()
                try:
                    changed_recordings = await _run_to_end(
                        slot, self._read_changes(asker, consultation_id, selection, sent)
                    )
                except (UpstreamFailed, Timeout, RateLimited):
                    changed.set()
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                for recording in changed_recordings:
                    yield recording

    async def _read_newest(
        self, asker: Asker, consultation_id: UUID, selection: RecordingSelection, sent: Versions
    ) -> list[Recording]:
        access = permissions.WATCH_RECORDINGS.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            parameters = {"consultation_id": consultation_id}
            if not await _WATCHED.all(tx, parameters, fields=selection.fields):
                raise NotFound("consultation_not_found")
            videos = await _read_versions(tx, consultation_id)
            newest = await _read(tx, list(videos)[-1:], selection)
        sent.update(videos)
        return newest

    async def _read_changes(
        self, asker: Asker, consultation_id: UUID, selection: RecordingSelection, sent: Versions
    ) -> list[Recording]:
        access = permissions.WATCH_RECORDINGS.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            videos = await _read_versions(tx, consultation_id)
            changed_recordings = await _read(
                tx, [one for one, version in videos.items() if sent.get(one) != version], selection
            )
        sent.update({one.id: videos[one.id] for one in changed_recordings})
        return changed_recordings


async def _read_versions(tx: Transaction, consultation_id: UUID) -> Versions:
    rows = await tx.all(_sql["videos_of_consultation"], {"consultation_id": consultation_id})
    return {row["id"]: row["version"] for row in rows}


async def _read(tx: Transaction, ids: list[UUID], selection: RecordingSelection) -> list[Recording]:
    found = [await store.read(tx, one, selection, permissions.WATCH_RECORDINGS.action) for one in ids]
    return [recording for recording in found if recording is not None]


async def _run_to_end(slot: Slot, reading: Coroutine[None, None, list[Recording]]) -> list[Recording]:
    """Run a read to its end even if the client disconnects, so that the audit row of the read is written."""
    task = asyncio.create_task(_read_in_slot(slot, reading))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


async def _read_in_slot(slot: Slot, reading: Coroutine[None, None, list[Recording]]) -> list[Recording]:
    try:
        async with slot():
            return await reading
    finally:
        reading.close()  # without a slot, the coroutine has not begun
