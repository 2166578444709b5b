"""Refuses a pooler that does not keep a client's database session, such as pgbouncer or Supavisor in transaction or
statement mode.

Behind a pooler in transaction or statement mode, prepared statements, LISTEN, session settings and the queue's
connections fail at random. The module tests a pooler with two clients of its own, so the test works even if nobody
else uses the pooler. While the first client is idle, a pooler without lasting sessions gives the first client's
server session to the second client, or runs the first client's next statement in another session. The test checks
that each client keeps its own session through the pooler.
"""

from typing import Final
from uuid import uuid4

import psycopg

from app.errors import Conflict
from app.postgres.connections import Connection, connect
from app.postgres.errors import translate

ROUNDS: Final = 5
_SESSION: Final = """
select row (a.pid, a.backend_start, pg_catalog.pg_postmaster_start_time())::pg_catalog.text as session,
    pg_catalog.current_setting('resguardo.probe', true) as mark
from pg_catalog.pg_stat_activity as a
where a.pid operator(pg_catalog.=) pg_catalog.pg_backend_pid()
"""
_MARK: Final = "select pg_catalog.set_config('resguardo.probe', %s, false)"

Session = tuple[str | None, str | None]


async def require_session(url: str) -> None:
    """Raise Conflict (pooler_keeps_no_session), UpstreamFailed or Timeout. The check uses two connections for a
    moment: an idle client and a second client. A pooler that reuses the last session gives the idle client's
    session to the second client. A pooler that rotates its sessions gives the idle client a new session.
    """
    try:
        async with (
            await connect(url, application="resguardo-probe", autocommit=True) as idle,
            await connect(url, application="resguardo-probe", autocommit=True) as other,
        ):
            mark = uuid4().hex
            await idle.execute(_MARK, (mark,))
            own = await _session(idle)
            for _ in range(ROUNDS):
                if own[1] != mark or not await _is_kept(idle, own, other):
                    raise Conflict("pooler_keeps_no_session")
    except psycopg.Error as error:
        raise translate(error) from error


async def _is_kept(idle: Connection, own: Session, other: Connection) -> bool:
    """Return whether the idle client keeps its session, and the second client has a different one, with and without
    a transaction.

    A pooler in statement mode answers `begin` with a protocol violation.
    """
    if _are_one(own, await _session(other)):
        return False
    try:
        await other.execute("begin")
    except psycopg.errors.ProtocolViolation:
        return False
    in_transaction = await _session(other)
    again = await _session(idle)
    await other.execute("rollback")
    return again == own and not _are_one(own, in_transaction)


def _are_one(one: Session, other: Session) -> bool:
    return one[0] == other[0] or one[1] == other[1]


async def _session(connection: Connection) -> Session:
    """Return the id of the server session that answers, and the mark that the test stored in this session."""
    cursor = await connection.execute(_SESSION)
    row = await cursor.fetchone()
    return (None, None) if row is None else (row["session"], row["mark"])
