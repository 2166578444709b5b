"""A pool of connections to Postgres. Whoever needs one connects himself, and hears at once why it fails.

psycopg_pool connects in the background, with pauses that grow to minutes, and tells a caller only that none came; after
a restart of the server it finds dead connections one by one, with a pause after each (3.3.3, pool_async.py).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from app.connections import ASK_SECONDS, SEARCH_PATH, Connection, connect

IDLE_SECONDS: Final = 600
LIFETIME_SECONDS: Final = 3600


class PoolBusy(psycopg.OperationalError):
    """Every connection was in use for too long."""


class Pool:
    """At most `max_size` connections of one login, made when they are needed."""

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
        """Proves that a connection can be made. Raises psycopg.OperationalError."""
        async with self.connection():
            pass

    async def close(self) -> None:
        """Closes what is idle now, and what is in use once it is returned."""
        self._is_closed = True
        await self._discard_idle()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection; what is done with it is committed, or rolled back where the block raises.

        Raises PoolBusy, and psycopg.OperationalError where none can be made.
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
        """The connection used last, if it lives; where one is dead, all idle ones are discarded with it."""
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
    """Leaves the connection idle, or closed where the server does not answer at once."""
    status = connection.pgconn.transaction_status
    if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        with suppress(psycopg.Error), connection.within(ASK_SECONDS):
            await connection.rollback()
            return
    if status != TransactionStatus.IDLE:
        await connection.close()
