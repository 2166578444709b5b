"""The deployment's Postgres, which a fault can restart. Tests read the committed rows of this Postgres directly,
without a proxy.
"""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from devstack import postgres
from devstack.stack import DATABASE
from devstack.supabase_project import with_database
from tests.faults.processes import Parent
from tests.faults.proxy import Address

_LOOK_SECONDS = 0.2
_AWAY_SECONDS = 60


class Postgres:
    """A Postgres server. `url` is the superuser's URL, with a new port after each start."""

    def __init__(self, parent: Parent, directory: Path) -> None:
        self._parent = parent
        self._directory = directory
        self._lock = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self.url = ""

    async def start(self) -> Address:
        """Start the server. Return its address."""
        self._running = postgres.running(self._directory, durable=False)
        self.url = await self._parent.run(self._running.__enter__)
        return address(self.url)

    async def stop(self) -> None:
        """Stop the server, which ends every session."""
        await self._parent.leave(self._running)

    async def rows(
        self, query: str, *parameters: object, without_triggers: bool = False
    ) -> list[tuple[Any, ...]]:
        """Run a query as the superuser and return its rows. If the server is down, the method waits for it for at
        most one minute.
        """
        async with asyncio.timeout(_AWAY_SECONDS), self._lock:
            while True:
                try:
                    return await self._rows(query, parameters, without_triggers)
                except psycopg.OperationalError:
                    await self.close()
                    await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Close the connection that the method `rows` uses."""
        if self._connection is not None:
            await self._connection.close()
        self._connection = None

    async def _rows(
        self, query: str, parameters: tuple[object, ...], without_triggers: bool
    ) -> list[tuple[Any, ...]]:
        if self._connection is None:
            url = with_database(self.url, DATABASE)
            self._connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        async with self._connection.transaction():
            if without_triggers:
                await self._connection.execute("set local session_replication_role = replica")
            cursor = await self._connection.execute(query.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description else []


def address(url: str) -> Address:
    """Return the host and the port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0
