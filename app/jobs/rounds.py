"""Runs the periodic tasks of the leader. The worker passes in the tasks.

The leader is the worker that holds the lease (lease.py). Each task has its own interval. A failed task is logged
and runs again at its next interval, and the other tasks continue.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from app.errors import AppError
from app.failures import describe_failure
from app.jobs.lease import UNLED_SECONDS, Lease, take_lease
from app.postgres.database import Database, required_lease

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""The interval at which a worker tries to take, or renews, the lease: short enough for a late answer within the 15
s of the lease.
"""

CANCEL_AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Round:
    """A periodic task, which runs at once and then at its interval. `begin` is called when this process becomes the
    leader.
    """

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]
    begin: Callable[[], None] = lambda: None


async def run_rounds(database: Database, rounds: Sequence[Round]) -> None:
    """Try to become the leader, and run the tasks while leading, until cancelled. Waits while the database is
    unreachable.
    """
    former: int | None = None
    while True:
        try:
            async with database.dedicated.connection("leader") as connection:
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
    """Run the tasks until the lead ends. Raises Conflict (lead_lost), psycopg.Error, TimeoutError."""
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
    """Cancel the tasks repeatedly until all have ended. A single cancellation can be lost: before Python 3.12
    `asyncio.wait_for`, which the connection pool uses, swallows a cancellation that arrives together with its
    answer (python/cpython#86296).
    """
    pending = set(going)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


async def _repeat(each: Round, lease: Lease) -> None:
    """Run one task at its interval, and check the lease before each run, so that a process that was frozen does not
    continue beside a new leader.

    If a process freezes during a run, its next transaction checks the lease (`Database.as_service`).
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
