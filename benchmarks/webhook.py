"""Compares LiveKit's webhook endpoint with a bare insert of the same row: `make bench-webhook`.
`docs/benchmarks.md` explains the output.

The webhook and the insert write to `private.livekit_events` in one database, alternately in one run, from one
process, with equal numbers of concurrent senders. A bare insert takes a psycopg connection from the pool, runs
begin, `insert ... on conflict do nothing` and commit, and returns the connection to the pool. A bare insert checks
no connection and no signature, speaks no HTTP, queues no job and wakes no worker.

The benchmark measures the webhook endpoint of `resguardo serve --only-webhooks`. The output also contains the
figures of the webhook in a process that serves readers of the API at the same time. While readers request pages,
the benchmark sends webhooks at a steady rate, and measures each latency from the moment when the event was due. If
the benchmark sent webhooks at the maximum rate, the latency would mostly be waiting time in the queue.
"""

import argparse
import asyncio
import gc
import itertools
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from benchmarks import practice
from benchmarks.loopback import Connection, UnexpectedAnswerError, connected, post
from benchmarks.notifications import EVENTS, notifications, signed
from benchmarks.practice import Practice
from devstack import postgres
from tests.databases import Cluster

LEAST_RATIO = 0.5
MOST_P99_MILLISECONDS = 20.0
READERS = 4
EVENTS_A_SECOND = 50
"""The rate of webhooks beside the readers. About five hundred concurrent consultations cause that many events."""

_Piece = TypeVar("_Piece")
_INSERT = """
insert into private.livekit_events (event_id, event, egress_id, room_name, occurred_at)
values (%s, %s, %s, %s, %s) on conflict (event_id) do nothing
"""
_READ = b'{"query": "{ recordings(first: 20) { edges { cursor node { id status createdAt } } } }"}'


@dataclass
class Sample:
    """The figures of all rounds of one kind, added up."""

    name: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Return the number of operations per second."""
        return len(self.latencies) / self.seconds

    def milliseconds(self, percentile: float) -> float:
        """Return this percentile of the latency in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[math.ceil(len(ordered) * percentile / 100) - 1]


@dataclass(frozen=True)
class Result:
    """The measured figures of the webhook benchmark."""

    bare: Sample = field(default_factory=lambda: Sample("bare insert"))
    webhook: Sample = field(default_factory=lambda: Sample("webhook"))
    beside_readers: Sample = field(default_factory=lambda: Sample("webhook, 4 read"))
    reads: Sample = field(default_factory=lambda: Sample("reads meanwhile"))
    in_one_process: Sample = field(default_factory=lambda: Sample("one process, 4 read"))
    reads_of_one_process: Sample = field(default_factory=lambda: Sample("reads meanwhile"))

    @property
    def ratio(self) -> float:
        """Return the webhook's rate divided by the rate of bare inserts."""
        return self.webhook.per_second / self.bare.per_second

    @property
    def holds(self) -> bool:
        """Return whether the result meets the performance promise of the webhook."""
        return self.ratio >= LEAST_RATIO and self.beside_readers.milliseconds(99) < MOST_P99_MILLISECONDS


async def _in_turns(
    sample: Sample,
    work: Iterable[_Piece],
    hands: Sequence[Callable[[_Piece], Awaitable[object]]],
    *,
    apart: float = 0.0,
) -> None:
    """Do all pieces of work with the functions in `hands`, which run concurrently. Each function takes the next
    piece of work after it has finished one.

    Piece of work number n is due n * `apart` seconds after the start, and its latency counts from then. If `apart`
    is 0, a piece of work is due as soon as one of the functions is free.
    """
    began = time.perf_counter()
    left = iter(enumerate(work))

    async def by(hand: Callable[[_Piece], Awaitable[object]]) -> None:
        for number, piece in left:
            due = began + number * apart if apart else time.perf_counter()
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            await hand(piece)
            sample.latencies.append(time.perf_counter() - due)

    await asyncio.gather(*(by(hand) for hand in hands))
    sample.seconds += time.perf_counter() - began


def _row(event: str, room: str) -> tuple[object, ...]:
    """Return the row that a webhook inserts into the inbox."""
    egress_id = f"EG_{uuid4().hex[:12]}" if event.startswith("egress_") else None
    return f"EV_{uuid4().hex[:12]}", event, egress_id, room, datetime.now(UTC)


@dataclass(frozen=True)
class _Bench:
    place: Practice
    pool: AsyncConnectionPool[AsyncConnection[TupleRow]]
    senders: int

    async def round(self, result: Result, events: int) -> None:
        """Run one round of bare inserts, one round of webhooks, and one round of webhooks while clients read, with
        `events` events in each round.
        """
        await self.insert(result.bare, events)
        await self.notify(result.webhook, events)
        await self.notify_beside_readers(result.beside_readers, result.reads, events)
        await self.notify_beside_readers(
            result.in_one_process, result.reads_of_one_process, events, in_one_process=True
        )

    async def insert(self, sample: Sample, count: int) -> None:
        """Run a round of bare inserts with one connection for each sender."""

        async def hand(row: tuple[object, ...]) -> None:
            async with self.pool.connection() as connection:
                await connection.execute(_INSERT, row)

        said = itertools.cycle(itertools.product(EVENTS, self.place.rooms))
        rows = [_row(*one) for one in itertools.islice(said, count)]
        await _in_turns(sample, rows, [hand] * self.senders)

    async def notify(
        self, sample: Sample, count: int, *, apart: float = 0.0, in_one_process: bool = False
    ) -> None:
        """Send one round of webhooks as fast as possible. The method first empties the job queue, as a worker would
        have done.
        """
        async with self.pool.connection() as connection:
            await connection.execute("delete from jobs.procrastinate_jobs")
        environment = self.place.stack.environment
        key, secret = environment["LIVEKIT_API_KEY"], environment["LIVEKIT_API_SECRET"]
        url = self.place.stack.api_url if in_one_process else self.place.webhooks_url
        bodies = itertools.islice(notifications(self.place.rooms), count)
        requests = [signed(f"{url}/webhooks/livekit", body, key=key, secret=secret) for body in bodies]
        async with _all_connected(url, self.senders) as connections:
            await _in_turns(sample, requests, [each.exchange for each in connections], apart=apart)

    async def notify_beside_readers(
        self, sample: Sample, reads: Sample, count: int, *, in_one_process: bool = False
    ) -> None:
        """Run a round of webhooks at a steady rate, while readers request pages continuously.

        The readers request successive pages as different doctors, because each doctor has a quota.
        """
        is_over = asyncio.Event()
        pages = itertools.takewhile(lambda _: not is_over.is_set(), itertools.cycle(self._reads()))
        async with _all_connected(self.place.stack.api_url, READERS) as connections:
            reading = asyncio.create_task(_in_turns(reads, pages, [_read_by(each) for each in connections]))
            await self.notify(sample, count, apart=1 / EVENTS_A_SECOND, in_one_process=in_one_process)
            is_over.set()
            await reading

    def _reads(self) -> list[bytes]:
        json = {"Content-Type": "application/json"}
        tokens = self.place.tokens
        return [
            post(self.place.stack.graphql_url, json | {"Authorization": f"Bearer {token}"}, _READ)
            for token in tokens
        ]


@asynccontextmanager
async def _all_connected(url: str, count: int) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(url)) for _ in range(count)]


def _read_by(reader: Connection) -> Callable[[bytes], Awaitable[None]]:
    async def read(request: bytes) -> None:
        if b'"errors"' in (answer := await reader.exchange(request)):
            raise UnexpectedAnswerError(answer.decode())

    return read


async def measure(place: Practice, *, events: int, rounds: int, senders: int) -> Result:
    """Run a warm-up round, which is not counted, and then `rounds` rounds of `events` events each."""
    pool = AsyncConnectionPool(place.stack.project.owner_url, min_size=senders, max_size=senders, open=False)
    async with pool:
        bench = _Bench(place, pool, senders)
        await bench.round(Result(), events)
        result = Result()
        for _ in range(rounds):
            await bench.round(result, events)
        return result


def report(result: Result) -> list[str]:
    """Return the result as lines of text: the table, the ratio, and the verdict."""
    lines = [f"{'':20}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'count':>8}"]
    for sample in (getattr(result, each.name) for each in fields(result)):
        p50, p99 = sample.milliseconds(50), sample.milliseconds(99)
        lines.append(
            f"{sample.name:20}{sample.per_second:10.0f}{p50:9.2f}{p99:9.2f}{len(sample.latencies):8}"
        )
    p99 = result.beside_readers.milliseconds(99)
    rate_is = f"ratio {result.ratio:.2f} (at least {LEAST_RATIO})"
    latency_is = f"p99 beside {READERS} readers {p99:.1f} ms (under {MOST_P99_MILLISECONDS:.0f})"
    in_one = f"{result.in_one_process.milliseconds(99):.1f} ms in one process with them"
    verdict = "held" if result.holds else "MISSED"
    return [*lines, f"bench-webhook: {verdict}: {rate_is}, {latency_is}; {in_one}"]


def main() -> int:
    """Run the benchmark. Return the exit code: 0 if the webhook meets its performance promise, otherwise 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=400, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--senders", type=int, default=16, help="at work at once")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="resguardo-bench-") as home,
        postgres.running(Path(home) / "postgres") as url,
        practice.running(Cluster(url, Path(home)), Path(home), doctors=32, recordings=50) as place,
    ):
        gc.collect()
        gc.freeze()  # A garbage collection of this process must not count as latency of the server
        result = asyncio.run(measure(place, events=given.events, rounds=given.rounds, senders=given.senders))
    print("\n".join(report(result)))  # noqa: T201 - what it is run for
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
