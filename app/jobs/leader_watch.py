"""Lets the API check whether a worker is the leader, because a frozen leader cannot report itself."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from psycopg.rows import DictRow

from app.errors import AppError
from app.failures import describe_failure
from app.jobs.lease import UNLED_SECONDS
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

CHECK_SECONDS: Final = 15
REPEAT_SECONDS: Final = 600


@dataclass(frozen=True)
class LastLed:
    """The time at which a worker was last the leader. `seconds` is the number of seconds since then: 0 while a
    worker leads, and None if no worker has ever led.
    """

    at: datetime | None
    seconds: float | None

    @property
    def is_overdue(self) -> bool:
        """Return whether no worker has led for longer than a normal change of leaders takes."""
        return self.seconds is not None and self.seconds > UNLED_SECONDS

    def __str__(self) -> str:
        """Return a readable text that says since when no worker has been the leader."""
        if self.at is None:
            return "nobody has led yet"
        return f"nobody has led since {self.at:%Y-%m-%d %H:%M:%SZ} ({self.seconds:.0f} s)"


async def read_last_led(tx: Transaction) -> LastLed:
    """Return when a worker was last the leader, measured by the database's clock."""
    return _led(await tx.one(_sql["last_led"]))


def _led(row: DictRow | None) -> LastLed:
    return LastLed(None, None) if row is None else LastLed(row["led_until"], row["seconds"])


class LeaderWatch:
    """Opens the alert NO_LEADER if no worker has been the leader for 30 s, and closes it when a worker leads. The watch
    also warns in the API's log, and repeats the warning every ten minutes. `async with` runs it.

    `clock` returns seconds and never goes back.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._warned_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def read(self) -> LastLed:
        """Return when a worker was last the leader. Raises AppError."""
        async with self._database.as_service("watch_leader") as tx:
            return await read_last_led(tx)

    async def check(self) -> None:
        """Open the alert and log a warning if no worker is the leader. Close the alert, and log one line, when a worker
        has become the leader again. Raises AppError.
        """
        async with self._database.as_service("watch_leader") as tx:
            row = await tx.one(_sql["watch_leader"], {"most_seconds": UNLED_SECONDS})
        found = _led(row)
        if not found.is_overdue:
            if self._warned_at is not None:
                log.info("a worker leads again")
            self._warned_at = None
        elif self._warned_at is None or self._clock() - self._warned_at >= REPEAT_SECONDS:
            self._warned_at = self._clock()
            log.warning("%s: does a worker run?", found)

    async def __aenter__(self) -> Self:
        """Start the checks."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the checks."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except AppError as error:
                log.info("the leader is not known: %s", error.reason)
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever a check raises
                log.error("the leader is not known: %s", describe_failure(error))  # noqa: TRY400 - it could quote a row
