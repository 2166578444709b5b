"""The job loop: it works until it is told to end, and one worker at a time leads the rounds."""

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

from app.db_errors import translate
from app.deletions.restore import RestoreReport
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
from app.settings import WorkerSettings

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5
MEDIA_CONCURRENCY = 2
"""How many objects are read at once: each needs a child process with its own memory (app/media/probe.py)."""
WORDS_CONCURRENCY = 2
"""How many recordings are turned into words at once: each has a child process of its own while it is listened to."""

PAUSES_SECONDS = (1, 2, 5, 10, 20, 30)
"""After the first failure, the second, ...; the last one stays."""

STEADY_SECONDS = 60
"""A worker that worked for so long starts again with the shortest pause."""


async def run(settings: WorkerSettings) -> None:
    """Runs until the process gets SIGINT or SIGTERM. It waits for the end of any outage, at the start or later.

    Jobs still running `SHUTDOWN_SECONDS` after the signal are cut short and run again later. Raises SettingsError, and
    an AppError that no waiting ends (another practice's database, a missing root key) before it has worked once.
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
    """What keeps the worker from working: one line of the log for each change, and pauses that grow."""

    def __init__(self) -> None:
        self.has_worked = False
        self._reason: str | None = None
        self._failures = 0
        self._began_at: float | None = None

    def tell(self, reason: str) -> None:
        """The worker does not work; a reason that is known already is not logged again."""
        if self._began_at is not None and time.monotonic() - self._began_at > STEADY_SECONDS:
            self._failures = 0
        self._began_at = None
        if reason != self._reason:
            log.warning("the worker waits: %s", reason)
        self._reason = reason

    def end(self) -> None:
        """The worker works."""
        if self._reason is not None:
            log.info("the worker works again")
        self.has_worked, self._reason, self._began_at = True, None, time.monotonic()

    def next_pause(self) -> float:
        """In seconds, up to a fifth shorter, so that several workers do not come back in step."""
        pause = PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)]
        self._failures += 1
        return pause * random.uniform(0.8, 1)  # noqa: S311 - nothing is kept secret by it


async def _work_once(settings: WorkerSettings, stopping: asyncio.Event, outage: Outage) -> None:
    """Until the signal, or until the queue is lost. Raises what keeps it from working."""
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
    """Whether it is an outage, rather than something that is wrong with the deployment or with us."""
    if isinstance(error, AppError):
        return error.retryable or error.reason == "concurrent_change"
    return isinstance(error, (psycopg.Error, ConnectorException, TimeoutError))


def _reason(error: Exception) -> str:
    """A reason of ours where there is one, else the type of the error and where it came from."""
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    translated = translate(cause) if isinstance(cause, psycopg.Error) else cause
    return translated.reason if isinstance(translated, AppError) else describe_failure(error)


async def reconcile_once(settings: WorkerSettings) -> list[str]:
    """One pass over everything, in lines for people. Raises SettingsError and AppError."""
    async with open_services(settings) as services:
        passed = await services.reconciler.run_once()
        found_again = await services.lost.run_once()
        swept = await services.sweeper.run_once()
        destroyed = await services.destroyer.run_once()
    found = asdict(passed) | {"found_again": found_again} | asdict(swept)
    found |= {"destroyed": destroyed.destroyed, "destructions_failed": destroyed.failed}
    return [f"{name.replace('_', ' ')}: {count}" for name, count in found.items()]


async def check_restore(settings: WorkerSettings, *, repeat: bool) -> RestoreReport:
    """One look at the ledger of deletions. Raises SettingsError and AppError."""
    async with open_services(settings) as services:
        return await services.restores.run(repeat=repeat)


async def _work(queue: App, concurrency: int, stopping: asyncio.Event) -> None:
    """Until the signal, or until the database fails a queue, which then ends with the others."""
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
