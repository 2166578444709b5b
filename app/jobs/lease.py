"""The lease that makes one worker the leader. The database's clock measures the lease. Only the workers' database
login can write the lease.

A lease lasts 15 s (`private.lease_length`), and the leader renews its lease every 5 s. If a leader dies, freezes or
is cut off, another worker takes over within 20 s. A former leader that runs again finds that its lease is lost.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection

from app.errors import AppError, Conflict
from app.postgres.queries import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))

ANSWER_SECONDS = 3
"""How long the database may take to answer. Together with the pause before it, this is shorter than the lease."""

UNLED_SECONDS = 30
"""After this time without a leader, a warning is logged. A frozen leader is replaced after 20 s."""


@dataclass(frozen=True)
class Lease:
    """A lease that this worker process took to become the leader.

    `seconds_unled` is how long there was no leader before this lease, or None if there never was a leader.
    `lapsed_leader` is the former leader if its lease expired, or None if the former leader returned its lease.
    """

    number: int
    seconds_unled: float | None
    lapsed_leader: str | None
    connection: AsyncConnection[Any] = field(repr=False)

    async def renew(self) -> None:
        """Renew the lease. Raises Conflict (lead_lost) if the lease has expired, and psycopg.Error or TimeoutError
        if the database does not answer.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            cursor = await self.connection.execute(_sql["renew_lease"], {"number": self.number})
            row = await cursor.fetchone()
        if row is None or not row[0]:
            raise Conflict("lead_lost")

    async def is_held(self) -> bool:
        """Renew the lease. Return False if the lease has expired or the database does not answer."""
        try:
            await self.renew()
        except (AppError, psycopg.Error, TimeoutError):
            return False
        return True

    async def give_back(self) -> None:
        """Give the lease back, so that another worker need not wait until the lease expires. If this worker has
        lost the lease, the method changes nothing.
        """
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.connection.execute(_sql["give_lease_back"], {"number": self.number})


async def take_lease(
    connection: AsyncConnection[Any], leader: str, former_number: int | None
) -> Lease | None:
    """Return a new lease, or None while a different worker has the lease. `former_number` is the number of this
    process's previous lease.
    """
    async with asyncio.timeout(ANSWER_SECONDS):
        cursor = await connection.execute(
            _sql["take_lease"], {"leader": leader, "former_number": former_number}
        )
        row = await cursor.fetchone()
    return None if row is None else Lease(row[0], row[1], row[2], connection)
