"""The job loop's composition: which task calls which service, with which parts."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from uuid import UUID

from procrastinate import App
from procrastinate.exceptions import ConnectorException

from app.db import Database
from app.deployment import require_own_bucket, require_own_database
from app.errors import AppError
from app.integrations import configured
from app.integrations.supabase import SupabaseAdmin
from app.jobs.queue import Task, make_queue
from app.recordings.controller import RecordingController
from app.settings import WorkerSettings
from app.staff.service import StaffBans

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5
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
            async with open_queue(settings) as queue:
                has_worked = True
                await _work(queue, settings.worker_concurrency, stopping)
        except (AppError, ConnectorException):
            if not has_worked:
                raise
        if not stopping.is_set():
            log.warning("the queue was lost, is the database up? starting again in %d s", RESTART_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), RESTART_SECONDS)


async def _work(queue: App, concurrency: int, stopping: asyncio.Event) -> None:
    """Until the signal, or until the queue ends by itself, which it does when it loses its database."""
    working = asyncio.create_task(
        queue.run_worker_async(
            concurrency=concurrency,
            fetch_job_polling_interval=1,
            delete_jobs="successful",
            shutdown_graceful_timeout=SHUTDOWN_SECONDS,
            install_signal_handlers=False,
        )
    )
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait((working, signalled), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if stopping.is_set():
        working.cancel()
    with suppress(asyncio.CancelledError):
        await working


@asynccontextmanager
async def open_queue(settings: WorkerSettings) -> AsyncIterator[App]:
    """The queue with its tasks, over parts that live as long as it. Raises SettingsError, UpstreamFailed."""
    database_url = settings.worker_database_url.get_secret_value()
    database = Database(database_url, application="resguardo-worker")
    livekit = configured.livekit(settings)
    storage = configured.worker_storage(settings)
    admin = SupabaseAdmin(settings.supabase_url, settings.supabase_secret_key.get_secret_value())
    async with AsyncExitStack() as stack:
        await database.open()
        stack.push_async_callback(database.close)
        stack.push_async_callback(livekit.aclose)
        stack.callback(storage.close)
        await require_own_database(database, settings.deployment)
        await require_own_bucket(storage, settings.deployment)
        controller = RecordingController(
            database, livekit, storage, partial(configured.recorder_target, settings)
        )
        queue = make_queue(database_url, tasks(controller, StaffBans(database, admin)))
        yield await stack.enter_async_context(queue.open_async())


def tasks(controller: RecordingController, bans: StaffBans) -> list[Task]:
    """Every task there is."""

    async def give_up(recording_id: str, reason: str) -> None:
        await controller.give_up(UUID(recording_id), reason)

    return [
        Task("start_recording", _by_id(controller.start), give_up=give_up),
        Task("stop_recording", _by_id(controller.stop), attempts=None),
        Task("verify_recording", _by_id(controller.verify), give_up=give_up),
        Task("enforce_consent", _by_id(controller.enforce_consent), attempts=None),
        Task("follow_egress", controller.follow_event, attempts=20),
        Task("ban_user", _by_id(bans.ban), attempts=None),
    ]


def _by_id(run: Callable[[UUID], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
    async def with_text(argument: str) -> None:
        await run(UUID(argument))

    return with_text
