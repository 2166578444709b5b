"""Limits how many operations run at once in this process: in total, and for each person or client address.

An operation above a limit waits in a bounded queue, or is refused at once if the queue is full. A caller with very
many requests therefore cannot take all database connections, or the slots of other callers.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from app.errors import RateLimited

logger = logging.getLogger(__name__)

SERVER_BUSY = "server_busy"
WAIT_SECONDS = 5
_IPV6_NETWORK_BITS = 64
_LOG_SECONDS = 60


@dataclass(frozen=True)
class Bounds:
    """The limits that a ConcurrencyLimit applies. At most `running` operations run at once in total, and at most
    `running_per_key` for each key. At most `waiting` operations wait in total, and at most `waiting_per_key` for
    each key. If `running` or `waiting` is None, there is no limit on the total.
    """

    running_per_key: int
    running: int | None = None
    waiting_per_key: int = 0
    waiting: int | None = None


class ConcurrencyLimit:
    """Gives each operation a slot in which it may run. A refusal has the reason `reason` if the key is above its
    own limit, and `server_busy` if all slots are taken.

    `clock` returns seconds that never go back, and is used only to limit the rate of log lines.
    """

    def __init__(
        self,
        reason: str,
        bounds: Bounds,
        *,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reason = reason
        self._bounds = bounds
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._running: Counter[Hashable] = Counter()
        self._queued: Counter[Hashable] = Counter()
        self._waiters: dict[asyncio.Future[None], Hashable] = {}
        self._refused = 0
        self._logged_at: float | None = None

    @asynccontextmanager
    async def slot(self, key: Hashable) -> AsyncIterator[None]:
        """Hold a slot. Raises RateLimited (the limit's own reason, or server_busy) if no slot becomes free within
        `wait_seconds`.
        """
        await self._take(key)
        try:
            yield
        finally:
            self._release(key)

    async def _take(self, key: Hashable) -> None:
        if self._is_free(key):
            self._running[key] += 1
            return
        bounds = self._bounds
        if self._queued[key] >= bounds.waiting_per_key or (
            bounds.waiting is not None and len(self._waiters) >= bounds.waiting
        ):
            raise self._make_refusal(key)
        granted = asyncio.get_running_loop().create_future()
        self._waiters[granted] = key
        self._queued[key] += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await granted
        except BaseException as error:
            if granted in self._waiters:
                self._leave(granted)
            elif granted.done() and not granted.cancelled():
                self._release(key)
            if isinstance(error, TimeoutError):
                raise self._make_refusal(key) from None
            raise

    def _is_free(self, key: Hashable) -> bool:
        bounds = self._bounds
        is_full = bounds.running is not None and self._running.total() >= bounds.running
        return not is_full and self._running[key] < bounds.running_per_key

    def _release(self, key: Hashable) -> None:
        """Give a returned slot to the waiting key (a person or an address) that holds the fewest slots. Among the
        operations of one key, the one that has waited longest gets the slot.
        """
        _decrement(self._running, key)
        free = [waiter for waiter, waiting in self._waiters.items() if self._is_free(waiting)]
        if free:
            waiter = min(free, key=lambda each: self._running[self._waiters[each]])
            self._running[self._waiters[waiter]] += 1
            self._leave(waiter)
            waiter.set_result(None)

    def _leave(self, waiter: "asyncio.Future[None]") -> None:
        _decrement(self._queued, self._waiters.pop(waiter))

    def _make_refusal(self, key: Hashable) -> RateLimited:
        self._refused += 1
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            logger.warning("%s: %d refused since the last such line", self._reason, self._refused)
            self._logged_at, self._refused = now, 0
        is_own = self._running[key] >= self._bounds.running_per_key
        return RateLimited(self._reason if is_own else SERVER_BUSY)


def network_of(address: str | None) -> str | None:
    """Return what counts as one client: an IPv4 address, or the /64 that a provider assigns to one IPv6 customer."""
    if address is None:
        return None
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    host_bits = 128 - _IPV6_NETWORK_BITS
    return f"{IPv6Address(int(parsed) >> host_bits << host_bits)}/{_IPV6_NETWORK_BITS}"


def _decrement(counter: Counter[Hashable], key: Hashable) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
