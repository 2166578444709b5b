"""Makes every connection to Postgres. The module defines a connection's settings and time limits, and how a
statement is cancelled.

After each connecting, one function applies the settings to the new connection. No connection uses start-up
`options`, because a pooler may refuse or drop them. Every Postgres setting on which the code's results depend is
set to a fixed value, which replaces the value from the database, the role or the environment.
`default_transaction_read_only` is respected, because Supabase sets it to protect a full disk.
"""

import asyncio
import json
import select
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection, Notify, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_loads

STATEMENT_TIMEOUT_MILLISECONDS: Final = 10_000
CONNECT_SECONDS = 5.0
EXCHANGE_SECONDS = STATEMENT_TIMEOUT_MILLISECONDS / 1000 + 2
"""The client's time limit for one statement. The server's own timeout ends the statement first, unless the server
is frozen.
"""

CANCEL_SECONDS = 0.3
ALIVE_SECONDS = 1.0
"""The age of the last answer up to which a connection counts as alive without a test."""

ASK_SECONDS = 2.0
SEARCH_PATH: Final = "pg_catalog, pg_temp"

_INTERVAL_SECONDS = 0.1
_CONNECTING: Final[Mapping[str, str | int]] = {
    "connect_timeout": int(CONNECT_SECONDS),
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds until a network that drops all packets counts as broken
    "options": "",  # also ignores PGOPTIONS of the environment
}
_SETTINGS: Final[Mapping[str, str]] = {
    "search_path": SEARCH_PATH,
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "row_security": "on",  # with off, a statement that a policy restricts would raise
    "gin_fuzzy_search_limit": "0",  # with another value, an index would leave rows out
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",  # an answer may depend on committed data
    "exit_on_error": "off",
    "log_parameter_max_length_on_error": "0",  # parameters may contain text of a consultation
    "lock_timeout": "0",  # the statement timeout limits both
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
_OF_A_PROCESS: Final[Mapping[str, str]] = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MILLISECONDS),
    "idle_in_transaction_session_timeout": "120000",
}
_OF_THE_OWNER: Final[Mapping[str, str]] = {
    "statement_timeout": "0",  # a migration may take any time
    "idle_in_transaction_session_timeout": "0",
}
_SET: Final = """
select pg_catalog.set_config('role', 'none', false)
union all
select pg_catalog.set_config(s.name, w.value, false)
from rows from (
    pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])
) as w (name, value)
inner join pg_catalog.pg_settings as s on s.name operator(pg_catalog.=) w.name
"""
"""Sets the settings. A setting that this version of Postgres lacks is left out; `role`, which no view lists, is set
separately.
"""

T = TypeVar("T")


class Unanswered(psycopg.OperationalError):
    """The server did not answer in time. After this error, the connection is closed, and it is unknown whether the
    statement took effect.
    """


class Connection(AsyncConnection[DictRow]):
    """A connection that never waits for the server without a time limit. Each exchange with the server has a time
    limit, and the cancelling of a statement has one too.

    The base class of psycopg 3.3 waits without a limit for an answer, and up to 10 s for a cancellation
    (connection_async.py, `wait`; checked 2026-11-29).
    """

    exchange_seconds = EXCHANGE_SECONDS
    answered_at = 0.0
    """When the server last answered, by `time.monotonic`."""

    made_at = 0.0
    _is_listening = False

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = _INTERVAL_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109 - the base class has it
    ) -> T:
        """Wait for the server, as the base class does. Raises Unanswered after `exchange_seconds`, unless the
        caller has set a different timeout.
        """
        is_bounded = timeout is None and not self._is_listening
        try:
            return await waiting.wait_async(
                gen,
                self.pgconn.socket,
                interval=interval,
                timeout=self.exchange_seconds if is_bounded else timeout,
            )
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - it has no public name
            if not is_bounded:
                raise
            self.pgconn.finish()
            raise Unanswered("the server did not answer in time") from None
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._give_up(gen)
            raise

    async def _give_up(self, gen: PQGen[Any]) -> None:
        """Ask the server to cancel the running statement. If the server does not cancel the statement at once,
        close the connection.
        """
        try:
            async with asyncio.timeout(2 * CANCEL_SECONDS):
                await self.cancel_safe(timeout=CANCEL_SECONDS)
                await waiting.wait_async(
                    gen, self.pgconn.socket, interval=_INTERVAL_SECONDS, timeout=CANCEL_SECONDS
                )
        except psycopg.errors.QueryCanceled:
            return
        except (psycopg.Error, TimeoutError):
            self.pgconn.finish()
        except BaseException:
            self.pgconn.finish()
            raise

    async def notifies(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the base class has it
        stop_after: int | None = None,
    ) -> AsyncGenerator[Notify]:
        """Yield the server's notifications, as the base class does. Only the method `notifies` may wait without a
        time limit.
        """
        self._is_listening = True
        try:
            async for notify in super().notifies(timeout=timeout, stop_after=stop_after):
                yield notify
        finally:
            self._is_listening = False

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """While the `with` block runs, apply a different time limit to each exchange with the server."""
        before, self.exchange_seconds = self.exchange_seconds, seconds
        try:
            yield
        finally:
            self.exchange_seconds = before

    async def is_alive(self) -> bool:
        """Return whether the server answers. The method sends an empty test statement only if the socket has data
        or the last answer is more than a second old. A server that ends the session sends data first, which can be
        read from the socket. If the network is broken, nothing arrives on the socket, so only the test statement
        detects this.
        """
        if self.closed:
            return False
        heard = select.poll()
        heard.register(self.fileno(), select.POLLIN)
        if not heard.poll(0) and time.monotonic() - self.answered_at <= ALIVE_SECONDS:
            return True
        try:
            with self.within(ASK_SECONDS):
                await self.set_autocommit(True)
                await self.execute("")
                await self.set_autocommit(False)
        except psycopg.Error:
            return False
        self.answered_at = time.monotonic()
        return True


class UnreadableJson:
    """The value of a JSON column that Python's parser refuses, because a number has more than 4,300 digits or the
    nesting is too deep. Only a superuser can write such a value. A row that contains it can still be read.
    """


def _load_json(content: str | bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return UnreadableJson()


async def connect(
    url: str, *, application: str, search_path: str = SEARCH_PATH, autocommit: bool = False
) -> Connection:
    """Return a connection for the API or the worker, with the Postgres settings of these processes applied. Raises
    psycopg.OperationalError within seconds.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await Connection.connect(
                _conninfo(url, application), autocommit=True, row_factory=dict_row
            )
            set_json_loads(_load_json, connection)
            try:
                await connection.execute(_SET, _names_and_values(_OF_A_PROCESS, search_path))
                await connection.set_autocommit(autocommit)
            except BaseException:
                await connection.close()
                raise
    except TimeoutError:
        raise Unanswered("no connection in time") from None
    connection.made_at = connection.answered_at = time.monotonic()
    return connection


def connect_as_owner(url: str, *, application: str, autocommit: bool = False) -> psycopg.Connection[Any]:
    """Return a connection for a command of the database's owner, with the owner's settings applied and without a
    time limit. Raises psycopg.Error.
    """
    connection = psycopg.connect(_conninfo(url, application), autocommit=True)
    set_json_loads(_load_json, connection)
    try:
        set_again(connection)
    except BaseException:
        connection.close()
        raise
    connection.autocommit = autocommit
    return connection


def set_again(connection: psycopg.Connection[Any], search_path: str = SEARCH_PATH) -> None:
    """Apply the settings of an owner's connection again, for example after `reset all`. Do not call this function
    in a transaction that may be rolled back.
    """
    connection.execute(_SET, _names_and_values(_OF_THE_OWNER, search_path))


def _conninfo(url: str, application: str) -> str:
    """Return the connection string. Keepalives and timeouts in the URL replace the module's own values, but
    `options` in the URL are ignored.
    """
    chosen = {name: value for name, value in conninfo_to_dict(url).items() if name != "options"}
    return make_conninfo("", **{**_CONNECTING, "fallback_application_name": application, **chosen})


def _names_and_values(others: Mapping[str, str], search_path: str) -> tuple[list[str], list[str]]:
    settings = {**_SETTINGS, **others, "search_path": search_path}
    return list(settings), list(settings.values())
