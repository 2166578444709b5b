"""A pool of connections to Postgres. If no idle connection exists, the caller of the pool opens a new connection
itself, and gets a connection error at once. The library psycopg_pool, which this module replaces, connects in the
background, with pauses that grow to minutes. If the database is down, a caller of psycopg_pool learns only that no
connection became free in time. After a restart of the server, psycopg_pool finds dead connections one by one, with
a pause after each (psycopg_pool 3.3.3, pool_async.py).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from app.postgres.connections import ASK_SECONDS, SEARCH_PATH, Connection, connect

IDLE_SECONDS: Final = 600
LIFETIME_SECONDS: Final = 3600


class PoolBusy(psycopg.OperationalError):
    """Raised if all connections of the pool were in use for too long."""


class Pool:
    """A pool of at most `max_size` connections of one login, made when they are needed."""

    def __init__(
        self, url: str, *, application: str, max_size: int, timeout: float, search_path: str = SEARCH_PATH
    ) -> None:
        self.timeout = timeout
        self._url = url
        self._application = application
        self._search_path = search_path
        self._places = asyncio.Semaphore(max_size)
        self._idle: deque[Connection] = deque()
        self._is_closed = False

    async def open(self) -> None:
        """Make a first connection, to test that the database is reachable. Raises psycopg.OperationalError."""
        async with self.connection():
            pass

    async def close(self) -> None:
        """Close the idle connections now. Connections in use are closed when their users return them."""
        self._is_closed = True
        await self._discard_idle()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Yield a connection. The work in the `with` block is committed, or rolled back if the block raises an
        error.

        Raises PoolBusy, and psycopg.OperationalError if no connection can be made.
        """
        connection = await self._take()
        try:
            try:
                yield connection
            except BaseException:
                await _roll_back(connection)
                raise
            await connection.commit()
        finally:
            try:
                await self._return(connection)
            finally:
                self._places.release()

    async def _take(self) -> Connection:
        try:
            async with asyncio.timeout(self.timeout):
                await self._places.acquire()
        except TimeoutError:
            raise PoolBusy("every connection is in use") from None
        try:
            return await self._alive()
        except BaseException:
            self._places.release()
            raise

    async def _alive(self) -> Connection:
        """Return the most recently used connection if it is alive. If the most recently used connection is dead,
        close all idle connections.
        """
        if self._is_closed:
            raise psycopg.OperationalError("the pool is closed")
        while self._idle:
            connection = self._idle.pop()
            try:
                if await connection.is_alive():
                    return connection
            except BaseException:
                await connection.close()
                raise
            await connection.close()
            await self._discard_idle()
        return await connect(self._url, application=self._application, search_path=self._search_path)

    async def _return(self, connection: Connection) -> None:
        if connection.pgconn.transaction_status == TransactionStatus.IDLE and not self._is_closed:
            connection.answered_at = now = time.monotonic()
            if now - connection.made_at < LIFETIME_SECONDS:
                self._idle.append(connection)
            else:
                await connection.close()
            while self._idle and now - self._idle[0].answered_at > IDLE_SECONDS:
                await self._idle.popleft().close()
            return
        is_broken = connection.closed
        await connection.close()
        if is_broken:
            await self._discard_idle()

    async def _discard_idle(self) -> None:
        while self._idle:
            await self._idle.popleft().close()


async def _roll_back(connection: Connection) -> None:
    """Roll the transaction back, or close the connection if the server does not answer at once."""
    status = connection.pgconn.transaction_status
    if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        with suppress(psycopg.Error), connection.within(ASK_SECONDS):
            await connection.rollback()
            return
    if status != TransactionStatus.IDLE:
        await connection.close()
