"""Composes the worker: opens the worker's services, and collects the tasks and periodic tasks of all features."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from procrastinate import App

from app.access_requests import tasks as access_request_tasks
from app.access_requests.exports import Exports
from app.access_reviews import tasks as access_review_tasks
from app.access_reviews.service import AccessRemoval
from app.alerts import tasks as alert_tasks
from app.alerts.service import Alerts
from app.audit import tasks as audit_tasks
from app.audit.indexing import AuditIndex
from app.audit.publishing import tasks as publishing_tasks
from app.audit.publishing.adoption import Adoption
from app.audit.publishing.cosigners import Cosigners
from app.audit.publishing.publisher import Publisher, SecondBucket
from app.audit.sealing import tasks as sealing_tasks
from app.audit.sealing.model import LogKeys
from app.audit.sealing.sealer import LogCounts, Sealer
from app.audit_exports import tasks as audit_export_tasks
from app.audit_exports.exporter import AuditExporter, Receipts
from app.breaches import tasks as breach_tasks
from app.breaches.counter import BreachCounter
from app.bucket import tasks as bucket_tasks
from app.bucket.clients import BucketClients, open_bucket_clients
from app.bucket.lost_objects import LostObjects
from app.bucket.missing_objects import MissingObjects
from app.bucket.orphaned_objects import OrphanedObjects
from app.bucket.service import BucketPolicies
from app.certificates.signing import CertificateSigner, read_public_key
from app.clips import tasks as clip_tasks
from app.clips.cutter import ClipCutter
from app.costs import tasks as cost_tasks
from app.costs.tasks import HeldLanguageWork
from app.deletions import tasks as deletion_tasks
from app.deletions.destroyer import Destroyer
from app.deletions.ledger import Ledger
from app.deletions.note_destroyer import NoteDestroyer
from app.deletions.restore_check import RestoreCheck
from app.deployment import require_own_bucket, require_own_database
from app.holds import tasks as hold_tasks
from app.holds.bucket_protection import BucketProtection
from app.idempotency import tasks as idempotency_tasks
from app.idempotency.service import IdempotencyKeys
from app.insights import tasks as insight_tasks
from app.insights.language_choice import make_language
from app.insights.writer import InsightsWriter
from app.integrations import vendor_clients
from app.integrations.language.port import Language
from app.integrations.livekit.client import LiveKit
from app.integrations.speech.client import Speech
from app.integrations.storage.client import Storage
from app.integrations.supabase.client import SupabaseAdmin
from app.integrations.webhook_endpoints.client import EndpointClient
from app.integrations.witness.client import Witness
from app.jobs import tasks as job_tasks
from app.jobs.connector import CONNECTIONS as QUEUE_CONNECTIONS
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import Task, make_queue
from app.jobs.repair import JobRepair
from app.keys.service import register_root_key
from app.notes import tasks as note_tasks
from app.notes.exported_notes import compose_note_files
from app.notes.sections import NoteSectionWriter
from app.officer_proposals import tasks as proposal_tasks
from app.officer_proposals.reassignments import Reassignments
from app.officer_proposals.second_factors import SecondFactorResets
from app.outgoing_webhooks import tasks as outgoing_webhook_tasks
from app.outgoing_webhooks.sender import WebhookSender, register_endpoints
from app.postgres.database import Database
from app.recording_imports import tasks as import_tasks
from app.recording_imports.upload_signer import UploadSigner
from app.recordings import tasks as recording_tasks
from app.recordings.model import SoundMode
from app.recordings.reconciler import Reconciler
from app.recordings.tasks import RecordingJobs
from app.review import tasks as review_tasks
from app.review.evaluation import ReviewEvaluation
from app.settings import WorkerSettings
from app.sign_ins import tasks as sign_in_tasks
from app.sign_ins.service import SignInReader
from app.staff import tasks as staff_tasks
from app.staff.bans import StaffBans
from app.staff.invitations import StaffInvitations
from app.thumbnails import tasks as thumbnail_tasks
from app.thumbnails.maker import ThumbnailMaker
from app.transcripts import tasks as transcript_tasks
from app.transcripts.transcription.service import Transcriber
from app.vendor_agreements import tasks as vendor_agreement_tasks
from app.vendor_agreements.service import AgreementWatch

LEADER_CONNECTIONS = 1


@dataclass(frozen=True)
class WorkerServices:
    """The services that the worker's tasks and periodic tasks call."""

    database: Database
    recording_jobs: RecordingJobs
    reconciler: Reconciler
    lost_objects: LostObjects
    bans: StaffBans
    invitations: StaffInvitations
    second_factor_resets: SecondFactorResets
    reassignments: Reassignments
    access_removal: AccessRemoval
    uploads: UploadSigner
    orphaned_objects: OrphanedObjects
    missing_objects: MissingObjects
    protection: BucketProtection
    bucket: BucketPolicies
    destroyer: Destroyer
    note_destroyer: NoteDestroyer
    restores: RestoreCheck
    exports: Exports
    clips: ClipCutter
    thumbnails: ThumbnailMaker
    transcriber: Transcriber
    job_repair: JobRepair
    insights_writer: InsightsWriter
    note_sections: NoteSectionWriter
    held_language_work: HeldLanguageWork
    idempotency_keys: IdempotencyKeys
    audit_sealer: Sealer
    audit_counts: LogCounts
    sign_ins: SignInReader
    audit_adoption: Adoption
    audit_publisher: Publisher
    second_audit_bucket: SecondBucket | None
    audit_index: AuditIndex
    review_evaluation: ReviewEvaluation
    audit_exporter: AuditExporter
    webhook_sender: WebhookSender
    agreement_watch: AgreementWatch
    breach_counter: BreachCounter
    alerts: Alerts


@asynccontextmanager
async def open_services(settings: WorkerSettings) -> AsyncIterator[WorkerServices]:
    """Open the services and their clients. Raises SettingsError, UpstreamFailed, Conflict."""
    database = Database(
        settings.worker_database_url.get_secret_value(),
        application="resguardo-worker",
        max_size=settings.worker_database_connections - QUEUE_CONNECTIONS - LEADER_CONNECTIONS,
    )
    livekit = vendor_clients.make_livekit(settings)
    storage = vendor_clients.make_worker_storage(settings)
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
        clients = await stack.enter_async_context(open_bucket_clients(settings, storage))
        speech = vendor_clients.make_speech(settings)
        if speech is not None:
            stack.push_async_callback(speech.aclose)
        language = make_language(settings)
        if language is not None:
            stack.push_async_callback(language.aclose)
        witnesses = vendor_clients.make_witnesses(settings)
        for witness in witnesses:
            stack.push_async_callback(witness.aclose)
        second = vendor_clients.make_second_audit_storage(settings)
        if second is not None:
            stack.callback(second.close)
        endpoints = vendor_clients.make_webhook_endpoints(settings)
        for endpoint in endpoints.values():
            stack.push_async_callback(endpoint.aclose)
        await register_endpoints(database, settings.webhook_endpoints)
        yield _services(
            settings, database, livekit, admin, clients, speech, language, witnesses, second, endpoints
        )


def _services(
    settings: WorkerSettings,
    database: Database,
    livekit: LiveKit,
    admin: SupabaseAdmin,
    clients: BucketClients,
    speech: Speech | None,
    language: Language | None,
    witnesses: Sequence[Witness],
    second: Storage | None,
    endpoints: Mapping[str, EndpointClient],
) -> WorkerServices:
    storage, deployment = clients.storage, settings.deployment
    quarantine = timedelta(days=settings.orphan_quarantine_days)
    signer = CertificateSigner.from_seed(settings.certificate_signing_key.get_secret_value())
    former = (read_public_key(key.encode()) for key in settings.certificate_former_public_keys)
    ledger = Ledger(storage, (signer.public_key, *former), deployment=deployment)
    target = partial(vendor_clients.make_recorder_target, settings)
    sound = SoundMode(settings.livekit_sound_file.value, settings.livekit_egress_routes)
    recording_jobs = RecordingJobs(
        database,
        livekit,
        storage,
        target,
        keyring=settings.keyring,
        sound=sound,
        has_thumbnails=settings.thumbnails,
    )
    kept_in_backups = settings.backup_retention_days

    def log_keys(year: int) -> LogKeys:
        return LogKeys.derive(settings.audit_seed, settings.former_log_keys, deployment=deployment, year=year)

    adoption = Adoption(database, storage, log_keys)
    return WorkerServices(
        database=database,
        recording_jobs=recording_jobs,
        reconciler=Reconciler(
            database,
            livekit,
            storage,
            recording_jobs.updates,
            recording_jobs.transitions,
            recording_jobs.rooms,
            deployment=deployment,
        ),
        lost_objects=LostObjects(database, storage),
        bans=StaffBans(database, admin),
        invitations=StaffInvitations(database, admin, basis="invite_staff"),
        second_factor_resets=SecondFactorResets(database, admin),
        reassignments=Reassignments(database),
        access_removal=AccessRemoval(database),
        uploads=UploadSigner(database, storage),
        orphaned_objects=OrphanedObjects(database, storage, quarantine=quarantine),
        missing_objects=MissingObjects(database, storage, deployment=deployment, quarantine=quarantine),
        protection=BucketProtection(database, storage, clients.cloudflare, deployment=deployment),
        bucket=BucketPolicies(database, clients),
        destroyer=Destroyer(
            database, storage, signer, ledger, deployment=deployment, backup_retention_days=kept_in_backups
        ),
        note_destroyer=NoteDestroyer(
            database, storage, signer, ledger, deployment=deployment, backup_retention_days=kept_in_backups
        ),
        restores=RestoreCheck(database, storage, ledger, deployment=deployment),
        exports=Exports(database, storage, settings.keyring, compose_note_files, deployment=deployment),
        clips=ClipCutter(database, storage),
        thumbnails=ThumbnailMaker(database, storage, settings.keyring),
        transcriber=Transcriber(database, storage, speech, settings.keyring),
        job_repair=JobRepair(database),
        idempotency_keys=IdempotencyKeys(database),
        sign_ins=SignInReader(database),
        insights_writer=InsightsWriter(database, language, settings.keyring),
        note_sections=NoteSectionWriter(database, language, settings.keyring),
        held_language_work=HeldLanguageWork(database),
        audit_sealer=Sealer(
            database,
            settings.audit_seed,
            settings.former_log_keys,
            deployment=deployment,
            clock=time.monotonic,
            reconcile=adoption.run_briefly,
        ),
        audit_counts=LogCounts(database),
        audit_adoption=adoption,
        audit_publisher=Publisher(
            database,
            storage,
            adoption,
            Cosigners(database, witnesses, clock=time.monotonic),
            log_keys,
            publish_seconds=settings.audit_publish_seconds,
        ),
        second_audit_bucket=None
        if second is None
        else SecondBucket(database, storage, second, deployment=deployment),
        audit_index=AuditIndex(database),
        breach_counter=BreachCounter(database),
        review_evaluation=ReviewEvaluation(database),
        audit_exporter=AuditExporter(database, storage, Receipts(database).read, deployment=deployment),
        agreement_watch=AgreementWatch(database, Alerts(database), settings.agreement_services),
        webhook_sender=WebhookSender(database, settings.webhook_endpoints, endpoints, clock=time.time),
        alerts=Alerts(database),
    )


@asynccontextmanager
async def open_queue(settings: WorkerSettings, services: WorkerServices) -> AsyncIterator[App]:
    """Open the job queue with the tasks of all features."""
    queue = make_queue(settings.worker_database_url.get_secret_value(), define_tasks(services))
    async with queue.open_async():
        yield queue


def define_periodic_tasks(services: WorkerServices, reconcile_seconds: float) -> list[PeriodicTask]:
    """Return the periodic tasks that the leader runs."""
    return [
        *job_tasks.define_periodic_tasks(services.job_repair),
        *sealing_tasks.define_periodic_tasks(services.audit_sealer, services.audit_counts),
        *publishing_tasks.define_periodic_tasks(services.audit_publisher, services.second_audit_bucket),
        *idempotency_tasks.define_periodic_tasks(services.idempotency_keys),
        *recording_tasks.define_periodic_tasks(services.reconciler, reconcile_seconds),
        *import_tasks.define_periodic_tasks(services.uploads),
        *staff_tasks.define_periodic_tasks(services.bans),
        *access_review_tasks.define_periodic_tasks(services.access_removal),
        *sign_in_tasks.define_periodic_tasks(services.sign_ins),
        *bucket_tasks.define_periodic_tasks(
            services.bucket, services.orphaned_objects, services.missing_objects, services.lost_objects
        ),
        *hold_tasks.define_periodic_tasks(services.protection),
        *deletion_tasks.define_periodic_tasks(services.destroyer, services.note_destroyer),
        *access_request_tasks.define_periodic_tasks(services.exports),
        *transcript_tasks.define_periodic_tasks(services.transcriber),
        *insight_tasks.define_periodic_tasks(services.insights_writer),
        *note_tasks.define_periodic_tasks(services.note_sections),
        *cost_tasks.define_periodic_tasks(services.held_language_work),
        *audit_tasks.define_periodic_tasks(services.audit_index),
        *review_tasks.define_periodic_tasks(services.review_evaluation),
        *audit_export_tasks.define_periodic_tasks(services.audit_exporter),
        *outgoing_webhook_tasks.define_periodic_tasks(services.webhook_sender),
        *alert_tasks.define_periodic_tasks(services.alerts),
        *vendor_agreement_tasks.define_periodic_tasks(services.agreement_watch),
    ]


def define_tasks(services: WorkerServices) -> list[Task]:
    """Return the tasks of all features."""
    return [
        *recording_tasks.define_tasks(services.recording_jobs),
        *import_tasks.define_tasks(services.uploads),
        *staff_tasks.define_tasks(services.bans, services.invitations),
        *access_review_tasks.define_tasks(services.access_removal),
        *proposal_tasks.define_tasks(services.second_factor_resets, services.reassignments),
        *hold_tasks.define_tasks(services.protection),
        *transcript_tasks.define_tasks(services.transcriber),
        *insight_tasks.define_tasks(services.insights_writer),
        *note_tasks.define_tasks(services.note_sections),
        *access_request_tasks.define_tasks(services.exports),
        *audit_export_tasks.define_tasks(services.audit_exporter),
        *breach_tasks.define_tasks(services.breach_counter),
        *clip_tasks.define_tasks(services.clips),
        *thumbnail_tasks.define_tasks(services.thumbnails),
    ]
