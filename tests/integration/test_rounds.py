"""Rounds: one leader at a time, another soon after it is gone, and no round that ends the others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from app.db import Database as Pool
from app.errors import UpstreamFailed
from app.jobs import rounds
from app.jobs.rounds import Round, run_rounds
from tests.databases import Database

pytestmark = pytest.mark.anyio

WORDS = "the patient said: my head hurts"
LEADERS = """
select a.pid from pg_stat_activity as a join pg_locks as l on l.pid = a.pid
where l.locktype = 'advisory' and l.granted and a.datname = current_database() and a.application_name = 'test-leader'
"""
CONNECTIONS = (
    "select pid from pg_stat_activity where application_name = 'test-leader' and datname = current_database()"
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RETRY_SECONDS", 0.05)


@dataclass
class Process:
    """What one process does in its rounds; `task` runs them."""

    begun: int = 0
    runs: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def begin(self) -> None:
        self.begun += 1

    async def run(self) -> None:
        self.runs += 1

    @property
    def round(self) -> Round:
        return Round("count", 0.01, self.run, self.begin)


@asynccontextmanager
async def _running(url: str, due: Sequence[Round]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_rounds(Pool(url, application="test"), due))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - rounds tell nobody
            await asyncio.sleep(0.01)


def _pids(database: Database, query: str) -> list[int]:
    with psycopg.connect(database.superuser_url) as connection:
        return [pid for (pid,) in connection.execute(query.encode())]


async def test_one_of_two_leads_and_the_other_takes_over_when_it_ends(database: Database) -> None:
    first, second = Process(), Process()
    async with _running(database.worker_url, [first.round]) as leading:
        await _until(lambda: first.runs > 0)
        async with _running(database.worker_url, [second.round]):
            await _until(lambda: len(_pids(database, CONNECTIONS)) == 2)
            seen = first.runs
            await _until(lambda: first.runs > seen + 5)
            assert (first.begun, second.begun, second.runs) == (1, 0, 0)
            assert len(_pids(database, LEADERS)) == 1
            leading.cancel()
            await _until(lambda: second.runs > 0)
            assert second.begun == 1


async def test_leader_whose_connection_is_cut_is_followed_by_one_leader_that_begins_anew(
    database: Database,
) -> None:
    both = [Process(), Process()]
    async with (
        _running(database.worker_url, [both[0].round]),
        _running(database.worker_url, [both[1].round]),
    ):
        await _until(lambda: sum(one.begun for one in both) == 1)
        (pid,) = _pids(database, LEADERS)
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(%s, 5000)", (pid,))
        await _until(lambda: sum(one.begun for one in both) == 2)
        (other,) = _pids(database, LEADERS)
        assert other != pid
        await _until(lambda: len(_pids(database, CONNECTIONS)) == 2)

        before = {id(one): one.runs for one in both}
        await _until(lambda: sum(one.runs - before[id(one)] for one in both) > 10)
        assert sum(one.runs > before[id(one)] + 1 for one in both) == 1


async def test_round_that_fails_is_told_without_its_words_and_ends_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.jobs.rounds")
    runs = {"refused": 0, "broken": 0}
    good = Process()

    async def refused() -> None:
        runs["refused"] += 1
        raise UpstreamFailed("livekit_unavailable")

    async def broken() -> None:
        runs["broken"] += 1
        raise ValueError(WORDS)

    due = [Round("refused", 0.01, refused), Round("broken", 0.01, broken), good.round]
    async with _running(database.worker_url, due) as task:
        await _until(lambda: min(good.runs, *runs.values()) > 2)
        assert not task.done()
    assert good.begun == 1
    assert "round failed: refused livekit_unavailable" in caplog.text
    assert "round failed: broken builtins.ValueError at " in caplog.text
    assert WORDS not in caplog.text


async def test_round_that_takes_long_holds_up_no_other(database: Database) -> None:
    good, begun, ended = Process(), asyncio.Event(), asyncio.Event()

    async def long() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with _running(database.worker_url, [Round("long", 0.01, long), good.round]):
        await begun.wait()
        await _until(lambda: good.runs > 3)
        assert not ended.is_set()
    assert ended.is_set(), "a round that goes on is cut short with its leader"


async def test_round_that_loses_its_cancellation_is_cancelled_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "CANCEL_AGAIN_SECONDS", 0.05)
    begun, lost = asyncio.Event(), 0

    async def loses_the_first() -> None:
        nonlocal lost
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost += 1
            if lost > 1:
                raise

    async with asyncio.timeout(20):
        async with _running(database.worker_url, [Round("deaf", 0.01, loses_the_first)]) as task:
            await begun.wait()
        assert task.cancelled()
    assert lost == 2


async def test_cancelled_rounds_leave_nothing_behind(database: Database) -> None:
    before, process = asyncio.all_tasks(), Process()
    async with _running(database.worker_url, [process.round]) as task:
        await _until(lambda: process.runs > 0)
    assert task.cancelled()
    assert asyncio.all_tasks() == before
    await _until(lambda: not _pids(database, CONNECTIONS))


async def test_database_that_is_not_there_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    async with _running("postgresql://nobody@127.0.0.1:1/none", [process.round]) as task:
        await _until(lambda: caplog.text.count("the rounds were lost: database_unavailable") > 1)
        assert not task.done()
    assert (process.begun, process.runs) == (0, 0)
