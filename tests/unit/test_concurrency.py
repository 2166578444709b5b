"""Tests of concurrency limits: the number of running tasks is bounded, keys get slots in a fair order, and queues
are bounded.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.concurrency import Bounds, ConcurrencyLimit, network_of
from app.errors import RateLimited

pytestmark = pytest.mark.anyio


class Work:
    """Runs tasks under a concurrency limit until the test ends them, and records the order in which they started."""

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self.limit = limit
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *names: str) -> None:
        """For each of `names`, start a task that requests a slot of the concurrency limit. In these tests, a
        request's key for the concurrency limit is the first letter of the request's name.
        """
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._run(name))
        await settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
        await settle()

    def refused(self) -> dict[str, str]:
        return {
            name: error.reason
            for name, task in self.tasks.items()
            if task.done() and not task.cancelled() and isinstance(error := task.exception(), RateLimited)
        }

    async def _run(self, name: str) -> None:
        async with self.limit.slot(name[0]):
            self.begun.append(name)
            await self.ends[name].wait()


async def settle() -> None:
    """Let all asyncio tasks run until each of them waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def working(bounds: Bounds, **options: float) -> AsyncIterator[Work]:
    work = Work(ConcurrencyLimit("too_many_at_once", bounds, **options))  # type: ignore[arg-type]
    try:
        yield work
    finally:
        for task in work.tasks.values():
            task.cancel()
        await asyncio.gather(*work.tasks.values(), return_exceptions=True)


async def test_flood_of_one_key_waits_in_a_queue_that_ends_and_another_key_runs_at_once() -> None:
    async with working(Bounds(running_per_key=2, waiting_per_key=3)) as work:
        await work.ask(*(f"a{n}" for n in range(200)))
        assert work.begun == ["a0", "a1"]
        assert len(work.refused()) == 195
        assert set(work.refused().values()) == {"too_many_at_once"}
        await work.ask("b0")
        assert work.begun[-1] == "b0"
        await work.end("a0")
        assert work.begun[-1] == "a2"


async def test_slot_goes_to_the_key_that_has_fewest() -> None:
    async with working(Bounds(running=4, running_per_key=2, waiting_per_key=50)) as work:
        await work.ask(*(f"a{n}" for n in range(9)), *(f"b{n}" for n in range(9)), "c0")
        assert work.begun == ["a0", "a1", "b0", "b1"]
        await work.end("a0")
        assert work.begun[-1] == "c0"


async def test_many_keys_are_refused_once_all_slots_and_all_places_of_the_queue_are_taken() -> None:
    async with working(Bounds(running=2, running_per_key=1, waiting=2, waiting_per_key=1)) as work:
        await work.ask("a", "b", "c", "d", "e", "f")
        assert work.refused() == {"e": "server_busy", "f": "server_busy"}
        await work.end("a", "b")
        assert work.begun == ["a", "b", "c", "d"]


async def test_wait_ends_by_itself_and_leaves_the_queue() -> None:
    async with working(Bounds(running_per_key=1, waiting_per_key=1), wait_seconds=0) as work:
        await work.ask("a0", "a1")
        async with asyncio.timeout(20):
            await asyncio.wait([work.tasks["a1"]])
        assert work.refused() == {"a1": "too_many_at_once"}
        await work.end("a0")
        await work.ask("a2")
        assert work.begun == ["a0", "a2"]


async def test_slot_is_free_again_after_an_error_and_after_a_cancellation() -> None:
    limit = ConcurrencyLimit("too_many_at_once", Bounds(running_per_key=1))
    with pytest.raises(ZeroDivisionError):
        async with limit.slot("a"):
            raise ZeroDivisionError
    async with working(Bounds(running_per_key=1, waiting_per_key=2)) as work:
        await work.ask("a0", "a1", "a2")
        work.tasks["a1"].cancel()
        work.tasks["a0"].cancel()
        await settle()
        assert work.begun == ["a0", "a2"]
    async with limit.slot("a"):
        pass


async def test_waiter_that_is_cancelled_as_it_is_granted_its_slot_gives_it_back() -> None:
    async with working(Bounds(running_per_key=1, waiting_per_key=2)) as work:
        await work.ask("a0", "a1", "a2")
        work.ends["a0"].set()
        await asyncio.sleep(0)
        work.tasks["a1"].cancel()
        await settle()
        assert work.begun in (["a0", "a2"], ["a0", "a1", "a2"])
        assert "a2" in work.begun


async def test_refusals_are_one_line_a_minute_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    seconds = [0.0]
    limit = ConcurrencyLimit("too_many_at_once", Bounds(running_per_key=0), clock=lambda: seconds[0])
    with caplog.at_level(logging.INFO):
        for at in (0, 1, 2, 60):
            seconds[0] = at
            with pytest.raises(RateLimited):
                async with limit.slot("203.0.113.7"):
                    pass
    assert [record.getMessage() for record in caplog.records] == [
        "too_many_at_once: 1 refused since the last such line",
        "too_many_at_once: 3 refused since the last such line",
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["ask", "end", "cancel"]), st.sampled_from("abc")), max_size=60),
    st.integers(1, 3),
    st.integers(1, 4),
)
async def test_bounds_hold_and_nothing_is_lost_whatever_happens(
    steps: list[tuple[str, str]], per_key: int, running: int
) -> None:
    bounds = Bounds(running=running, running_per_key=per_key, waiting=5, waiting_per_key=3)
    async with working(bounds) as work:
        for number, (step, key) in enumerate(steps):
            mine = [name for name, task in work.tasks.items() if name[0] == key and not task.done()]
            if step == "ask":
                await work.ask(f"{key}{number}")
            elif mine:
                await work.end(mine[0]) if step == "end" else work.tasks[mine[0]].cancel()
                await settle()
            live = [name for name in work.begun if not work.tasks[name].done()]
            assert len(live) <= running
            assert all(sum(name[0] == each for name in live) <= per_key for each in "abc")
        for _ in range(10):
            await work.end(*work.ends)
        assert all(task.done() for task in work.tasks.values())
        assert not work.limit._running
        assert not work.limit._queued
        assert not work.limit._waiters


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (None, None),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
async def test_ipv6_customers_are_told_apart_by_their_64(address: str | None, network: str | None) -> None:
    assert network_of(address) == network
