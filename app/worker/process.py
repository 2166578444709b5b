"""Runs the worker process, which works on jobs until SIGINT or SIGTERM, and runs the periodic tasks while it is the
leader.
"""

import asyncio
import signal
import time
from contextlib import suppress
from typing import cast

from procrastinate import App
from procrastinate.exceptions import ConnectorException

from app.alerts.tasks import FailingTasks
from app.jobs.connector import QueueConnector
from app.jobs.periodic import run_periodic_tasks
from app.jobs.queue import (
    HEARTBEAT_SECONDS,
    LANGUAGE_QUEUE,
    MEDIA_QUEUE,
    QUEUE,
    STALLED_SECONDS,
    STARTS_QUEUE,
    TRANSCRIPTION_QUEUE,
)
from app.settings import WorkerSettings
from app.vendor_agreements.service import require_agreements
from app.worker.outage import Outage, describe_outage, is_temporary
from app.worker.services import define_periodic_tasks, open_queue, open_services

SHUTDOWN_SECONDS = 5
MEDIA_CONCURRENCY = 2
"""The number of objects read at once. Each needs a child process with its own memory (app/media/probe.py)."""
TRANSCRIPTION_CONCURRENCY = 2
"""The number of recordings transcribed at once. Each has its own child process while its sound is cut."""

LANGUAGE_CONCURRENCY = 2
"""The number of recordings whose insights are written at once."""


async def run(settings: WorkerSettings) -> None:
    """Run the worker until the process gets SIGINT or SIGTERM. While the database or a vendor is unavailable, the
    worker waits.

    If a job still runs `SHUTDOWN_SECONDS` after the signal, the worker interrupts it, and the job runs again later.
    Raises SettingsError, and in production Conflict (vendor_agreement_missing). Some errors, such as a missing
    root key, do not go away while the worker waits. The
    function raises an error of this kind if it occurs before the worker has worked for the first time.
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
            if not (outage.has_worked or is_temporary(error)):
                raise
            reason = describe_outage(error)
        if not stopping.is_set():
            outage.begin(reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), outage.next_pause())


async def _work_once(settings: WorkerSettings, stopping: asyncio.Event, outage: Outage) -> None:
    """Run jobs and periodic tasks until SIGINT or SIGTERM, or until the job queue loses its database connection. If
    an error stopped the jobs, the function raises it.
    """
    async with open_services(settings) as services, open_queue(settings, services) as queue:
        if settings.is_production and not outage.has_worked:
            await require_agreements(services.database, settings.agreement_services)
        outage.end()
        leading = asyncio.create_task(
            run_periodic_tasks(
                services.database,
                define_periodic_tasks(services, settings.reconcile_seconds),
                FailingTasks(services.alerts, clock=time.monotonic),
            )
        )
        try:
            await _work(queue, settings.worker_concurrency, stopping)
        finally:
            leading.cancel()
            await asyncio.wait((leading,))


async def _work(queue: App, concurrency: int, stopping: asyncio.Event) -> None:
    """Run the queue workers until SIGINT or SIGTERM, or until the database fails for one queue. If the worker of
    one queue ends, the workers of the other queues end too.
    """
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
            (TRANSCRIPTION_QUEUE, TRANSCRIPTION_CONCURRENCY),
            (LANGUAGE_QUEUE, LANGUAGE_CONCURRENCY),
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
