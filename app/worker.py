"""The job loop's composition: which task calls which service, with which parts."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from procrastinate import App
from procrastinate.exceptions import ConnectorException

from app.db import Database
from app.deployment import require_own_bucket, require_own_database
from app.errors import AppError
from app.integrations import configured
from app.integrations.supabase import SupabaseAdmin
from app.jobs.queue import (
    HEARTBEAT_SECONDS,
    MEDIA_QUEUE,
    QUEUE,
    STALLED_SECONDS,
    STARTS_QUEUE,
    Task,
    make_queue,
)
from app.jobs.rounds import Round, run_rounds
from app.recordings.controller import RecordingController
from app.recordings.imports import UploadSigner, expire_due
from app.recordings.lost import LostRecordings
from app.recordings.presence import RoomWatch
from app.recordings.reconciler import Reconciler
from app.recordings.sweeper import Sweeper
from app.settings import WorkerSettings
from app.staff.invitations import StaffInvitations
from app.staff.service import StaffBans

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5
A_DAY_OF_ATTEMPTS = 24 * 60
"""A minute apart. VERIFYING ends at its deadline (app/recordings/deadlines.py); what is LOST is looked for anew."""

MEDIA_CONCURRENCY = 2
"""How many objects are read at once: each needs a child process with its own memory (app/media/probe.py)."""
RESTART_SECONDS = 3
LOOK_FOR_LOST_SECONDS = 60
EXPIRE_IMPORTS_SECONDS = 60
SWEEP_SECONDS = 3600


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
    found = asdict(passed) | {"found_again": found_again} | asdict(swept)
    return [f"{name.replace('_', ' ')}: {count}" for name, count in found.items()]


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


@dataclass(frozen=True)
class Services:
    """What the worker's tasks and rounds call."""

    database: Database
    controller: RecordingController
    rooms: RoomWatch
    reconciler: Reconciler
    lost: LostRecordings
    bans: StaffBans
    invitations: StaffInvitations
    uploads: UploadSigner
    sweeper: Sweeper


@asynccontextmanager
async def open_services(settings: WorkerSettings) -> AsyncIterator[Services]:
    """The services over parts that live as long as they. Raises SettingsError, UpstreamFailed, Conflict."""
    database = Database(settings.worker_database_url.get_secret_value(), application="resguardo-worker")
    livekit = configured.livekit(settings)
    storage = configured.worker_storage(settings)
    admin = SupabaseAdmin(settings.supabase_url, settings.supabase_secret_key.get_secret_value())
    async with AsyncExitStack() as stack:
        await database.open()
        stack.push_async_callback(database.close)
        stack.push_async_callback(livekit.aclose)
        stack.push_async_callback(admin.aclose)
        stack.callback(storage.close)
        await require_own_database(database, settings.deployment)
        await require_own_bucket(storage, settings.deployment)
        target = partial(configured.recorder_target, settings)
        controller = RecordingController(database, livekit, storage, target)
        yield Services(
            database=database,
            controller=controller,
            rooms=RoomWatch(database, livekit),
            reconciler=Reconciler(database, livekit, storage, controller, deployment=settings.deployment),
            lost=LostRecordings(database, storage),
            bans=StaffBans(database, admin),
            invitations=StaffInvitations(database, admin, basis="invite_staff"),
            uploads=UploadSigner(database, storage),
            sweeper=Sweeper(database, storage, quarantine=timedelta(days=settings.orphan_quarantine_days)),
        )


@asynccontextmanager
async def open_queue(settings: WorkerSettings, services: Services) -> AsyncIterator[App]:
    """The queue with its tasks."""
    queue = make_queue(settings.worker_database_url.get_secret_value(), tasks(services))
    async with queue.open_async():
        yield queue


def rounds(services: Services, reconcile_seconds: float) -> list[Round]:
    """What one worker at a time does every so often."""

    async def expire_imports() -> None:
        async with services.database.as_service("expire_imports") as tx:
            await expire_due(tx)

    return [
        Round("reconcile", reconcile_seconds, services.reconciler.run_once, services.reconciler.forget),
        Round("look_for_lost", LOOK_FOR_LOST_SECONDS, services.lost.run_once, services.lost.forget),
        Round("expire_imports", EXPIRE_IMPORTS_SECONDS, expire_imports),
        Round("sweep_bucket", SWEEP_SECONDS, services.sweeper.run_once),
    ]


def tasks(services: Services) -> list[Task]:
    """Every task there is."""

    controller, bans = services.controller, services.bans
    invitations, uploads = services.invitations, services.uploads

    async def give_up(recording_id: str, reason: str) -> None:
        await controller.give_up_start(UUID(recording_id), reason)

    async def give_up_invitation(invitation_id: str, reason: str) -> None:
        await invitations.give_up(UUID(invitation_id), reason)

    return [
        Task("start_recording", _by_id(controller.start), give_up=give_up, queue=STARTS_QUEUE),
        Task("stop_recording", _by_id(controller.stop), attempts=None),
        Task("verify_recording", _by_id(controller.verify), attempts=A_DAY_OF_ATTEMPTS, queue=MEDIA_QUEUE),
        Task("enforce_consent", _by_id(controller.enforce_consent), attempts=None),
        Task("follow_egress", controller.follow_event, attempts=20),
        Task("watch_room", services.rooms.follow_event, attempts=20),
        Task("prepare_import", _by_id(uploads.prepare)),
        Task("ban_user", _by_id(bans.ban), attempts=None),
        Task("invite_staff", _by_id(invitations.send), attempts=20, give_up=give_up_invitation),
    ]


def _by_id(run: Callable[[UUID], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
    async def with_text(argument: str) -> None:
        await run(UUID(argument))

    return with_text
