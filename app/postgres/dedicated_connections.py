"""Dedicated database connections: one kind listens for notifications, one kind holds the leader's lease. Dedicated
connections are never pooled and return no rows of Resguardo's tables. A dedicated connection does not work through
a pooler that gives the client a new database session after each transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, LiteralString, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from app.errors import UpstreamFailed
from app.postgres.connections import connect
from app.postgres.errors import translate

CHECK_SECONDS = 5
"""The interval at which the connection is tested, and the time limit of the answer."""


class DedicatedConnections:
    """The dedicated connections of one database login."""

    def __init__(self, url: str, application: str) -> None:
        self._url = url
        self._application = application

    @asynccontextmanager
    async def listen(self, channel: LiteralString) -> AsyncIterator[AsyncGenerator[str]]:
        """Yield the payloads of a NOTIFY channel. Anyone who can connect to the database can send such a payload.

        Raises UpstreamFailed (database_unavailable) if the connection fails or does not answer.
        """
        async with self._opened("listen") as connection:
            await connection.execute(f'listen "{channel}"')
            async with aclosing(_payloads(connection)) as payloads:
                yield payloads

    @asynccontextmanager
    async def connection(self, what_for: LiteralString) -> AsyncIterator[AsyncConnection[Any]]:
        """Yield a connection in autocommit mode. Raises UpstreamFailed (database_unavailable), Timeout or Conflict."""
        async with self._opened(what_for) as connection:
            yield connection

    @asynccontextmanager
    async def _opened(self, what_for: LiteralString) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with await connect(
                self._url, application=f"{self._application}-{what_for}", autocommit=True
            ) as made:
                connection = cast("AsyncConnection[Any]", made)
                connection.row_factory = tuple_row
                yield connection
        except TimeoutError as error:
            raise UpstreamFailed("database_unavailable") from error
        except psycopg.Error as error:
            translated = translate(error)
            if translated is error:
                raise
            raise translated from error


async def _payloads(connection: AsyncConnection[Any]) -> AsyncGenerator[str]:
    """Yield the payloads of notifications. Since version 3.2.4, psycopg keeps payloads that arrive while the
    connection is being tested.
    """
    while True:
        async for notification in connection.notifies(timeout=CHECK_SECONDS):
            yield notification.payload
        async with asyncio.timeout(CHECK_SECONDS):
            await connection.execute("select 1")
