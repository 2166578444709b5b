"""Counts rejected requests, so that an attack causes few audit rows instead of thousands.

The memory for the counts is bounded: after `max_addresses` client addresses in one minute, all further addresses
share one count, which has the address None. A count stays in memory until it is written to the audit log; if the
write fails, the next flush tries again. A failure to count a rejection never makes the request fail.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from app.failures import describe_failure

logger = logging.getLogger(__name__)

Write = Callable[[str, str | None, int], Awaitable[None]]
"""Writes one count: its kind, its address (None for all addresses above the limit), and its number."""

_MINUTE_SECONDS = 60


class Rejections:
    """Counts rejected requests by kind and client address. `async with` writes the counts to the audit log every
    `interval_seconds` and at the end of the block.

    `clock` is a function, such as `time.monotonic`, that returns seconds and never goes back. At shutdown, the last
    flush ends after at most `shutdown_seconds`, and the number of lost counts is logged.
    """

    def __init__(
        self,
        write: Write,
        *,
        clock: Callable[[], float],
        max_addresses: int = 1000,
        interval_seconds: float = 10,
        shutdown_seconds: float = 5,
    ) -> None:
        self._write = write
        self._clock = clock
        self._max_addresses = max_addresses
        self._interval_seconds = interval_seconds
        self._shutdown_seconds = shutdown_seconds
        self._pending: Counter[tuple[str, str | None]] = Counter()
        self._known: set[str] = set()
        self._minute = -1
        self._is_stopping = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def count(self, kind: str, address: str | None) -> None:
        """Count one rejection. The kind of a rejection is one of a few constants, so the number of kinds needs no
        limit.
        """
        self._forget_last_minute()
        self._pending[kind, self._within_cap(address)] += 1

    async def flush(self) -> None:
        """Write the pending counts. If a write to the audit log fails, the next flush writes the remaining counts.
        Raises only if cancelled.
        """
        async with self._flushing:
            for key in list(self._pending):
                count = self._pending[key]
                try:
                    await self._write(*key, count)
                except Exception as error:  # noqa: BLE001 - the loop must outlive whatever the writer raises
                    logger.warning("rejections not written yet: %s", describe_failure(error))
                    return
                self._pending[key] -= count
                if not self._pending[key]:
                    del self._pending[key]

    async def __aenter__(self) -> Self:
        """Start the background flush."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background flush of the counts and write the remaining counts."""
        self._is_stopping.set()
        try:
            async with asyncio.timeout(self._shutdown_seconds):
                if self._task is not None:
                    await self._task
                await self.flush()
        except TimeoutError:
            logger.warning("rejections: the last flush took too long")
        if lost := self._pending.total():
            logger.error("rejections lost at shutdown: %d", lost)

    async def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                await asyncio.wait_for(self._is_stopping.wait(), self._interval_seconds)
            except TimeoutError:
                await self.flush()

    def _forget_last_minute(self) -> None:
        minute = int(self._clock() // _MINUTE_SECONDS)
        if minute != self._minute:
            self._minute = minute
            self._known = {address for _, address in self._pending if address is not None}

    def _within_cap(self, address: str | None) -> str | None:
        if address is None or address in self._known:
            return address
        if len(self._known) >= self._max_addresses:
            return None
        self._known.add(address)
        return address
