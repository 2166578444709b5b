"""The job loop: it works until it is told to end, and one worker at a time leads the rounds."""

import asyncio
import logging
import signal
from contextlib import suppress
from dataclasses import asdict

from procrastinate import App
from procrastinate.exceptions import ConnectorException

from app.deletions.restore import RestoreReport
from app.duties import open_queue, open_services, rounds
from app.errors import AppError
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

RESTART_SECONDS = 3


async def run(settings: WorkerSettings) -> None:
    """Works until it gets SIGINT or SIGTERM; a database that goes away is waited for.

    Jobs still running `SHUTDOWN_SECONDS` after the signal are cut short and run again later. Raises SettingsError and
    AppError where the first start fails.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    has_worked = False
    while not stopping.is_set():
        try:
            async with open_services(settings) as services, open_queue(settings, services) as queue:
                has_worked = True
                due = rounds(services, settings.reconcile_seconds)
                leading = asyncio.create_task(run_rounds(services.database, due))
                try:
                    await _work(queue, settings.worker_concurrency, stopping)
                finally:
                    leading.cancel()
                    await asyncio.wait((leading,))
        except (AppError, ConnectorException):
            if not has_worked:
                raise
        if not stopping.is_set():
            log.warning("the queue was lost, is the database up? starting again in %d s", RESTART_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), RESTART_SECONDS)


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
    """Until the signal, or until a queue ends by itself, which it does when it loses its database."""
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
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait((*working, signalled), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    for task in working:
        task.cancel()
    for ended in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
