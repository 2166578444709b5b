"""Helpers for tests of the laws: they run a transaction as one actor, or two transactions at once."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from tests.databases import Database
from tests.policies.actors import Actor, Case, Connection, actor, enter, url_of

LONGEST_WAIT_SECONDS = 10
START: LiteralString = (
    "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)"
    " select gen_random_uuid(), c.id, c.doctor_id, c.patient_id, c.doctor_id, c.room_name"
    " from resguardo.consultations as c where c.id = %s"
)
LOCK: LiteralString = "select private.lock_consultation(%s)"
RELEASE: LiteralString = "select private.release_object_key('recording.issue_url', %s, null)"


@contextmanager
def acting(database: Database, who: Actor | str) -> Iterator[Connection]:
    """Open a database transaction with the role and claims of this actor, and commit it at the end."""
    known = actor(who) if isinstance(who, str) else who
    with psycopg.connect(url_of(database, known)) as connection:
        enter(connection, known)
        yield connection


@contextmanager
def superuser(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


def value(connection: Connection, statement: LiteralString, *values: Any) -> Any:
    """Run a statement and return the first column of its only row."""
    row = connection.execute(statement, values).fetchone()
    assert row is not None
    return row[0]


def outcome(connection: Connection, statement: LiteralString, *values: Any) -> tuple[str, str, int]:
    """Run a statement and return its SQLSTATE, its error message and its number of rows. The SQLSTATE and the
    message are empty if the statement succeeds.
    """
    try:
        return "", "", connection.execute(statement, values).rowcount
    except psycopg.Error as error:
        return error.sqlstate or "", error.diag.message_primary or "", 0


@contextmanager
def refused(sqlstate: str, message: str = "") -> Iterator[None]:
    """Require that the database refuses a statement in the `with` block with this SQLSTATE and message. After the
    refusal, the transaction of the statement accepts no further statement.
    """
    with pytest.raises(psycopg.Error) as caught:
        yield
    assert caught.value.sqlstate == sqlstate, caught.value
    assert message in (caught.value.diag.message_primary or "")


def start(connection: Connection, case: Case, consultation: str) -> UUID:
    """Insert a recording with the doctor's connection, after taking the lock that the API also takes."""
    connection.execute(LOCK, [case.id_of(consultation)])
    connection.execute(START, [case.id_of(consultation)])
    return case.id_of(consultation)


@contextmanager
def at_once(
    database: Database, holder: Connection, waiting: Callable[[], Any], *, waits: bool = True
) -> Iterator[Future[Any]]:
    """Call `waiting` in a second thread. The `with` block begins when `waiting` waits for a lock of `holder`. If
    `waits` is false, the block begins after `waiting` has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(waiting)
        if waits:
            _until_blocked(database, holder.info.backend_pid, future)
        else:
            future.exception(LONGEST_WAIT_SECONDS)
        yield future


def _until_blocked(database: Database, holder: int, waiting: Future[Any]) -> None:
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    with superuser(database) as watcher:
        while not value(
            watcher,
            "select exists (select from pg_stat_activity where %s = any(pg_blocking_pids(pid)))",
            holder,
        ):
            assert not waiting.done(), "it did not wait"
            assert time.monotonic() < end, "it never came to wait"
            time.sleep(0.005)
