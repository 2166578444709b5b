"""Runs the worker: processes jobs until it is told to stop, and runs the periodic tasks while it is the leader."""

import asyncio
import logging
import random
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from typing import cast

import psycopg
from procrastinate import App
from procrastinate.exceptions import ConnectorException

from app.deletions.restore_check import RestoreReport
from app.duties import open_queue, open_services, rounds
from app.errors import AppError
from app.failures import describe_failure
from app.jobs.connector import QueueConnector
from app.jobs.queue import (
    HEARTBEAT_SECONDS,
    MEDIA_QUEUE,
    QUEUE,
    STALLED_SECONDS,
    STARTS_QUEUE,
    WORDS_QUEUE,
)
from app.jobs.rounds import run_rounds
from app.postgres.errors import translate
from app.settings import WorkerSettings

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5
MEDIA_CONCURRENCY = 2
"""The number of objects read at once. Each needs a child process with its own memory (app/media/probe.py)."""
WORDS_CONCURRENCY = 2
"""The number of recordings transcribed at once. Each has its own child process while its sound is cut."""

PAUSES_SECONDS = (1, 2, 5, 10, 20, 30)
"""The pauses after the first failure, the second, and so on. The last one repeats."""

STEADY_SECONDS = 60
"""A worker that has worked for this long starts again with the shortest pause."""


async def run(settings: WorkerSettings) -> None:
    """Run until the process gets SIGINT or SIGTERM. Waits for the end of any outage.

    Jobs that are still running `SHUTDOWN_SECONDS` after the signal are interrupted and run again later. Raises
    SettingsError, and an AppError that no waiting can end (another practice's database, a missing root key) if it
    occurs before the worker has worked once.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    outage = Outage()
    while not stopping.is_set():
        try:
            await _work_once(settings, stopping, outage)
            reason = "the queue was lost"
        except Exception as error:
            if not (outage.has_worked or _may_pass(error)):
                raise
            reason = _reason(error)
        if not stopping.is_set():
            outage.tell(reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), outage.next_pause())


class Outage:
    """The reason why the worker cannot work: logs one line for each change, and returns growing pauses."""

    def __init__(self) -> None:
        self.has_worked = False
        self._reason: str | None = None
        self._failures = 0
        self._began_at: float | None = None

    def tell(self, reason: str) -> None:
        """Record that the worker cannot work. A repeated reason is not logged again."""
        if self._began_at is not None and time.monotonic() - self._began_at > STEADY_SECONDS:
            self._failures = 0
        self._began_at = None
        if reason != self._reason:
            log.warning("the worker waits: %s", reason)
        self._reason = reason

    def end(self) -> None:
        """Record that the worker works."""
        if self._reason is not None:
            log.info("the worker works again")
        self.has_worked, self._reason, self._began_at = True, None, time.monotonic()

    def next_pause(self) -> float:
        """Return the next pause in seconds, shortened at random by up to a fifth, so that several workers do not
        return together.
        """
        pause = PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)]
        self._failures += 1
        return pause * random.uniform(0.8, 1)  # noqa: S311 - nothing is kept secret by it


async def _work_once(settings: WorkerSettings, stopping: asyncio.Event, outage: Outage) -> None:
    """Work until the signal or until the queue is lost. Raises the reason that ends the work."""
    async with open_services(settings) as services, open_queue(settings, services) as queue:
        outage.end()
        leading = asyncio.create_task(
            run_rounds(services.database, rounds(services, settings.reconcile_seconds))
        )
        try:
            await _work(queue, settings.worker_concurrency, stopping)
        finally:
            leading.cancel()
            await asyncio.wait((leading,))


def _may_pass(error: Exception) -> bool:
    """Return whether the error is an outage, and not a defect of the deployment or of Resguardo."""
    if isinstance(error, AppError):
        return error.retryable or error.reason == "concurrent_change"
    return isinstance(error, (psycopg.Error, ConnectorException, TimeoutError))


def _reason(error: Exception) -> str:
    """Return our reason for the error, or its type and where it was raised."""
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    translated = translate(cause) if isinstance(cause, psycopg.Error) else cause
    return translated.reason if isinstance(translated, AppError) else describe_failure(error)


async def reconcile_once(settings: WorkerSettings) -> list[str]:
    """Run one pass over everything, and return lines for people. Raises SettingsError and AppError."""
    async with open_services(settings) as services:
        passed = await services.reconciler.run_once()
        found_again = await services.lost.run_once()
        swept = await services.sweeper.run_once()
        destroyed = await services.destroyer.run_once()
    found = asdict(passed) | {"found_again": found_again} | asdict(swept)
    found |= {"destroyed": destroyed.destroyed, "destructions_failed": destroyed.failed}
    return [f"{name.replace('_', ' ')}: {count}" for name, count in found.items()]


async def check_restore(settings: WorkerSettings, *, repeat: bool) -> RestoreReport:
    """Compare the ledger of deletions with the database once. Raises SettingsError and AppError."""
    async with open_services(settings) as services:
        return await services.restores.run(repeat=repeat)


async def _work(queue: App, concurrency: int, stopping: asyncio.Event) -> None:
    """Run until the signal, or until the database fails one queue. The other queues then end too."""
    working = [
        asyncio.create_task(
            queue.run_worker_async(
                queues=[name],
                concurrency=at_once,
                fetch_job_polling_interval=1,
                update_heartbeat_interval=HEARTBEAT_SECONDS,
                stalled_worker_timeout=STALLED_SECONDS,
                delete_jobs="successful",
                shutdown_graceful_timeout=SHUTDOWN_SECONDS,
                install_signal_handlers=False,
            )
        )
        for name, at_once in (
            (QUEUE, concurrency),
            (STARTS_QUEUE, concurrency),
            (MEDIA_QUEUE, MEDIA_CONCURRENCY),
            (WORDS_QUEUE, WORDS_CONCURRENCY),
        )
    ]
    connector = cast("QueueConnector", queue.connector)
    ends = [asyncio.create_task(stopping.wait()), asyncio.create_task(connector.lost.wait())]
    await asyncio.wait((*working, *ends), return_when=asyncio.FIRST_COMPLETED)
    for each in ends:
        each.cancel()
    for task in working:
        task.cancel()
    ended = await asyncio.gather(*working, return_exceptions=True)
    if connector.failure is not None:
        raise ConnectorException from connector.failure
    for error in ended:
        if isinstance(error, Exception):
            raise error
