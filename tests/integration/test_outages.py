"""Tests of a database that restarts, hangs, is read-only, or has no free connection: callers get a clear error
within a deadline.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from starlette.requests import Request

from app.deployment import require_own_database
from app.errors import AppError, Timeout, UpstreamFailed
from app.http import health
from app.jobs.connector import QueueConnector
from app.postgres import connections
from app.postgres.connections import Connection
from app.postgres.database import Access
from app.postgres.database import Database as Pool
from app.texts import operator_message
from app.worker.outage import PAUSES_SECONDS, STEADY_SECONDS, Outage
from devstack.supabase_project import with_database
from tests.databases import Database
from tests.faults.proxy import Proxy
from tests.integration.recording_harness import DOCTOR, asker, seed_people

pytestmark = pytest.mark.anyio

ACCESS = Access("recording.list", {"clinician"}, "recording")
WRITE = "select private.receive_livekit_event('EV_1', 'room_started', null, 'r', now())"


def _alter(database: Database, statement: str) -> None:
    server = with_database(database.superuser_url, "postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(database.name)))


def _end_sessions(database: Database) -> int:
    """End all sessions of clients, as a restart of the server does. Return the number of ended sessions."""
    query = (
        "select pg_terminate_backend(pid, 20000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    with psycopg.connect(database.superuser_url) as connection:
        return len(connection.execute(query).fetchall())


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Proxy]:
    parts = urlsplit(database.api_url)
    async with Proxy((parts.hostname or "", parts.port or 0)).running() as proxy:
        yield proxy


def _through(wire: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{wire.port}").geturl()


async def _fill(pool: Pool, count: int) -> None:
    """Let the pool open `count` connections, and return all of them to the pool."""
    everybody_in = asyncio.Barrier(count)

    async def one() -> None:
        async with pool.as_service("test"):
            await everybody_in.wait()

    await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.parametrize("count", [1, 5, 16])
async def test_first_transaction_after_a_restart_is_served_and_every_dead_connection_is_gone(
    database: Database, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    connect = connections.connect

    async def counted(*arguments: Any, **named: Any) -> Connection:
        made.append(arguments)
        return await connect(*arguments, **named)

    monkeypatch.setattr("app.postgres.pool.connect", counted)
    pool = Pool(database.api_url, application="test", max_size=16)
    await _fill(pool, count)
    assert _end_sessions(database) == len(made) == count
    async with pool.as_service("test") as tx:
        assert await tx.value("select 1") == 1
    assert len(made) == count + 1
    assert len(pool._pool._idle) == 1
    await pool.close()


async def test_statement_that_is_not_answered_is_given_up_and_its_connection_closed(
    database: Database, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "exchange_seconds", 0.2)
    pool = Pool(_through(wire, database.api_url), application="test", max_size=2)
    used: list[Connection] = []
    with pytest.raises(Timeout, match="database_slow"):
        await _ask_frozen(pool, wire, used)
    assert used[0].closed
    await pool.close()


async def _ask_frozen(pool: Pool, wire: Proxy, used: list[Connection]) -> None:
    async with pool.as_service("test") as tx:
        used.append(tx._connection)
        with wire.frozen():
            await tx.value("select 1")


@pytest.mark.parametrize("is_idle", [True, False])
async def test_transaction_with_a_frozen_database_ends_at_its_deadline(
    database: Database, wire: Proxy, monkeypatch: pytest.MonkeyPatch, *, is_idle: bool
) -> None:
    """The test runs once with an idle connection from the pool and once with a new connection, because a connection
    attempt has a deadline, too.
    """
    seed_people(database)
    monkeypatch.setattr(connections, "CANCEL_SECONDS", 0.05)
    pool = Pool(_through(wire, database.api_url), application="test", max_size=2, seconds=0.3)
    if is_idle:
        await pool.open()
    async with asyncio.timeout(30):
        with wire.frozen():
            for _ in range(3):
                with pytest.raises(Timeout, match="database_slow"):
                    async with pool.as_user(asker(DOCTOR), ACCESS):
                        pytest.fail("the database answered")
    pool._seconds = 30
    async with pool.as_service("test") as tx:
        assert await tx.value("select 1") == 1
    await pool.close()


async def test_readiness_with_a_frozen_database_says_so_at_its_own_deadline(
    database: Database, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health.READY_SECONDS + 2 * connections.CANCEL_SECONDS < 2
    monkeypatch.setattr(health, "READY_SECONDS", 0.1)
    pool = Pool(_through(wire, database.api_url), application="test")
    await pool.open()
    ready = health.Ready(pool)
    async with asyncio.timeout(30):
        with wire.frozen():
            answers = [await ready(Request({"type": "http"})) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    await pool.close()


async def test_readiness_with_a_full_pool_does_not_wait_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READY_SECONDS", 0.1)
    pool = Pool(database.api_url, application="test", max_size=1)
    async with asyncio.timeout(30), pool.as_service("test"):
        answer = await health.Ready(pool)(Request({"type": "http"}))
    assert answer.status_code == 503
    await pool.close()


async def test_read_only_database_is_named_by_reads_writes_and_readiness(database: Database) -> None:
    seed_people(database)
    _alter(database, "alter database {} set default_transaction_read_only = on")
    pool = Pool(database.api_url, application="test", max_size=1)
    with pytest.raises(UpstreamFailed, match="database_read_only") as refused:
        async with pool.as_user(asker(DOCTOR), ACCESS) as tx:
            await tx.run("select private.register_patient('p', null, null)")
    assert refused.value.retryable
    with pytest.raises(UpstreamFailed, match="database_read_only"):
        async with pool.as_service_once("test") as tx:
            await tx.value(WRITE)
    with pytest.raises(UpstreamFailed, match="database_read_only"):
        await pool.require_ready()
    with pytest.raises(UpstreamFailed, match="database_read_only") as refused:
        await require_own_database(pool, "any")  # `check` and every start of a process call this
    assert "95%" in operator_message(refused.value.reason)
    await pool.close()


OUTAGES = {
    "25006": "database_read_only",
    "53100": "database_disk_full",
    "53200": "database_out_of_memory",
    "53300": "database_connections_used_up",
    "53400": "database_unavailable",
    "57P01": "database_unavailable",
    "57P02": "database_unavailable",
    "57P03": "database_unavailable",
    "58030": "database_unavailable",
    "08006": "database_unavailable",
}


@pytest.mark.parametrize("state", OUTAGES)
async def test_outage_is_told_apart_by_its_state_and_may_be_tried_again(
    database: Database, state: str
) -> None:
    pool = Pool(database.api_url, application="test", max_size=1)
    with pytest.raises(UpstreamFailed) as failed:
        async with pool.as_service("test") as tx:
            await tx.run(f"do $$ begin raise exception 'x' using errcode = '{state}'; end $$")
    assert (failed.value.reason, failed.value.retryable) == (OUTAGES[state], True)
    await pool.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("alter database {} connection limit 0", "database_connections_used_up"),
        ("alter database {} allow_connections false", "database_unavailable"),
    ],
)
async def test_database_that_takes_no_connection_says_why_at_once(
    database: Database, statement: str, reason: str
) -> None:
    _alter(database, statement)
    pool = Pool(database.api_url, application="test")
    with pytest.raises(UpstreamFailed, match=reason):
        await pool.open()
    _alter(database, "alter database {} connection limit -1 allow_connections true")


async def test_each_change_of_what_is_wrong_is_one_line_of_the_log(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.postgres.database")
    pool = Pool(database.api_url, application="test", max_size=1)
    _alter(database, "alter database {} connection limit 0")
    for _ in range(3):
        with pytest.raises(AppError):
            await pool.open()
    _alter(database, "alter database {} connection limit -1")
    for _ in range(3):
        await pool.open()
    assert [record.getMessage() for record in caplog.records] == [
        "the database does not work: database_connections_used_up",
        "the database works again",
    ]
    await pool.close()


async def test_end_of_a_job_that_could_not_be_written_is_told_by_the_connector(database: Database) -> None:
    connector = QueueConnector(database.worker_url, [])
    await connector.open_async()
    refused = "do $$ begin raise exception 'the job is another worker''s'; end $$"
    for statement, is_lost in ((refused, False), ("select 1 / 0", True)):
        with pytest.raises(Exception, match="Database error"):
            await connector.execute_query_async(statement)
        assert connector.lost.is_set() is is_lost
    await connector.close_async()


def test_pauses_grow_and_begin_anew_after_steady_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.worker.outage")
    now = 0.0
    monkeypatch.setattr("app.worker.outage.time.monotonic", lambda: now)
    monkeypatch.setattr("app.worker.outage.random.uniform", lambda least, most: most)
    outage, pauses = Outage(), []
    for _ in range(8):
        outage.begin("database_unavailable")
        pauses.append(outage.next_pause())
    assert pauses == [*PAUSES_SECONDS, PAUSES_SECONDS[-1], PAUSES_SECONDS[-1]]
    outage.end()
    outage.begin("database_read_only")
    assert outage.next_pause() == PAUSES_SECONDS[-1], "the database worked too briefly to reset the pauses"
    outage.end()
    now += STEADY_SECONDS + 1
    outage.begin("database_read_only")
    assert outage.next_pause() == PAUSES_SECONDS[0]
    assert [record.getMessage() for record in caplog.records] == [
        "the worker waits: database_unavailable",
        "the worker works again",
        "the worker waits: database_read_only",
        "the worker works again",
        "the worker waits: database_read_only",
    ]
