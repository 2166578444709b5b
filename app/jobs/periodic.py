"""Runs the periodic tasks of the leader. Each feature, such as `app/recordings`, defines its periodic tasks in its
`tasks.py`.

The leader is the worker that holds the lease (lease.py). Every periodic task has its own interval. If a periodic
task fails, the error is logged, the task runs again after its interval, and the other tasks continue.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
class PeriodicTask:
    """A periodic task, which runs as soon as this process is the leader and then at its interval. When this process
    becomes the leader, it first calls `begin`.
    """

    name: str
    interval_seconds: float
    run: Callable[[], Awaitable[object]]
    begin: Callable[[], None] = lambda: None


class TaskReports(Protocol):
    """Receives the results of the runs of periodic tasks."""

    def begin(self) -> None:
        """Called when this process becomes the leader, before any task runs."""

    async def report_success(self, task: str) -> None:
        """Called after a run of the task."""

    async def report_failure(self, task: str, *, is_bug: bool) -> None:
        """Called after a failed run of the task. `is_bug` is false if a service caused the error."""


async def run_periodic_tasks(
    database: Database, tasks: Sequence[PeriodicTask], reports: TaskReports | None = None
) -> None:
    """Try to become the leader, and run the periodic tasks while this worker leads. The function ends only when it
    is cancelled. While the database is unreachable, the function waits and tries again.
    """
    former: int | None = None
    while True:
        try:
            async with database.dedicated.connection("leader") as connection:
                lease = await _wait_for_lease(connection, former)
                former = lease.number
                _log_change(lease)
                await _lead(tasks, lease, reports)
        except AppError as error:
            log.warning("this worker does not lead: %s", error.reason)
        except Exception as error:  # noqa: BLE001 - the loop's edge: the worker must try to lead again
            log.error("this worker does not lead: %s", describe_failure(error))  # noqa: TRY400 - it could quote a row
        await asyncio.sleep(RETRY_SECONDS)


async def _wait_for_lease(connection: AsyncConnection[Any], former: int | None) -> Lease:
    leader = f"{socket.gethostname()}/{os.getpid()}"
    while (lease := await take_lease(connection, leader, former)) is None:  # noqa: ASYNC110 - the database tells nobody
        await asyncio.sleep(RETRY_SECONDS)
    return lease


def _log_change(lease: Lease) -> None:
    if lease.lapsed_leader is not None:
        log.warning(
            "the leader did not renew its lease: leader=%s no worker led for %.0f s",
            lease.lapsed_leader,
            lease.seconds_unled or 0,
        )
    elif lease.seconds_unled is not None and lease.seconds_unled > UNLED_SECONDS:
        log.warning("no worker led for %.0f s", lease.seconds_unled)
    log.info("this worker leads: lease=%d", lease.number)


async def _lead(tasks: Sequence[PeriodicTask], lease: Lease, reports: TaskReports | None) -> None:
    """Run the periodic tasks while this worker leads. Raises Conflict (lead_lost), psycopg.Error, TimeoutError."""
    for task in tasks:
        task.begin()
    if reports is not None:
        reports.begin()
    running = [asyncio.create_task(_repeat(task, lease, reports)) for task in tasks]
    try:
        while True:
            await lease.renew()
            await asyncio.sleep(RETRY_SECONDS)
    finally:
        await _end(running)
        await lease.give_back()


async def _end(running: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the asyncio tasks, and cancel them again until all have ended. A single cancellation can be lost.
    Before Python 3.12, for example, `asyncio.wait_for` swallows a cancellation that arrives together with the
    awaited result (python/cpython#86296).
    """
    pending = set(running)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


async def _repeat(task: PeriodicTask, lease: Lease, reports: TaskReports | None) -> None:
    """Run one periodic task at its interval. Before each run, check the lease, so that a process that was frozen
    does not run tasks beside a new leader.

    If a process freezes during a run, its next transaction checks the lease (`Database.as_service`).
    """
    required_lease.set(lease.number)
    while True:
        if await lease.is_held():
            await _run(task, reports)
            await asyncio.sleep(task.interval_seconds)
        else:
            await asyncio.sleep(RETRY_SECONDS)


async def _run(task: PeriodicTask, reports: TaskReports | None) -> None:
    failed = is_bug = False
    try:
        await task.run()
    except AppError as error:
        failed = True
        log.warning("periodic task failed: %s %s", task.name, error.summary)
    except Exception as error:  # noqa: BLE001 - the loop's edge: a bug in one task must not end the others
        failed = is_bug = True
        log.error("periodic task failed: %s %s", task.name, describe_failure(error))  # noqa: TRY400 - it could quote a row
    if reports is not None:
        await _report(task, reports, failed=failed, is_bug=is_bug)


async def _report(task: PeriodicTask, reports: TaskReports, *, failed: bool, is_bug: bool) -> None:
    try:
        if failed:
            await reports.report_failure(task.name, is_bug=is_bug)
        else:
            await reports.report_success(task.name)
    except AppError as error:
        log.warning("the alert of a periodic task is not written: %s %s", task.name, error.summary)
    except Exception as error:  # noqa: BLE001 - the loop's edge, as above
        log.error("the alert of a periodic task is not written: %s %s", task.name, describe_failure(error))  # noqa: TRY400 - it could quote a row
