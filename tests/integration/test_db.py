"""Tests of transactions as a user and as a service: after a transaction, its role and its claims are no longer set
on the connection.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

import app.postgres.connections
import app.postgres.database
from app.errors import AppError, Conflict, Forbidden, NotFound, Timeout, Unauthenticated, UpstreamFailed
from app.postgres.connections import Connection
from app.postgres.database import Access, Asker
from app.postgres.database import Database as Pool
from app.postgres.errors import translate
from tests.databases import Database
from tests.integration.recording_harness import DOCTOR, PATIENT, asker, seed_people

pytestmark = pytest.mark.anyio

ACCESS = Access("recording.list", {"clinician"}, "recording")
LEFT_OVER = """
select
    current_setting('role') as role,
    coalesce(current_setting('request.jwt.claims', true), '') as claims,
    coalesce(current_setting('resguardo.request_id', true), '') as request_id,
    coalesce(current_setting('resguardo.address', true), '') as address,
    coalesce(current_setting('resguardo.service_reason', true), '') as reason,
    pg_backend_pid() as backend
"""


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Yield a connection pool with a single connection, so that consecutive transactions use the same connection."""
    seed_people(database)
    made = Pool(database.api_url, application="test", max_size=1)
    await made.open()
    yield made
    await made.close()


async def _left_over(pool: Pool) -> tuple[Any, ...]:
    async with pool._pool.connection() as connection:
        cursor = await connection.execute(LEFT_OVER.encode())
        row = await cursor.fetchone()
        assert row is not None
        return tuple(row.values())


async def _end(pool: Pool, how: str) -> None:
    """Run a transaction as the doctor. If `how` is "well", the transaction commits. For any value of `how` except
    "well", the transaction fails with the error that `how` names.
    """
    async with pool.as_user(asker(DOCTOR), ACCESS) as tx:
        assert tx.role == "clinician"
        assert await tx.value("select current_setting('role')") == "clinician"
        assert str(DOCTOR) in await tx.value("select current_setting('request.jwt.claims')")
        if how == "conflict":
            raise Conflict("live_recording_exists")
        if how == "not found":
            raise NotFound("recording_not_found")
        if how == "bug":
            raise ZeroDivisionError
        if how == "sql":
            await tx.run("select 1 / 0")


@pytest.mark.parametrize("how", ["well", "conflict", "not found", "bug", "sql"])
async def test_identity_does_not_outlive_its_transaction(pool: Pool, how: str) -> None:
    *before, backend = await _left_over(pool)
    try:
        await _end(pool, how)
    except (AppError, ZeroDivisionError, psycopg.errors.DivisionByZero):
        assert how != "well"
    *after, same_backend = await _left_over(pool)
    assert before == after == ["none", "", "", "", ""]
    assert backend == same_backend


async def test_service_reason_does_not_outlive_its_transaction(pool: Pool) -> None:
    async with pool.as_service("test") as tx:
        assert tx.role == "service"
        assert await tx.value("select current_setting('resguardo.service_reason')") == "test"
    *left, _ = await _left_over(pool)
    assert left == ["none", "", "", "", ""]


async def test_single_statement_says_its_reason_and_leaves_nothing(pool: Pool) -> None:
    async with pool.as_service_once("test") as tx:
        assert await tx.value("select current_setting('resguardo.service_reason')") == "test"
    async with pool.as_service_once("test") as tx:
        assert await tx.value("select %(given)s::integer + 1", {"given": 1}) == 2
    *left, _ = await _left_over(pool)
    assert left == ["none", "", "", "", ""]


async def test_single_statement_is_committed_and_what_follows_is_a_transaction_again(
    database: Database, pool: Pool
) -> None:
    call: LiteralString = "select private.receive_livekit_event('EV_1', 'room_started', null, 'r', now())"
    for is_new in (True, False):
        async with pool.as_service_once("test") as tx:
            assert await tx.value(call) is is_new
    async with pool.as_service("test") as tx:
        await tx.value(call.replace("EV_1", "EV_2"))
        await tx.run("rollback")
    with psycopg.connect(database.superuser_url) as connection:
        kept = connection.execute("select event_id from private.livekit_events").fetchall()
    assert kept == [("EV_1",)]


async def test_single_statement_that_fails_spoils_nothing(pool: Pool) -> None:
    *_, backend = await _left_over(pool)
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with pool.as_service_once("test") as tx:
            await tx.value("select 1 / 0")
    *left, same_backend = await _left_over(pool)
    assert (left, backend) == (["none", "", "", "", ""], same_backend)


async def test_connection_ended_by_the_server_is_replaced_without_an_error(
    database: Database, pool: Pool
) -> None:
    *_, backend = await _left_over(pool)
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("select pg_terminate_backend(%s, 20000)", (backend,))
    async with pool.as_service_once("test") as tx:
        assert await tx.value("select pg_backend_pid()") != backend


async def test_idle_connection_is_checked_from_time_to_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    execute = Connection.execute

    async def counted(connection: Connection, query: Any, *rest: Any, **options: Any) -> Any:
        if query == "":
            asked.append(connection)
        return await execute(connection, query, *rest, **options)

    monkeypatch.setattr(Connection, "execute", counted)
    monkeypatch.setattr(app.postgres.connections, "ALIVE_SECONDS", 3600)
    (connection,) = pool._pool._idle
    connection.answered_at = time.monotonic() - 3601
    for _ in range(3):
        await _left_over(pool)
    assert asked == [connection]


async def test_cancelled_transaction_leaves_nothing(pool: Pool) -> None:
    began = asyncio.Event()

    async def hang() -> None:
        async with pool.as_user(asker(DOCTOR), ACCESS) as tx:
            began.set()
            await tx.run("select pg_sleep(30)")

    hanging = asyncio.create_task(hang())
    await began.wait()
    await asyncio.sleep(0.05)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    *left, _ = await _left_over(pool)
    assert left == ["none", "", "", "", ""]


async def test_concurrent_transactions_keep_their_own_identity(database: Database) -> None:
    seed_people(database)
    pool = Pool(database.api_url, application="test", max_size=4)
    await pool.open()

    async def who(user_id: UUID) -> tuple[str, str]:
        access = Access("viewer.read", {"clinician", "patient"}, "staff")
        async with pool.as_user(asker(user_id), access) as tx:
            await tx.run("select pg_sleep(0.01)")
            return tx.role, str(await tx.value("select private.uid()"))

    with psycopg.connect(database.superuser_url) as connection:
        connection.execute(
            "insert into resguardo.patients (external_id, user_id) values ('p', %s)", (PATIENT,)
        )
    try:
        found = await asyncio.gather(*(who(user) for _ in range(10) for user in (DOCTOR, PATIENT)))
    finally:
        await pool.close()
    assert found == [("clinician", str(DOCTOR)), ("patient", str(PATIENT))] * 10


def _refusals(database: Database) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.superuser_url) as connection:
        return connection.execute(
            "select action, outcome, reason, actor_id, host(address), request_id from audit.events"
            " where outcome <> 'ALLOWED' order by recorded_at"
        ).fetchall()


async def _register_and_raise(pool: Pool, who: Asker, error: AppError) -> None:
    async with pool.as_user(who, ACCESS) as tx:
        await tx.run("select private.register_patient('p', null, null)")
        raise error


async def test_failed_transaction_is_rolled_back_and_its_refusal_is_audited(
    database: Database, pool: Pool
) -> None:
    who = asker(DOCTOR)
    with pytest.raises(Conflict, match="external_id_taken"):
        await _register_and_raise(pool, who, Conflict("external_id_taken"))
    assert _refusals(database) == [
        ("recording.list", "FAILED", "external_id_taken", DOCTOR, "192.0.2.7", who.request_id)
    ]
    with psycopg.connect(database.superuser_url) as connection:
        assert connection.execute("select from resguardo.patients").fetchall() == []


@pytest.mark.parametrize(
    ("who", "access", "kind", "reason"),
    [
        (asker(uuid4()), ACCESS, Forbidden, "not_registered"),
        (asker(DOCTOR), Access("audit.list", {"compliance"}, "audit_event"), Forbidden, "wrong_role"),
    ],
)
async def test_refused_role_is_audited(
    database: Database, pool: Pool, who: Asker, access: Access, kind: type[AppError], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        async with pool.as_user(who, access):
            pytest.fail("the refused transaction began")
    assert [row[:3] for row in _refusals(database)] == [(access.action, "DENIED", reason)]


async def test_session_that_ended_is_refused_in_the_next_statement(database: Database, pool: Pool) -> None:
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("delete from auth.sessions where user_id = %s", (DOCTOR,))
    with pytest.raises(Unauthenticated, match="session_over"):
        async with pool.as_user(asker(DOCTOR), ACCESS) as tx:
            await tx.run("select private.person()")
    assert [row[:3] for row in _refusals(database)] == [("recording.list", "DENIED", "session_over")]


async def test_not_found_commits_what_its_transaction_wrote(database: Database, pool: Pool) -> None:
    with pytest.raises(NotFound, match="recording_not_found"):
        await _register_and_raise(pool, asker(DOCTOR), NotFound("recording_not_found"))
    assert _refusals(database) == []
    with psycopg.connect(database.superuser_url) as connection:
        assert connection.execute("select external_id from resguardo.patients").fetchall() == [("p",)]


async def test_guest_has_no_identity(pool: Pool) -> None:
    guest = Asker(claims=None, request_id=uuid4(), address=None)
    async with pool.as_guest(guest, Access("guest.join", (), "participant")) as tx:
        assert tx.role == "guest"
        assert await tx.value("select current_user::text") == "resguardo_api"
        assert await tx.value("select current_setting('request.jwt.claims')") == ""


async def test_exhausted_pool_is_a_timeout(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool._pool, "timeout", 0.1)
    async with pool.as_service("test"):
        with pytest.raises(Timeout, match="database_busy"):
            async with pool.as_service("test"):
                pytest.fail("the pool gave a second connection")
    async with pool.as_service("test") as tx:
        assert await tx.value("select 1") == 1


async def test_broken_connection_is_replaced_without_an_error(database: Database, pool: Pool) -> None:
    async with pool.as_service("test") as tx:
        backend = await tx.value("select pg_backend_pid()")
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("select pg_terminate_backend(%s, 5000)", (backend,))
    async with pool.as_service("test") as tx:
        assert await tx.value("select pg_backend_pid()") != backend


async def _use_what_breaks(database: Database, pool: Pool) -> None:
    async with pool.as_service("test") as tx:
        backend = await tx.value("select pg_backend_pid()")
        with psycopg.connect(database.superuser_url) as connection:
            connection.execute("select pg_terminate_backend(%s, 5000)", (backend,))
        await tx.value("select 1")


async def test_connection_that_breaks_in_use_raises_an_error(database: Database, pool: Pool) -> None:
    with pytest.raises(UpstreamFailed, match="database_unavailable"):
        await _use_what_breaks(database, pool)


async def test_opening_a_pool_reports_a_database_that_is_down() -> None:
    down = Pool("postgresql://resguardo_api:word@127.0.0.1:1/none", application="test")
    with pytest.raises(UpstreamFailed, match="database_unavailable"):
        await down.open()
    await down.close()


async def test_slow_statement_is_a_timeout(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.postgres.database, "STATEMENT_TIMEOUT_MILLISECONDS", 50)
    with pytest.raises(Timeout, match="database_slow"):
        async with pool.as_user(asker(DOCTOR), ACCESS) as tx:
            await tx.run("select pg_sleep(5)")
    with pytest.raises(Timeout, match="database_slow"):
        async with pool.as_service("test") as tx:
            await tx.run("select pg_sleep(5)")
    with pytest.raises(Timeout, match="database_slow"):
        async with pool.as_service_once("test") as tx:
            await tx.run("select pg_sleep(5)")
    *left, _ = await _left_over(pool)
    assert left == ["none", "", "", "", ""]


async def test_rights_that_a_role_lacks_are_a_refusal(database: Database, pool: Pool) -> None:
    with pytest.raises(Forbidden, match="not_permitted"):
        async with pool.as_user(asker(DOCTOR), ACCESS) as tx:
            await tx.all("select * from audit.events")
    assert [row[2] for row in _refusals(database)] == ["not_permitted"]


async def test_bug_in_a_statement_is_raised_as_it_is_and_once(pool: Pool) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable) as bug:
        async with pool.as_service("test") as tx:
            await tx.run("select from nowhere")
    assert bug.value.__cause__ is None


async def test_constraint_names_the_conflict(pool: Pool) -> None:
    with pytest.raises(Conflict, match="staff_pkey"):
        raise translate(await _unique_violation(pool))


async def _unique_violation(pool: Pool) -> psycopg.Error:
    statement = sql.SQL(
        "do $$ begin raise unique_violation using constraint = 'staff_pkey', message = 'Paula is there'; end $$"
    )
    try:
        async with pool._pool.connection() as connection:
            await connection.execute(statement)
    except psycopg.Error as error:
        return error
    pytest.fail("the statement raised no error")
