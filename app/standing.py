"""Connections that stand for as long as something is heard or led: never pooled, and they return no rows of ours.

Not through a pooler that gives a connection away after each transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, LiteralString, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from app.connections import connect
from app.db_errors import translate
from app.errors import UpstreamFailed

CHECK_SECONDS = 5
"""How often it is asked whether it still stands, and how long the answer may take."""


class StandingConnections:
    """Of one login."""

    def __init__(self, url: str, application: str) -> None:
        self._url = url
        self._application = application

    @asynccontextmanager
    async def listen(self, channel: LiteralString) -> AsyncIterator[AsyncGenerator[str]]:
        """The payloads notified on a channel from now on; anybody who can connect may have sent them.

        Raises UpstreamFailed (database_unavailable) where the connection fails or is silent.
        """
        async with self._opened("listen") as connection:
            await connection.execute(f'listen "{channel}"')
            async with aclosing(_payloads(connection)) as payloads:
                yield payloads

    @asynccontextmanager
    async def connection(self, what_for: LiteralString) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in autocommit. Raises UpstreamFailed (database_unavailable), Timeout or Conflict."""
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
    """What arrives while the connection is asked whether it stands is kept by psycopg, from 3.2.4 on."""
    while True:
        async for notification in connection.notifies(timeout=CHECK_SECONDS):
            yield notification.payload
        async with asyncio.timeout(CHECK_SECONDS):
            await connection.execute("select 1")
