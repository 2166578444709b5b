"""Tests of periodic tasks. Only one worker at a time, the leader, runs the periodic tasks. Soon after the leader's
death, a second worker becomes the leader. A periodic task that fails does not end the other periodic tasks.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from app.errors import UpstreamFailed
from app.jobs import periodic
from app.jobs.leader_watch import LeaderWatch
from app.jobs.lease import Lease
from app.jobs.periodic import PeriodicTask, run_periodic_tasks
from app.postgres.database import Database as Pool
from tests.databases import Database

pytestmark = pytest.mark.anyio

WORDS = "the patient said: my head hurts"
LEASE = "select number, leader is not null and expires_at > clock_timestamp() from private.leadership"
ENDED = "update private.leadership set expires_at = clock_timestamp()"
CONNECTIONS = (
    "select pid from pg_stat_activity where application_name = 'test-leader' and datname = current_database()"
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "RETRY_SECONDS", 0.05)


@dataclass
class Process:
    """Simulates a worker process that has one periodic task, and counts the runs of this task."""

    begun: int = 0
    runs: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def begin(self) -> None:
        self.begun += 1

    async def run(self) -> None:
        self.runs += 1

    @property
    def periodic_task(self) -> PeriodicTask:
        return PeriodicTask("count", 0.01, self.run, self.begin)


@asynccontextmanager
async def _running(url: str, due: Sequence[PeriodicTask]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_periodic_tasks(Pool(url, application="test"), due))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - periodic tasks send no signal to wait for
            await asyncio.sleep(0.01)


def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.superuser_url) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def _pids(database: Database, query: str) -> list[int]:
    with psycopg.connect(database.superuser_url) as connection:
        return [pid for (pid,) in connection.execute(query.encode())]


async def test_one_of_two_leads_and_the_other_takes_over_when_it_ends(database: Database) -> None:
    first, second = Process(), Process()
    async with _running(database.worker_url, [first.periodic_task]) as leading:
        await _until(lambda: first.runs > 0)
        async with _running(database.worker_url, [second.periodic_task]):
            await _until(lambda: len(_pids(database, CONNECTIONS)) == 2)
            seen = first.runs
            await _until(lambda: first.runs > seen + 5)
            assert (first.begun, second.begun, second.runs) == (1, 0, 0)
            assert _rows(database, LEASE) == [(1, True)]
            leading.cancel()
            await _until(lambda: second.runs > 0)
            assert second.begun == 1
            assert _rows(database, LEASE) == [(2, True)]


async def test_leader_whose_connection_is_cut_takes_its_own_lease_again_at_once(database: Database) -> None:
    first, second = Process(), Process()
    async with _running(database.worker_url, [first.periodic_task]):
        await _until(lambda: first.runs > 0)
        (pid,) = _pids(database, CONNECTIONS)
        async with _running(database.worker_url, [second.periodic_task]):
            await _until(lambda: len(_pids(database, CONNECTIONS)) == 2)
            _rows(database, f"select pg_terminate_backend({pid}, 5000)")
            await _until(lambda: first.begun == 2)
            assert (second.begun, _rows(database, LEASE)) == (0, [(2, True)])


async def test_leader_whose_lease_has_ended_is_followed_and_runs_no_task_after_that(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, frozen = Process(), Process(), asyncio.Event()
    frozen.set()

    async def renew_unless_frozen(lease: Lease) -> None:
        await frozen.wait()
        await renew(lease)

    renew = Lease.renew
    with pytest.MonkeyPatch.context() as patch:
        async with _running(database.worker_url, [first.periodic_task]):
            await _until(lambda: first.runs > 0)
            frozen.clear()
            patch.setattr(Lease, "renew", renew_unless_frozen)
            await asyncio.sleep(0)
            _rows(database, ENDED)
            seen = await _once_still(first)
            patch.undo()
            async with _running(database.worker_url, [second.periodic_task]):
                await _until(lambda: second.runs > 0)
                frozen.set()
                await _until(lambda: "this worker does not lead: lead_lost" in caplog.text)
                before = second.runs
                await _until(lambda: second.runs > before + 5)
                assert (first.runs, first.begun, second.begun) == (seen, 1, 1)
    assert "the leader did not renew its lease: leader=" in caplog.text


async def _once_still(process: Process) -> int:
    """Wait until the process has stopped running its periodic task. Return how often the process has run its
    periodic task.
    """
    runs = -1
    while runs != process.runs:
        runs = process.runs
        await asyncio.sleep(0.1)
    return runs


async def test_periodic_task_that_wakes_up_after_another_took_the_lead_changes_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    asleep, woken = asyncio.Event(), asyncio.Event()
    pool, seen = Pool(database.worker_url, application="test", max_size=2), list[int]()
    await pool.open()

    async def stand_still() -> None:
        asleep.set()
        await woken.wait()
        await asyncio.gather(asyncio.create_task(write()))

    async def write() -> None:
        async with pool.as_service("test") as tx:
            seen.append(await tx.value("select 1"))

    try:
        async with _running(database.worker_url, [PeriodicTask("still", 60, stand_still)]):
            await asyncio.wait_for(asleep.wait(), 20)
            _rows(database, ENDED)
            assert len(_rows(database, "select * from private.take_lease('another', null)")) == 1
            woken.set()
            await _until(lambda: "lead_lost" in caplog.text)
        assert seen == []
        await write()  # Outside of a periodic task
        assert seen == [1]
    finally:
        await pool.close()


async def test_connection_of_the_leader_notices_a_dead_peer(database: Database) -> None:
    async with Pool(database.worker_url, application="test").dedicated.connection("leader") as connection:
        parameters = connection.info.get_parameters()
    assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == ("5", "10000")


@pytest.mark.parametrize("leap", ["1 year", "-1 year"])
async def test_leader_is_elected_after_the_database_clock_jumped(database: Database, leap: str) -> None:
    """The test moves the stored expiry of the leader's lease by a year, because after a jump of the database's
    clock the expiry would differ by as much.
    """
    _rows(database, "select * from private.take_lease('dead', null)")
    moved = "update private.leadership set renewed_at = renewed_at + leap, expires_at = expires_at + leap"
    _rows(database, moved.replace("leap", f"interval '{leap}'"))
    process = Process()
    async with _running(database.worker_url, [process.periodic_task]):
        await _until(lambda: process.runs > 1)


def test_lease_is_written_by_the_worker_alone_and_locked_by_nobody_else(database: Database) -> None:
    with psycopg.connect(database.api_url, autocommit=True) as api:
        for attempt in (
            "select private.take_lease('api', null)",
            "select private.renew_lease(1)",
            "select private.give_lease_back(1)",
            "update private.leadership set number = 9",
            "select * from private.leadership for update",
            "lock table private.leadership in access exclusive mode",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), api.transaction():
                api.execute(attempt.encode())
        api.execute("select pg_advisory_lock(hashtextextended('resguardo.leader', 0))")
        with psycopg.connect(database.worker_url) as worker:
            assert worker.execute("select number from private.take_lease('worker', null)").fetchall() == [
                (1,)
            ]
        assert api.execute("select seconds from private.last_led()").fetchall() == [(0,)]


def test_lease_of_one_process_is_not_taken_renewed_or_given_back_by_another(database: Database) -> None:
    with psycopg.connect(database.worker_url, autocommit=True) as worker:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return worker.execute(query.encode()).fetchall()

        assert ask("select * from private.take_lease('one', null)") == [(1, None, None)]
        assert ask("select * from private.take_lease('two', null)") == []
        assert ask("select * from private.take_lease('two', 7)") == []
        assert ask("select private.renew_lease(2), private.renew_lease(1)") == [(False, True)]
        worker.execute("select private.give_lease_back(2)")
        assert _rows(database, LEASE) == [(1, True)]
        worker.execute("select private.give_lease_back(1)")
        assert ask("select private.renew_lease(1)") == [(False,)], (
            "a lease that was given back cannot be renewed"
        )
        [(number, _, lapsed)] = ask("select * from private.take_lease('two', null)")
        assert (number, lapsed) == (2, None)
        assert ask("select number, lapsed_leader from private.take_lease('two', 2)") == [(3, None)]
        _rows(database, ENDED)
        assert ask("select private.renew_lease(3)") == [(False,)], "an expired lease cannot be renewed"
        assert ask("select number, lapsed_leader from private.take_lease('one', 1)") == [(4, "two")]


async def test_periodic_task_that_fails_is_logged_without_its_message_and_ends_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.jobs.periodic")
    runs = {"refused": 0, "broken": 0}
    good = Process()

    async def refused() -> None:
        runs["refused"] += 1
        raise UpstreamFailed("livekit_unavailable")

    async def broken() -> None:
        runs["broken"] += 1
        raise ValueError(WORDS)

    due = [PeriodicTask("refused", 0.01, refused), PeriodicTask("broken", 0.01, broken), good.periodic_task]
    async with _running(database.worker_url, due) as task:
        await _until(lambda: min(good.runs, *runs.values()) > 2)
        assert not task.done()
    assert good.begun == 1
    assert "periodic task failed: refused livekit_unavailable" in caplog.text
    assert "periodic task failed: broken builtins.ValueError at " in caplog.text
    assert WORDS not in caplog.text


async def test_periodic_task_that_takes_long_holds_up_no_other(database: Database) -> None:
    good, begun, ended = Process(), asyncio.Event(), asyncio.Event()

    async def long() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with _running(database.worker_url, [PeriodicTask("long", 0.01, long), good.periodic_task]):
        await begun.wait()
        await _until(lambda: good.runs > 3)
        assert not ended.is_set()
    assert ended.is_set(), "the running task did not end with its leader"


async def test_periodic_task_that_loses_its_cancellation_is_cancelled_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "CANCEL_AGAIN_SECONDS", 0.05)
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
        async with _running(database.worker_url, [PeriodicTask("deaf", 0.01, loses_the_first)]) as task:
            await begun.wait()
        assert task.cancelled()
    assert lost == 2


async def test_cancelled_periodic_tasks_leave_nothing_behind(database: Database) -> None:
    before, process = asyncio.all_tasks(), Process()
    async with _running(database.worker_url, [process.periodic_task]) as task:
        await _until(lambda: process.runs > 0)
    assert task.cancelled()
    assert asyncio.all_tasks() == before
    await _until(lambda: not _pids(database, CONNECTIONS))


async def test_database_that_is_not_there_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    async with _running("postgresql://nobody@127.0.0.1:1/none", [process.periodic_task]) as task:
        await _until(lambda: caplog.text.count("this worker does not lead: database_unavailable") > 1)
        assert not task.done()
    assert (process.begun, process.runs) == (0, 0)


async def test_watch_warns_once_nobody_has_led_for_half_a_minute_and_again_after_ten(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.jobs.leader_watch")
    pool, now = Pool(database.api_url, application="test", max_size=1), [0.0]
    watch = LeaderWatch(pool, clock=lambda: now[0])
    await pool.open()
    try:
        await watch.check()
        assert (await watch.read()).seconds is None
        with psycopg.connect(database.worker_url) as worker:
            worker.execute("select private.take_lease('worker', null)")
        await watch.check()
        assert (await watch.read()).seconds == 0
        assert caplog.text == ""
        _rows(
            database,
            "update private.leadership set renewed_at = now() - interval '31 seconds', expires_at = now()",
        )
        for now[0] in (1.0, 2.0, 600.0, 601.0, 602.0):
            await watch.check()
        assert caplog.text.count("nobody has led since ") == 2
        with psycopg.connect(database.worker_url) as worker:
            worker.execute("select private.take_lease('another', null)")
        await watch.check()
        assert "a worker leads again" in caplog.text
    finally:
        await pool.close()
