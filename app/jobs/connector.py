"""Connects procrastinate to the database through the project's own connections, one of which listens for all queue
workers.

If the database fails in a way that the queue cannot handle, the event `lost` is set. If a worker could not write
that a job has ended, and continued to run, no worker would run this job again. All queue workers therefore end once
the event `lost` is set, and the workers that start next return the jobs to the queue.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final, LiteralString

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException, NoResult, UniqueViolation
from psycopg import sql

from app.postgres.connections import Connection, connect
from app.postgres.pool import Pool

CONNECTIONS: Final = 4
"""Three connections in turn, and one that listens."""

_WAIT_SECONDS = 10
"""The longest wait for a connection while all are in use."""

_CHECK_SECONDS = 5.0
_APPLICATION = "resguardo-queue"
_SEARCH_PATH = "jobs, pg_catalog, pg_temp"


class QueueConnector(PsycopgConnector):
    """Procrastinate's connector. The event `lost` is set after a database failure that the queue's workers cannot
    handle, and `failure` is the database's error.
    """

    def __init__(self, url: str, channels: Sequence[str]) -> None:
        super().__init__()
        self.lost = asyncio.Event()
        self.failure: psycopg.Error | None = None
        self._url = url
        self._channels = channels
        self._callbacks: dict[str, list[Notify]] = {channel: [] for channel in channels}
        self._listening: asyncio.Task[None] | None = None

    async def open_async(self, pool: Any = None) -> None:
        """Open the pool. Raises ConnectorException."""
        opened = Pool(
            self._url,
            application=_APPLICATION,
            max_size=CONNECTIONS - 1,
            timeout=_WAIT_SECONDS,
            search_path=_SEARCH_PATH,
        )
        try:
            await opened.open()
        except psycopg.Error as error:
            raise ConnectorException from error
        self._async_pool = opened  # type: ignore[assignment]  # it has what is used of a psycopg_pool: connection, close

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Implement procrastinate's method."""
        with self._watch_failures():
            await super().execute_query_async(query, **arguments)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Implement procrastinate's method."""
        with self._watch_failures():
            row: dict[str, Any] = await super().execute_query_one_async(query, **arguments)
            return row

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Implement procrastinate's method."""
        with self._watch_failures():
            rows: list[dict[str, Any]] = await super().execute_query_all_async(query, **arguments)
            return rows

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Call `on_notification` for each notification, until the call is cancelled. All calls of this method share
        one database connection. Raises ConnectorException.
        """
        mine = [channel for channel in channels if channel in self._callbacks]
        for channel in mine:
            self._callbacks[channel].append(on_notification)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            await asyncio.shield(self._listening)
        finally:
            for channel in mine:
                self._callbacks[channel].remove(on_notification)
            if not any(self._callbacks.values()):
                self._listening.cancel()
                await asyncio.wait((self._listening,))

    async def _listen(self) -> None:
        try:
            async with self._listener() as connection:
                while True:
                    async for notification in connection.notifies(timeout=_CHECK_SECONDS):
                        for callback in tuple(self._callbacks[notification.channel]):
                            await callback(channel=notification.channel, payload=notification.payload)
                    await connection.execute("select 1")
        except psycopg.Error as error:
            self._lose(error)
            raise ConnectorException from error

    @contextlib.asynccontextmanager
    async def _listener(self) -> AsyncIterator[Connection]:
        async with await connect(
            self._url, application=_APPLICATION, search_path=_SEARCH_PATH, autocommit=True
        ) as connection:
            for channel in self._channels:
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            yield connection

    def _lose(self, error: BaseException | None) -> None:
        if self.failure is None and isinstance(error, psycopg.Error):
            self.failure = error
        self.lost.set()

    @contextlib.contextmanager
    def _watch_failures(self) -> Iterator[None]:
        """If the `with` block fails because of the database, set the event `lost`. An error raised by a function of
        the schema `jobs` is not a database failure: it means that a different worker has changed the job in the
        meantime.
        """
        try:
            yield
        except (UniqueViolation, NoResult):
            raise
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                self._lose(error.__cause__)
            raise
