"""The only way to Postgres for the API and the worker: `as_user` for a person, and `as_service` for the process
itself. The attribute `dedicated` gives connections that return no rows of Resguardo's tables. The methods `as_user`
and `as_service` open one transaction, and translate the database's errors into AppErrors. Both methods also store
in the transaction who asks and why, which the audit rows contain. If a person's transaction raises an error, a
second transaction writes the audit row of the refusal, because the rollback erases the first audit row. Row level
security policies decide which rows a person sees.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.errors import (
    AppError,
    Conflict,
    Forbidden,
    NotFound,
    RateLimited,
    Timeout,
    Unauthenticated,
    UpstreamFailed,
)
from app.postgres.connections import STATEMENT_TIMEOUT_MILLISECONDS, Connection
from app.postgres.dedicated_connections import DedicatedConnections
from app.postgres.errors import translate
from app.postgres.pool import Pool
from app.postgres.pooler import require_session

log = logging.getLogger(__name__)

POOL_SECONDS = 10.0
"""How long a transaction waits for a connection while all are in use."""

TRANSACTION_SECONDS = 60.0
"""The time limit of a transaction, including the wait for its connection. A request has a shorter limit."""

_SINGLE: LiteralString = """
with said as materialized (select set_config('resguardo.service_reason', %(service_reason)s, true) as reason)
select (value) from said where said.reason is not null
"""
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Asker:
    """The caller: the claims of a valid token (None for a guest, who has no token), the id of the request, and the
    network address.
    """

    claims: dict[str, object] | None = field(repr=False)
    request_id: UUID
    address: str | None

    @property
    def person(self) -> object:
        """Return the id of the person in the token's claims, or None for a guest."""
        return None if self.claims is None else self.claims.get("sub")


@dataclass(frozen=True)
class Access:
    """What a caller intends to do: the audit action, the entity, the roles that may do this, and the purpose of
    use.

    `external_id` names a patient or a consultation whose id is not known yet.
    """

    action: LiteralString
    roles: Collection[LiteralString]
    entity_type: LiteralString
    entity_id: UUID | None = None
    purpose: str | None = None
    external_id: str | None = None


required_lease: ContextVar[int | None] = ContextVar("required_lease", default=None)
"""The number of the lease that transactions of a periodic task require (app/jobs/periodic.py), or None."""


class Transaction:
    """Runs the statements of one transaction. Each row is a dict with the column names as keys."""

    def __init__(self, connection: Connection, role: str) -> None:
        self._connection = connection
        self.role = role

    async def one(self, sql: LiteralString, parameters: Parameters | None = None) -> DictRow | None:
        """Return the first row, or None if there is none."""
        cursor = await self._execute(sql, parameters)
        return await cursor.fetchone()

    async def all(self, sql: LiteralString, parameters: Parameters | None = None) -> list[DictRow]:
        """Return all rows in the statement's order."""
        cursor = await self._execute(sql, parameters)
        return await cursor.fetchall()

    async def all_in_binary(self, sql: LiteralString, parameters: Parameters | None = None) -> list[DictRow]:
        """Return all rows like `all`, but transferred in Postgres's binary format. For long `bytea` values, the
        text format would be twice as long and would block the event loop.
        """
        cursor = await self._connection.execute(sql, parameters, binary=True)
        return await cursor.fetchall()

    async def value(self, sql: LiteralString, parameters: Parameters | None = None) -> Any:
        """Return the first column of the first row, or None if there is no row."""
        row = await self.one(sql, parameters)
        return None if row is None else next(iter(row.values()))

    async def run(self, sql: LiteralString, parameters: Parameters | None = None) -> int:
        """Run a statement and return the number of affected rows."""
        cursor = await self._execute(sql, parameters)
        return cursor.rowcount

    async def _execute(self, sql: LiteralString, parameters: Parameters | None) -> AsyncCursor[DictRow]:
        return await self._connection.execute(sql, parameters)


class _Single(Transaction):
    """A transaction that consists of a single `select` of one value. The `select` statement also sets the reason of
    the access. A statement cannot obey a timeout that it sets itself, so the client cancels the `select` after the
    timeout.
    """

    def __init__(self, connection: Connection, reason: LiteralString) -> None:
        super().__init__(connection, "service")
        self._reason = reason

    async def _execute(self, sql: LiteralString, parameters: Parameters | None) -> AsyncCursor[DictRow]:
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_MILLISECONDS / 1000):
                return await super()._execute(
                    _SINGLE.replace("value", sql), {**(parameters or {}), "service_reason": self._reason}
                )
        except TimeoutError as error:
            raise Timeout("database_slow") from error


class Database:
    """The connection pool of one database login. The caller opens and closes the pool."""

    def __init__(
        self, url: str, *, max_size: int = 16, application: str, seconds: float = TRANSACTION_SECONDS
    ) -> None:
        self.dedicated = DedicatedConnections(url, application)
        self._url = url
        self._seconds = seconds
        self._pool = Pool(url, application=application, max_size=max_size, timeout=POOL_SECONDS)
        self._trouble: str | None = None

    async def open(self) -> None:
        """Make a first connection. Raises UpstreamFailed and Timeout, as every transaction does."""
        async with self._transaction():
            pass

    async def require_ready(self, seconds: float = TRANSACTION_SECONDS) -> None:
        """Raise UpstreamFailed or Timeout unless the database answers in time and accepts writes."""
        try:
            async with asyncio.timeout(seconds) as deadline, self.as_service("health") as tx:
                is_read_only = await tx.value("select current_setting('transaction_read_only') = 'on'")
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise Timeout("database_slow") from error
        if is_read_only:
            raise UpstreamFailed("database_read_only")

    async def require_session(self) -> None:
        """Raise Conflict (pooler_keeps_no_session) if a pooler gives a client a new database session for each
        transaction.
        """
        await require_session(self._url)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def as_user(self, asker: Asker, access: Access) -> AsyncIterator[Transaction]:
        """Open a transaction with the person's database role, under row level security.

        Raises Unauthenticated (the session has ended), Forbidden (the person's role is not allowed), RateLimited,
        Conflict, Timeout or UpstreamFailed. The audit row of a refusal is written before the caller receives the
        refusal. A NotFound commits the transaction, because the audit row that says DENIED or ABSENT is in this
        transaction.
        """
        async with self._audited(asker, access) as (connection, committed):
            role = await self._begin_as(connection, asker, access)
            with committed:
                yield Transaction(connection, role)

    @asynccontextmanager
    async def as_guest(self, asker: Asker, access: Access) -> AsyncIterator[Transaction]:
        """Open a transaction of the API's database login, for a guest who has an invitation and no token. Otherwise
        like `as_user`.
        """
        async with self._audited(asker, access) as (connection, committed):
            await self._describe(connection, asker, access)
            with committed:
                yield Transaction(connection, "guest")

    @asynccontextmanager
    async def as_service(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        """Open a transaction of the database login of this process. `reason` becomes the basis in the audit rows of
        the transaction. In a periodic task, the method raises Conflict (lead_lost) if another worker has become the
        leader.
        """
        async with self._transaction() as connection:
            await connection.execute(
                "select set_config('resguardo.service_reason', %s, true), set_config('statement_timeout', %s, true)",
                (reason, str(STATEMENT_TIMEOUT_MILLISECONDS)),
            )
            if (lease := required_lease.get()) is not None:
                await connection.execute("select private.require_lease(%s)", (lease,))
            yield Transaction(connection, "service")

    @asynccontextmanager
    async def as_service_once(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        """Open a transaction like `as_service` for a single `select` of one value, which needs only one exchange
        with the server.
        """
        async with self._transaction() as connection:
            await connection.set_autocommit(True)
            try:
                yield _Single(connection, reason)
            finally:
                if (
                    connection.info.transaction_status == TransactionStatus.IDLE
                ):  # otherwise the pool closes it
                    await connection.set_autocommit(False)

    async def refuse(self, asker: Asker, access: Access, error: AppError) -> None:
        """Write the audit row of a refusal in a separate transaction. The audit row says FAILED if the error is a
        Conflict or the failure of a service, and DENIED if not.
        """
        async with self._transaction() as connection:
            await self._describe(connection, asker, access)
            await connection.execute(
                "select private.record_refusal(%s, %s, %s, %s, %s, %s)",
                (
                    access.action,
                    "FAILED" if isinstance(error, (Conflict, UpstreamFailed, Timeout)) else "DENIED",
                    error.reason,
                    access.entity_type,
                    access.entity_id,
                    access.external_id,
                ),
            )

    async def _describe(self, connection: Connection, asker: Asker, access: Access) -> None:
        await connection.execute(
            "select private.describe_request(%s, %s, %s, %s, %s)",
            (*self._request(asker, access), STATEMENT_TIMEOUT_MILLISECONDS),
        )

    async def _begin_as(self, connection: Connection, asker: Asker, access: Access) -> str:
        claims, request_id, address, purpose = self._request(asker, access)
        cursor = await connection.execute(
            "select private.begin_as(%s, %s, %s, %s, %s, %s) as role",
            (claims, list(access.roles), request_id, address, purpose, STATEMENT_TIMEOUT_MILLISECONDS),
        )
        row = await cursor.fetchone()
        return str(row["role"]) if row else ""

    @staticmethod
    def _request(asker: Asker, access: Access) -> tuple[Jsonb | None, UUID, str | None, str | None]:
        claims = None if asker.claims is None else Jsonb(asker.claims)
        return claims, asker.request_id, asker.address, access.purpose

    @asynccontextmanager
    async def _audited(self, asker: Asker, access: Access) -> AsyncIterator[tuple[Connection, "_Committed"]]:
        committed = _Committed()
        try:
            async with self._transaction() as connection:
                yield connection, committed
            if committed.missing is not None:
                raise committed.missing
        except (Unauthenticated, Forbidden, RateLimited, Conflict) as error:
            await self.refuse(asker, access, error)
            raise

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._seconds) as deadline, self._pool.connection() as connection:
                yield connection
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise Timeout("database_slow") from error
        except psycopg.Error as error:
            translated = translate(error)
            if translated is error:
                raise
            if isinstance(translated, UpstreamFailed):
                self._note(translated.reason)
            raise translated from error
        self._note(None)

    def _note(self, trouble: str | None) -> None:
        """Log one line when the database fails for a new reason, and one line when the database works again."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            log.info("the database works again")
        else:
            log.warning("the database does not work: %s", trouble)


class _Committed:
    """Holds back a NotFound error until the transaction is committed."""

    def __init__(self) -> None:
        self.missing: NotFound | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, NotFound):
            self.missing = error
        return self.missing is not None
