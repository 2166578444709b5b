"""Composes the worker: which task and which periodic task calls which service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Concatenate, ParamSpec
from uuid import UUID

from procrastinate import App

from app.access_requests.exports import Exports
from app.bucket.service import BucketPolicies
from app.bucket.surroundings import Surroundings, surroundings
from app.certificates.signing import CertificateSigner, read_public_key
from app.deletions.destroyer import Destroyer
from app.deletions.ledger import Ledger
from app.deletions.restore_check import RestoreCheck
from app.deployment import require_own_bucket, require_own_database
from app.holds.bucket_protection import BucketProtection
from app.integrations import configured
from app.integrations.livekit.client import LiveKit
from app.integrations.speech.client import Speech
from app.integrations.supabase.client import SupabaseAdmin
from app.jobs.connector import CONNECTIONS as QUEUE_CONNECTIONS
from app.jobs.queue import (
    MEDIA_QUEUE,
    STARTS_QUEUE,
    WORDS_QUEUE,
    Task,
    make_queue,
)
from app.jobs.repair import JobRepair
from app.jobs.rounds import Round
from app.keys.service import register_root_key
from app.postgres.database import Database
from app.recordings.controller import RecordingController
from app.recordings.imports import UploadSigner, expire_due
from app.recordings.lost import LostRecordings
from app.recordings.missing import MissingObjects
from app.recordings.model import SoundMode
from app.recordings.presence import RoomWatch
from app.recordings.reconciler import Reconciler
from app.recordings.sweeper import Sweeper
from app.settings import WorkerSettings
from app.staff.invitations import StaffInvitations
from app.staff.service import StaffBans
from app.transcripts.transcription.service import Transcriber

P = ParamSpec("P")

LEADER_CONNECTIONS = 1
A_DAY_OF_ATTEMPTS = 24 * 60
"""Attempts a minute apart. A VERIFYING recording ends at its deadline (app/recordings/deadlines.py), and a LOST one
is checked again.
"""

REPAIR_JOBS_SECONDS = 10
LOOK_FOR_LOST_SECONDS = 60
EXPIRE_IMPORTS_SECONDS = 60
SWEEP_SECONDS = 3600
END_SESSIONS_SECONDS = 15
PROTECT_SECONDS = 3600
CHECK_BUCKET_SECONDS = 3600
LOOK_FOR_MISSING_SECONDS = 24 * 3600
DESTROY_SECONDS = 60
KEEP_EXPORTS_SECONDS = 3600
EXPORT_ATTEMPTS = 60
RESUME_TRANSCRIPTIONS_SECONDS = 600
TRANSCRIPTION_ATTEMPTS = 120
"""About two hours, because a speech service may be busy for one."""


@dataclass(frozen=True)
class Services:
    """The services that the worker's tasks and periodic tasks call."""

    database: Database
    controller: RecordingController
    rooms: RoomWatch
    reconciler: Reconciler
    lost: LostRecordings
    bans: StaffBans
    invitations: StaffInvitations
    uploads: UploadSigner
    sweeper: Sweeper
    missing: MissingObjects
    protection: BucketProtection
    bucket: BucketPolicies
    destroyer: Destroyer
    restores: RestoreCheck
    exports: Exports
    transcriber: Transcriber
    job_repair: JobRepair


@asynccontextmanager
async def open_services(settings: WorkerSettings) -> AsyncIterator[Services]:
    """Open the services and their clients. Raises SettingsError, UpstreamFailed, Conflict."""
    database = Database(
        settings.worker_database_url.get_secret_value(),
        application="resguardo-worker",
        max_size=settings.worker_database_connections - QUEUE_CONNECTIONS - LEADER_CONNECTIONS,
    )
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
        await register_root_key(database, settings.keyring)
        around = await stack.enter_async_context(surroundings(settings, storage))
        speech = configured.speech(settings)
        if speech is not None:
            stack.push_async_callback(speech.aclose)
        yield _services(settings, database, livekit, admin, around, speech)


def _services(
    settings: WorkerSettings,
    database: Database,
    livekit: LiveKit,
    admin: SupabaseAdmin,
    around: Surroundings,
    speech: Speech | None,
) -> Services:
    storage, deployment = around.storage, settings.deployment
    quarantine = timedelta(days=settings.orphan_quarantine_days)
    signer = CertificateSigner.from_seed(settings.certificate_signing_key.get_secret_value())
    former = (read_public_key(key.encode()) for key in settings.certificate_former_public_keys)
    ledger = Ledger(storage, (signer.public_key, *former), deployment=deployment)
    target = partial(configured.recorder_target, settings)
    sound = SoundMode(settings.livekit_sound_file.value, settings.livekit_egress_routes)
    controller = RecordingController(
        database, livekit, storage, target, keyring=settings.keyring, sound=sound
    )
    kept_in_backups = settings.backup_retention_days
    return Services(
        database=database,
        controller=controller,
        rooms=controller.rooms,
        reconciler=Reconciler(database, livekit, storage, controller, deployment=deployment),
        lost=LostRecordings(database, storage),
        bans=StaffBans(database, admin),
        invitations=StaffInvitations(database, admin, basis="invite_staff"),
        uploads=UploadSigner(database, storage),
        sweeper=Sweeper(database, storage, quarantine=quarantine),
        missing=MissingObjects(database, storage, deployment=deployment, quarantine=quarantine),
        protection=BucketProtection(database, storage, around.cloudflare, deployment=deployment),
        bucket=BucketPolicies(database, around),
        destroyer=Destroyer(
            database, storage, signer, ledger, deployment=deployment, backup_retention_days=kept_in_backups
        ),
        restores=RestoreCheck(database, storage, ledger, deployment=deployment),
        exports=Exports(database, storage, deployment=deployment),
        transcriber=Transcriber(database, storage, speech, settings.keyring),
        job_repair=JobRepair(database),
    )


@asynccontextmanager
async def open_queue(settings: WorkerSettings, services: Services) -> AsyncIterator[App]:
    """Open the queue with its tasks."""
    queue = make_queue(settings.worker_database_url.get_secret_value(), tasks(services))
    async with queue.open_async():
        yield queue


def rounds(services: Services, reconcile_seconds: float) -> list[Round]:
    """Return the periodic tasks of the leader."""

    async def expire_imports() -> None:
        async with services.database.as_service("expire_imports") as tx:
            await expire_due(tx)

    return [
        Round("repair_jobs", REPAIR_JOBS_SECONDS, services.job_repair.run_once),
        Round("reconcile", reconcile_seconds, services.reconciler.run_once, services.reconciler.forget),
        Round("look_for_lost", LOOK_FOR_LOST_SECONDS, services.lost.run_once, services.lost.forget),
        Round("expire_imports", EXPIRE_IMPORTS_SECONDS, expire_imports),
        Round("end_sessions", END_SESSIONS_SECONDS, services.bans.end_sessions),
        Round("sweep_bucket", SWEEP_SECONDS, services.sweeper.run_once),
        Round("check_bucket", CHECK_BUCKET_SECONDS, services.bucket.run_once),
        Round("look_for_missing", LOOK_FOR_MISSING_SECONDS, services.missing.run_once),
        Round("protect_held", PROTECT_SECONDS, services.protection.run_once, services.protection.forget),
        Round("destroy_due", DESTROY_SECONDS, services.destroyer.run_once),
        Round("keep_exports", KEEP_EXPORTS_SECONDS, services.exports.run_once),
        Round("resume_transcriptions", RESUME_TRANSCRIPTIONS_SECONDS, services.transcriber.resume),
    ]


def tasks(services: Services) -> list[Task]:
    """Return all tasks."""

    controller, bans = services.controller, services.bans
    invitations, uploads = services.invitations, services.uploads
    return [
        Task(
            "start_recording",
            _by_id(controller.start),
            give_up=_by_id(controller.give_up_start),
            queue=STARTS_QUEUE,
        ),
        Task("stop_recording", _by_id(controller.stop), attempts=None),
        Task("verify_recording", _by_id(controller.verify), attempts=A_DAY_OF_ATTEMPTS, queue=MEDIA_QUEUE),
        Task("enforce_consent", _by_id(controller.enforce_consent), attempts=None),
        Task("follow_egress", controller.follow_event, attempts=20),
        Task("watch_room", services.rooms.follow_event, attempts=20),
        Task("prepare_import", _by_id(uploads.prepare)),
        Task("ban_user", _by_id(bans.ban), attempts=A_DAY_OF_ATTEMPTS, give_up=_by_id(bans.give_up)),
        Task("invite_staff", _by_id(invitations.send), attempts=20, give_up=_by_id(invitations.give_up)),
        Task("secure_held", _by_id(services.protection.secure_held), attempts=None),
        Task(
            "transcribe_recording",
            _by_id(services.transcriber.transcribe),
            attempts=TRANSCRIPTION_ATTEMPTS,
            give_up=_by_id(services.transcriber.give_up),
            queue=WORDS_QUEUE,
        ),
        Task(
            "export_access_request",
            _by_id(services.exports.export),
            attempts=EXPORT_ATTEMPTS,
            give_up=_by_id(services.exports.give_up),
            queue=MEDIA_QUEUE,
        ),
    ]


def _by_id(
    run: Callable[Concatenate[UUID, P], Awaitable[None]],
) -> Callable[Concatenate[str, P], Awaitable[None]]:
    async def with_text(argument: str, /, *others: P.args, **named: P.kwargs) -> None:
        await run(UUID(argument), *others, **named)

    return with_text
