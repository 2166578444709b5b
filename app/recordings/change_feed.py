"""Wakes the subscriptions when something changes that they watch. Each API process has one LISTEN connection. A
database notification is only a hint: it contains the ids of the consultation, of its doctor, and of the recording
that changed, separated by spaces.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import LiteralString, Self
from uuid import UUID

from app.failures import describe_failure

log = logging.getLogger(__name__)

CHANNEL = "resguardo_changes"
PAUSES_SECONDS = (0.1, 0.5, 1, 2, 5)
MOST_NAMED = 1000
"""The most recordings that a subscription collects while it sends. A subscription with more recordings to read acts
as if it had missed notifications.
"""

Listen = Callable[[LiteralString], AbstractAsyncContextManager[AsyncGenerator[str]]]


@dataclass
class Changes:
    """What may have changed since a subscription last read. If `has_missed` is true, anything may have changed,
    because notifications may have been lost. Otherwise `recordings` contains the recordings that changed.
    """

    recordings: set[UUID] = field(default_factory=set)
    has_missed: bool = False

    def add(self, later: "Changes") -> None:
        """Add changes, which may be forged, so their number is limited."""
        self.recordings |= later.recordings
        self.has_missed = self.has_missed or later.has_missed
        if len(self.recordings) > MOST_NAMED:
            self.recordings, self.has_missed = set(), True


class Watcher:
    """Collects the changes for one subscription. Many changes in quick succession are collected as one."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._changed = asyncio.Event()

    def wake(self, changes: Changes) -> None:
        """Add changes, and wake the subscription."""
        self._changes.add(changes)
        self._changed.set()

    async def wait(self) -> Changes:
        """Wait for a change. Return all changes since the previous call."""
        await self._changed.wait()
        self._changed.clear()
        changes, self._changes = self._changes, Changes()
        return changes


class ChangeFeed:
    """Wakes the watchers of a consultation or of a doctor. In an `async with` block, a ChangeFeed listens for
    notifications, and reconnects after a failure. After it has reconnected, it wakes all watchers, because it may
    have missed notifications.
    """

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._watchers: defaultdict[UUID, set[Watcher]] = defaultdict(set)
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
    def watch(self, watched_id: UUID) -> Iterator[Watcher]:
        """Yield a watcher of the consultation or the doctor with this id."""
        watcher = Watcher()
        self._watchers[watched_id].add(watcher)
        try:
            yield watcher
        finally:
            self._watchers[watched_id].discard(watcher)
            if not self._watchers[watched_id]:
                del self._watchers[watched_id]

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
            consultation_id, doctor_id, *recordings = (UUID(one) for one in payload.split())
            changes = Changes(set(recordings))
            for watched_id in (consultation_id, doctor_id):
                for watcher in self._watchers.get(watched_id, ()):
                    watcher.wake(changes)

    def _wake_all(self) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.wake(Changes(has_missed=True))
