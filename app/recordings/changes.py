"""Recordings as they change: one LISTEN a process, fanned out to whoever watches a consultation.

A notification is a hint and carries a consultation's id alone: what is told is read again, as the person who watches,
under row level security and with its audit row, after the change was committed. Nothing is kept of what was told but
how it stood, so many changes at once are told as one, and a slow reader holds up nobody. Notifications that a
lost connection missed are made up for by waking everybody once it is back.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import LiteralString, Self
from uuid import UUID

from pydantic import TypeAdapter

from app import permissions
from app.audited import read_audited
from app.db import Asker, Database, Transaction
from app.errors import NotFound, RateLimited, Timeout, UpstreamFailed
from app.failures import describe_failure
from app.recordings import store
from app.recordings.model import Recording, Selection
from app.sql import Queries

log = logging.getLogger(__name__)

CHANNEL = "resguardo_recordings"
PAUSES_SECONDS = (0.1, 0.5, 1, 2, 5)
RETRY_SECONDS = 1
_ANYBODY: tuple[LiteralString, ...] = ("clinician", "compliance", "patient")
_sql = Queries(Path(__file__).with_name("queries.sql"))

_ids = TypeAdapter(list[UUID])

Listen = Callable[[LiteralString], AbstractAsyncContextManager[AsyncGenerator[str]]]
Slot = Callable[[], AbstractAsyncContextManager[None]]
"""Holds one of the operations that the person who watches may run at once. Raises RateLimited."""
Known = dict[UUID, str]
"""How each recording that was told of stood: another text where it or its words have changed."""


class Feed:
    """Wakes those who watch a consultation; `async with` listens, again and again, until it is left."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._watchers: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begins to listen, without waiting for the connection."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @contextmanager
    def watched(self, consultation_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever a recording of the consultation may have changed."""
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

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed

    async def watch(
        self, asker: Asker, consultation_id: UUID, selection: Selection, slot: Slot = nullcontext
    ) -> AsyncGenerator[Recording]:
        """The newest recording of the consultation, if there is one, and then each recording of it that changes.

        Begins as one page of the quota; what follows counts as none. Ends only by raising: NotFound at the beginning,
        RateLimited likewise, and whenever the session is over Unauthenticated or Forbidden. A database that is away is
        waited for, as is a slot, within which each read runs.
        """
        with self._feed.watched(consultation_id) as changed:
            known: Known = {}
            for recording in await _to_its_end(slot, self._begin(asker, consultation_id, selection, known)):
                yield recording
            while True:
                await changed.wait()
                changed.clear()
                try:
                    news = await _to_its_end(slot, self._news(asker, consultation_id, selection, known))
                except (UpstreamFailed, Timeout, RateLimited):
                    changed.set()
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                for recording in news:
                    yield recording

    async def _begin(
        self, asker: Asker, consultation_id: UUID, selection: Selection, known: Known
    ) -> list[Recording]:
        access = permissions.WATCH_RECORDINGS.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            parameters = {"consultation_id": consultation_id, "fields": list(selection.fields)}
            if not await read_audited(tx, _sql["watch_consultation"], parameters, _ids):
                raise NotFound("consultation_not_found")
            videos = await _videos(tx, consultation_id)
            newest = await _read(tx, list(videos)[-1:], selection)
        known.update(videos)
        return newest

    async def _news(
        self, asker: Asker, consultation_id: UUID, selection: Selection, known: Known
    ) -> list[Recording]:
        access = permissions.WATCH_RECORDINGS.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            videos = await _videos(tx, consultation_id)
            news = await _read(
                tx, [one for one, stand in videos.items() if known.get(one) != stand], selection
            )
        known.update({one.id: videos[one.id] for one in news})
        return news


async def _videos(tx: Transaction, consultation_id: UUID) -> Known:
    rows = await tx.all(_sql["videos_of_consultation"], {"consultation_id": consultation_id})
    return {row["id"]: row["stand"] for row in rows}


async def _read(tx: Transaction, ids: list[UUID], selection: Selection) -> list[Recording]:
    found = [await store.read(tx, one, selection, "recording.watch") for one in ids]
    return [recording for recording in found if recording is not None]


async def _to_its_end(slot: Slot, reading: Coroutine[None, None, list[Recording]]) -> list[Recording]:
    """What was asked has its audit row, even if whoever asked is gone meanwhile."""
    task = asyncio.create_task(_in(slot, reading))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


async def _in(slot: Slot, reading: Coroutine[None, None, list[Recording]]) -> list[Recording]:
    try:
        async with slot():
            return await reading
    finally:
        reading.close()  # if there was no slot, it has not begun
