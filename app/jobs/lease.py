"""The lease of the rounds: whose turn it is to lead, by the database's clock. The worker's login alone can write it.

It lasts 15 s (`private.lease_length`) and is renewed every 5 s. A leader that dies, stands still or is cut off is
followed by another worker within 20 s, and finds its lease lost when it comes back.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection

from app.errors import AppError, Conflict
from app.sql import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))

ANSWER_SECONDS = 3
"""How long the database may take to answer: with the pause before it less than the lease."""

UNLED_SECONDS = 30
"""From here on it is worth a warning that nobody leads: a leader that stands still is followed after 20 s."""


@dataclass(frozen=True)
class Lease:
    """A lease that this process took.

    `seconds_unled` is how long nobody led before, None if nobody ever did; `lapsed_leader` is the worker that let its
    lease end, None if it gave it back.
    """

    number: int
    seconds_unled: float | None
    lapsed_leader: str | None
    connection: AsyncConnection[Any] = field(repr=False)

    async def renew(self) -> None:
        """Raises Conflict (lead_lost) if it has ended, psycopg.Error or TimeoutError if the database does not say."""
        async with asyncio.timeout(ANSWER_SECONDS):
            cursor = await self.connection.execute(_sql["renew_lease"], {"number": self.number})
            row = await cursor.fetchone()
        if row is None or not row[0]:
            raise Conflict("lead_lost")

    async def is_held(self) -> bool:
        """Renews it; False if it has ended, and if the database does not say."""
        try:
            await self.renew()
        except (AppError, psycopg.Error, TimeoutError):
            return False
        return True

    async def give_back(self) -> None:
        """Ends it, so that another worker need not wait for its end; a lease that is lost stays as it is."""
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.connection.execute(_sql["give_lease_back"], {"number": self.number})


async def take_lease(
    connection: AsyncConnection[Any], leader: str, former_number: int | None
) -> Lease | None:
    """A new lease, None while another worker has one. `former_number` is that of this process's own last lease."""
    async with asyncio.timeout(ANSWER_SECONDS):
        cursor = await connection.execute(
            _sql["take_lease"], {"leader": leader, "former_number": former_number}
        )
        row = await cursor.fetchone()
    return None if row is None else Lease(row[0], row[1], row[2], connection)
