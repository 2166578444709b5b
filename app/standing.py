"""Connections that stand for as long as something is heard or led: never pooled, and they return no rows of ours.

Not through a pooler that gives a connection away after each transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection

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
    async def leadership(self, of: LiteralString) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        """Asks, each time it is called, whether this process leads, and becomes the leader where nobody does.

        Raises UpstreamFailed (database_unavailable) once the connection is lost, and the leadership with it.
        """
        async with self._opened("leader") as connection:
            yield partial(_leads, connection, of)

    @asynccontextmanager
    async def _opened(self, what_for: LiteralString) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with await AsyncConnection.connect(
                self._url,
                autocommit=True,
                fallback_application_name=f"{self._application}-{what_for}",
                connect_timeout=10,
            ) as connection:
                yield connection
        except (psycopg.OperationalError, TimeoutError) as error:
            raise UpstreamFailed("database_unavailable") from error


async def _leads(connection: AsyncConnection[Any], of: str) -> bool:
    """A lock that is held is given again to who holds it."""
    async with asyncio.timeout(CHECK_SECONDS):
        cursor = await connection.execute(
            "select pg_try_advisory_lock(hashtextextended('resguardo.' || %s, 0))", (of,)
        )
        row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def _payloads(connection: AsyncConnection[Any]) -> AsyncGenerator[str]:
    """What arrives while the connection is asked whether it stands is kept by psycopg, from 3.2.4 on."""
    while True:
        async for notification in connection.notifies(timeout=CHECK_SECONDS):
            yield notification.payload
        async with asyncio.timeout(CHECK_SECONDS):
            await connection.execute("select 1")
