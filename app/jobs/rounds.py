"""What one worker at a time does every so often: the rounds. Which rounds there are is given from above.

The leader is whoever holds an advisory lock of the database, for as long as its connection stands. Each round goes at
its own pace; one that fails is told and comes again, and the others go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from app.db import Database
from app.errors import AppError
from app.failures import describe_failure

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
CANCEL_AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Round:
    """What is done, at once and then every so many seconds. `begin` is called when this process becomes the leader."""

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]
    begin: Callable[[], None] = lambda: None


async def run_rounds(database: Database, rounds: Sequence[Round]) -> None:
    """Tries to lead, and leads, until it is cancelled; a database that goes away is waited for."""
    while True:
        try:
            async with database.standing.leadership("rounds") as is_leader:
                while not await is_leader():  # noqa: ASYNC110 - the database tells nobody that the lock is free
                    await asyncio.sleep(RETRY_SECONDS)
                log.info("leads the rounds")
                await _lead(rounds, is_leader)
        except AppError as error:
            log.warning("the rounds were lost: %s", error.reason)
        except Exception as error:  # noqa: BLE001 - the loop's edge: without its rounds a worker is worth little
            log.error("the rounds were lost: %s", describe_failure(error))  # noqa: TRY400 - it could quote a row
        await asyncio.sleep(RETRY_SECONDS)


async def _lead(rounds: Sequence[Round], is_leader: Callable[[], Awaitable[bool]]) -> None:
    for each in rounds:
        each.begin()
    going = [asyncio.create_task(_repeat(each)) for each in rounds]
    try:
        while await is_leader():  # noqa: ASYNC110 - the database tells nobody that the lock is lost
            await asyncio.sleep(RETRY_SECONDS)
    finally:
        await _end(going)


async def _end(going: Iterable[asyncio.Task[None]]) -> None:
    """Cancels until all have ended, since one cancellation may be lost: before Python 3.12 `asyncio.wait_for`, by which
    the pool of connections waits, swallows one that comes together with its answer (python/cpython#86296).
    """
    pending = set(going)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


async def _repeat(each: Round) -> None:
    while True:
        await _run(each)
        await asyncio.sleep(each.every_seconds)


async def _run(each: Round) -> None:
    try:
        await each.run()
    except AppError as error:
        log.warning("round failed: %s %s", each.name, error.summary)
    except Exception as error:  # noqa: BLE001 - the loop's edge: a bug in one round must not end the others
        log.error("round failed: %s %s", each.name, describe_failure(error))  # noqa: TRY400 - it could quote a row
