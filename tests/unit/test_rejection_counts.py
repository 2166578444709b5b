"""The counter of rejected tokens uses bounded memory. If the API shuts down before all counts are written, it logs
how many rejections are lost.
"""

import asyncio
import logging
from collections import Counter

import pytest

from app.http.rejection_counts import Rejections


class Audit:
    """Stores the written counts. While `failures` is positive, each write fails and reduces `failures` by one."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str | None, int]] = []
        self.failures = 0
        self.is_written = asyncio.Event()

    async def write(self, kind: str, address: str | None, count: int) -> None:
        """Store one count."""
        if self.failures:
            self.failures -= 1
            raise ConnectionError("host=db.example user=ana")
        self.written.append((kind, address, count))
        self.is_written.set()

    def totals(self) -> Counter[tuple[str, str | None]]:
        """Return, for each kind and address, the sum of all written counts."""
        totals: Counter[tuple[str, str | None]] = Counter()
        for kind, address, count in self.written:
            totals[kind, address] += count
        return totals


class Clock:
    """A clock in seconds that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


pytestmark = pytest.mark.anyio


async def test_counts_are_written_once_by_kind_and_address() -> None:
    audit = Audit()
    rejections = Rejections(audit.write, clock=Clock())
    for _ in range(3):
        rejections.count("request.reject", "192.0.2.1")
    rejections.count("webhook.reject", "192.0.2.1")
    rejections.count("request.reject", None)
    await rejections.flush()
    await rejections.flush()
    assert sorted(audit.written, key=str) == [
        ("request.reject", "192.0.2.1", 3),
        ("request.reject", None, 1),
        ("webhook.reject", "192.0.2.1", 1),
    ]


async def test_addresses_over_the_cap_are_counted_together_until_the_minute_is_over() -> None:
    audit, clock = Audit(), Clock()
    rejections = Rejections(audit.write, clock=clock, max_addresses=2)
    for last in range(5):
        rejections.count("request.reject", f"192.0.2.{last}")
    await rejections.flush()
    rejections.count("request.reject", "192.0.2.4")
    rejections.count("request.reject", "192.0.2.0")
    clock.seconds = 60
    rejections.count("request.reject", "192.0.2.4")
    await rejections.flush()
    assert audit.totals() == {
        ("request.reject", "192.0.2.0"): 2,
        ("request.reject", "192.0.2.1"): 1,
        ("request.reject", None): 4,
        ("request.reject", "192.0.2.4"): 1,
    }


async def test_memory_is_bounded_while_writes_fail_for_many_minutes() -> None:
    audit, clock = Audit(), Clock()
    audit.failures = 1000
    rejections = Rejections(audit.write, clock=clock, max_addresses=3)
    for minute in range(50):
        clock.seconds = minute * 60.0
        for last in range(10):
            rejections.count("request.reject", f"198.51.{minute}.{last}")
        await rejections.flush()
    audit.failures = 0
    await rejections.flush()
    assert len(audit.written) == 4
    assert audit.totals().total() == 500


async def test_failed_write_is_retried_and_its_message_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    audit = Audit()
    audit.failures = 1
    rejections = Rejections(audit.write, clock=Clock())
    rejections.count("request.reject", "192.0.2.1")
    await rejections.flush()
    assert audit.written == []
    rejections.count("request.reject", "192.0.2.1")
    await rejections.flush()
    assert audit.written == [("request.reject", "192.0.2.1", 2)]
    assert "ConnectionError" in caplog.text
    assert "ana" not in caplog.text


async def test_count_during_a_write_is_kept_for_the_next_flush() -> None:
    audit = Audit()

    async def write(kind: str, address: str | None, count: int) -> None:
        if not audit.written:
            rejections.count(kind, address)
        await audit.write(kind, address, count)

    rejections = Rejections(write, clock=Clock())
    rejections.count("request.reject", "192.0.2.1")
    await rejections.flush()
    await rejections.flush()
    assert audit.written == [("request.reject", "192.0.2.1", 1)] * 2


async def test_background_task_flushes_and_survives_failures() -> None:
    audit = Audit()
    audit.failures = 2
    async with Rejections(audit.write, clock=Clock(), interval_seconds=0.001) as rejections:
        rejections.count("request.reject", "192.0.2.1")
        async with asyncio.timeout(30):
            await audit.is_written.wait()
    assert audit.written == [("request.reject", "192.0.2.1", 1)]


async def test_shutdown_writes_what_is_left() -> None:
    audit = Audit()
    async with Rejections(audit.write, clock=Clock()) as rejections:
        rejections.count("request.reject", "192.0.2.1")
    assert audit.written == [("request.reject", "192.0.2.1", 1)]


async def test_loss_at_shutdown_is_logged_as_a_number(caplog: pytest.LogCaptureFixture) -> None:
    async def hang(kind: str, address: str | None, count: int) -> None:
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        async with Rejections(hang, clock=Clock(), shutdown_seconds=0.01) as rejections:
            rejections.count("request.reject", "192.0.2.1")
            rejections.count("request.reject", "192.0.2.1")
    assert "rejections lost at shutdown: 2" in caplog.text
    assert "192.0.2.1" not in caplog.text
