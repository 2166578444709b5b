"""What one worker at a time does every so often: the rounds. Which rounds there are is given from above.

The leader is the worker that holds the lease (lease.py). Each round goes at its own pace; one that fails is logged and
comes again, and the others go on.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from app.db import Database, required_lease
from app.errors import AppError
from app.failures import describe_failure
from app.jobs.lease import UNLED_SECONDS, Lease, take_lease

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""How often the lease is asked for and renewed: with an answer that is late well within its 15 s."""

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
    former: int | None = None
    while True:
        try:
            async with database.standing.connection("leader") as connection:
                lease = await _wait_for_lease(connection, former)
                former = lease.number
                _tell(lease)
                await _lead(rounds, lease)
        except AppError as error:
            log.warning("the rounds were lost: %s", error.reason)
        except Exception as error:  # noqa: BLE001 - the loop's edge: without its rounds a worker is worth little
            log.error("the rounds were lost: %s", describe_failure(error))  # noqa: TRY400 - it could quote a row
        await asyncio.sleep(RETRY_SECONDS)


async def _wait_for_lease(connection: AsyncConnection[Any], former: int | None) -> Lease:
    leader = f"{socket.gethostname()}/{os.getpid()}"
    while (lease := await take_lease(connection, leader, former)) is None:  # noqa: ASYNC110 - the database tells nobody
        await asyncio.sleep(RETRY_SECONDS)
    return lease


def _tell(lease: Lease) -> None:
    if lease.lapsed_leader is not None:
        log.warning(
            "the leader did not renew its lease: leader=%s nobody led for %.0f s",
            lease.lapsed_leader,
            lease.seconds_unled or 0,
        )
    elif lease.seconds_unled is not None and lease.seconds_unled > UNLED_SECONDS:
        log.warning("nobody led the rounds for %.0f s", lease.seconds_unled)
    log.info("leads the rounds: lease=%d", lease.number)


async def _lead(rounds: Sequence[Round], lease: Lease) -> None:
    """Raises what ends the lead: Conflict (lead_lost), psycopg.Error, TimeoutError."""
    for each in rounds:
        each.begin()
    going = [asyncio.create_task(_repeat(each, lease)) for each in rounds]
    try:
        while True:
            await lease.renew()
            await asyncio.sleep(RETRY_SECONDS)
    finally:
        await _end(going)
        await lease.give_back()


async def _end(going: Iterable[asyncio.Task[None]]) -> None:
    """Cancels until all have ended, since one cancellation may be lost: before Python 3.12 `asyncio.wait_for`, by which
    the pool of connections waits, swallows one that comes together with its answer (python/cpython#86296).
    """
    pending = set(going)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


async def _repeat(each: Round, lease: Lease) -> None:
    """Each time the lease is asked for first: a process that stood still does not go on where another one leads.

    What wakes up in the middle of a round meets its lease in the next transaction (`Database.as_service`).
    """
    required_lease.set(lease.number)
    while True:
        if await lease.is_held():
            await _run(each)
            await asyncio.sleep(each.every_seconds)
        else:
            await asyncio.sleep(RETRY_SECONDS)


async def _run(each: Round) -> None:
    try:
        await each.run()
    except AppError as error:
        log.warning("round failed: %s %s", each.name, error.summary)
    except Exception as error:  # noqa: BLE001 - the loop's edge: a bug in one round must not end the others
        log.error("round failed: %s %s", each.name, describe_failure(error))  # noqa: TRY400 - it could quote a row
