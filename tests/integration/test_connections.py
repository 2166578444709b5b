"""Every connection sets the Postgres parameters that the code relies on, even if the database, the role or the
environment has different defaults.
"""

import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from app.jobs.queue import make_queue
from app.postgres import connections
from app.postgres.connections import connect
from app.postgres.database import Database as Pool
from app.postgres.dedicated_connections import DedicatedConnections
from app.postgres.owner import as_owner
from tests.databases import API_ROLE, WORKER_ROLE, Database

pytestmark = pytest.mark.anyio

HOSTILE = {
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "client_encoding": "LATIN1",
    "search_path": "pg_temp, public",
    "statement_timeout": "500ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "500ms",
    "default_transaction_isolation": "serializable",
    "row_security": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "gin_fuzzy_search_limit": "1",
    "exit_on_error": "on",
    "synchronous_commit": "off",
    "log_parameter_max_length_on_error": "100",
}
SHOWN = "select name, setting from pg_catalog.pg_settings where name = any(%s)"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def hostile(database: Database) -> Database:
    """Return a database in which the defaults of the database and of its roles differ from the parameters that
    Resguardo needs.
    """
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        for name, value in HOSTILE.items():
            of_database = sql.SQL("alter database {} set {} to {}")
            values = sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
            connection.execute(
                of_database.format(sql.Identifier(database.name), sql.Identifier(name), values)
            )
            for role in (API_ROLE, WORKER_ROLE):
                of_role = sql.SQL("alter role {} in database {} set {} to {}")
                connection.execute(
                    of_role.format(
                        sql.Identifier(role), sql.Identifier(database.name), sql.Identifier(name), values
                    )
                )
    return database


@asynccontextmanager
async def _pooled(database: Database) -> AsyncIterator[Any]:
    pool = Pool(database.api_url, application="test", max_size=1)
    async with pool.as_service("test") as tx:
        yield tx._connection
    await pool.close()


@asynccontextmanager
async def _standing(database: Database) -> AsyncIterator[Any]:
    async with DedicatedConnections(database.worker_url, "test")._opened("leader") as connection:
        yield connection


@asynccontextmanager
async def _queued(database: Database) -> AsyncIterator[Any]:
    queue = make_queue(database.worker_url, [])
    async with queue.open_async(), queue.connector.pool.connection() as connection:  # type: ignore[attr-defined]
        yield connection


@asynccontextmanager
async def _queue_listens(database: Database) -> AsyncIterator[Any]:
    async with make_queue(database.worker_url, []).connector._listener() as connection:  # type: ignore[attr-defined]
        yield connection


def _expected(search_path: str, others: dict[str, str]) -> dict[str, str]:
    return {**connections._SETTINGS, **others, "search_path": search_path}


PROCESSES = {
    "pooled": (_pooled, connections.SEARCH_PATH),
    "standing": (_standing, connections.SEARCH_PATH),
    "queue": (_queued, "jobs, pg_catalog, pg_temp"),
    "queue listens": (_queue_listens, "jobs, pg_catalog, pg_temp"),
}


@pytest.mark.parametrize("which", PROCESSES)
async def test_settings_are_made_on_every_connection_of_a_process(hostile: Database, which: str) -> None:
    opened, search_path = PROCESSES[which]
    async with opened(hostile) as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
        expected = _expected(search_path, dict(connections._OF_A_PROCESS))
        await cursor.execute(SHOWN, (list(expected),))
        found = dict(await cursor.fetchall())
    assert found == {name: value for name, value in expected.items() if name in found}
    assert found.keys() >= HOSTILE.keys()


async def test_settings_are_made_on_the_owners_connection(hostile: Database) -> None:
    with as_owner(hostile.owner_url) as connection:
        expected = _expected(connections.SEARCH_PATH, dict(connections._OF_THE_OWNER))
        found = dict(connection.execute(SHOWN, (list(expected),)).fetchall())
    assert found == {name: value for name, value in expected.items() if name in found}


async def test_read_only_mode_of_a_database_is_respected(database: Database) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        statement = sql.SQL("alter database {} set default_transaction_read_only = on")
        connection.execute(statement.format(sql.Identifier(database.name)))
    async with await connect(database.api_url, application="test") as made:
        cursor = await made.execute("select current_setting('transaction_read_only') as it")
        assert await cursor.fetchone() == {"it": "on"}


async def test_settings_outlive_a_transaction_that_is_rolled_back(hostile: Database) -> None:
    pool = Pool(hostile.api_url, application="test", max_size=1)
    with contextlib.suppress(ZeroDivisionError):
        async with pool.as_service("test"):
            raise ZeroDivisionError
    async with pool.as_service("test") as tx:
        assert await tx.value("select current_setting('DateStyle')") == "ISO, YMD"
        assert await tx.value("select '2026-02-03'::date::text") == "2026-02-03"
    await pool.close()


def test_no_connection_is_made_elsewhere() -> None:
    made = re.compile(
        r"\b(psycopg|AsyncConnection|Connection|AsyncConnectionPool|ConnectionPool)(\.connect)?\("
    )
    elsewhere = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "app").rglob("*.py")
        if made.search(path.read_text(encoding="utf-8"))
    }
    others = {"app/http/middleware.py", "app/integrations/webhook_endpoints/client.py"}  # connections of HTTP
    assert elsewhere - {"app/postgres/connections.py"} - others == set()
