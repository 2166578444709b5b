"""Tests of the job queue: retries with growing pauses, a log line for each failure, and job arguments without
content.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from procrastinate import App
from procrastinate.jobs import Job

from app.access_requests.exports import Exports
from app.access_reviews.service import AccessRemoval
from app.alerts.service import Alerts
from app.audit.indexing import AuditIndex
from app.audit.publishing.adoption import Adoption
from app.audit.publishing.publisher import Publisher, SecondBucket
from app.audit.sealing.sealer import LogCounts, Sealer
from app.audit_exports.exporter import AuditExporter
from app.breaches.counter import BreachCounter
from app.bucket.lost_objects import LostObjects
from app.bucket.missing_objects import MissingObjects
from app.bucket.orphaned_objects import OrphanedObjects
from app.bucket.service import BucketPolicies
from app.clips.cutter import ClipCutter
from app.costs.tasks import HeldLanguageWork
from app.deletions.destroyer import Destroyer
from app.deletions.note_destroyer import NoteDestroyer
from app.deletions.restore_check import RestoreCheck
from app.errors import RateLimited, UpstreamFailed
from app.holds.bucket_protection import BucketProtection
from app.idempotency.service import IdempotencyKeys
from app.insights.writer import InsightsWriter
from app.integrations.livekit.client import LiveKit
from app.integrations.storage.client import Storage
from app.jobs.queue import STALLED_SECONDS, Task, defer_job, make_queue
from app.jobs.repair import JobRepair
from app.jobs.retries import (
    LONGEST_ASKED_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    GrowingPauses,
    JobFailed,
    NotGivenUp,
)
from app.keys.keyring import Keyring
from app.notes.sections import NoteSectionWriter
from app.officer_proposals.reassignments import Reassignments
from app.officer_proposals.second_factors import SecondFactorResets
from app.outgoing_webhooks.sender import WebhookSender
from app.postgres.database import Database as Pool
from app.recording_imports.upload_signer import UploadSigner
from app.recordings.reconciler import Reconciler
from app.recordings.tasks import RecordingJobs
from app.review.evaluation import ReviewEvaluation
from app.sign_ins.service import SignInReader
from app.staff.bans import StaffBans
from app.staff.invitations import StaffInvitations
from app.thumbnails.maker import ThumbnailMaker
from app.transcripts.transcription.service import Transcriber
from app.vendor_agreements.service import AgreementWatch
from app.worker.services import WorkerServices, define_tasks
from tests.databases import Database

pytestmark = pytest.mark.anyio

WORDS = "the vendor said: https://bucket.example/?X-Amz-Signature=secret for patient Paula"
TASK = "verify_recording"


def _rows(database: Database, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.superuser_url) as connection:
        cursor = connection.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def _defer(database: Database, argument: UUID | None = None, task: str = TASK) -> int:
    """Insert a job into the queue, and commit the transaction. Return its id."""
    _rows(database, "select private.defer_job(%s, %s)", task, argument or uuid4())
    return int(_rows(database, "select max(id) from jobs.procrastinate_jobs")[0][0])


def _status(database: Database, job: int) -> tuple[str, int]:
    return _rows(database, "select status, attempts from jobs.procrastinate_jobs where id = %s", job)[0]


def _hurry(database: Database) -> None:
    _rows(database, "update jobs.procrastinate_jobs set scheduled_at = now() where status = 'todo'")


async def _run(queue: App, concurrency: int = 4) -> None:
    """Run the queue's jobs until no job is due."""
    await queue.run_worker_async(
        wait=False, install_signal_handlers=False, listen_notify=False, concurrency=concurrency
    )


@asynccontextmanager
async def _opened(database: Database, *tasks: Task) -> AsyncIterator[App]:
    queue = make_queue(database.worker_url, tasks)
    async with queue.open_async():
        yield queue


class Work:
    """A task that fails in its first `failures` runs, and records the argument of each run."""

    def __init__(self, failures: int = 0, error: Callable[[], Exception] = lambda: ValueError(WORDS)) -> None:
        self.failures, self.error = failures, error
        self.done: list[str] = []
        self.given_up: list[tuple[str, str]] = []
        self.failures_to_give_up = 0

    async def run(self, argument: str) -> None:
        """Run the task."""
        self.done.append(argument)
        if self.failures:
            self.failures -= 1
            raise self.error()

    async def give_up(self, argument: str, reason: str) -> None:
        """Record that the queue has given up this job."""
        if self.failures_to_give_up:
            self.failures_to_give_up -= 1
            raise ConnectionError(WORDS)
        self.given_up.append((argument, reason))

    def task(self, attempts: int = 3) -> Task:
        """Return the task, with `give_up` as the handler that the queue calls after the last failed attempt."""
        return Task(TASK, self.run, attempts=attempts, give_up=self.give_up)


async def test_job_runs_with_its_one_id(database: Database) -> None:
    work, argument = Work(), uuid4()
    job = _defer(database, argument)
    async with _opened(database, work.task()) as queue:
        await _run(queue)
    assert work.done == [str(argument)]
    assert _status(database, job) == ("succeeded", 1)
    assert work.given_up == []


async def test_failed_job_is_tried_again_after_a_pause_that_grows(database: Database) -> None:
    work, pauses = Work(failures=4), []
    job = _defer(database)
    async with _opened(database, work.task(attempts=5)) as queue:
        for _ in range(4):
            await _run(queue)
            pauses.append(
                _rows(
                    database,
                    "select extract(epoch from scheduled_at - now())::float from jobs.procrastinate_jobs"
                    " where id = %s",
                    job,
                )[0][0]
            )
            _hurry(database)
        await _run(queue)
    for pause, expected in zip(pauses, (1, 2, 4, 8), strict=True):
        assert expected - 1 < pause <= expected
    assert _status(database, job) == ("succeeded", 5)


def test_pause_is_a_minute_at_most() -> None:
    def pause(attempts: int) -> float:
        job = Job(id=1, queue="default", lock=None, queueing_lock=None, task_name=TASK, attempts=attempts)
        decision = GrowingPauses(200).get_retry_decision(exception=ValueError(), job=job)
        assert decision is not None
        return decision.pause.total_seconds()

    assert pause(150) == LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("asked", "attempts", "seconds"),
    [(17, 0, 17), (17, 6, 60), (999, 6, 999), (10**9, 0, 3600), (-5, 2, 4), (0, 2, 4)],
)
def test_pause_is_what_a_vendor_asked_for_if_that_is_longer_and_an_hour_at_most(
    asked: int, attempts: int, seconds: int
) -> None:
    job = Job(id=1, queue="default", lock=None, queueing_lock=None, task_name=TASK, attempts=attempts)
    decision = GrowingPauses(120).get_retry_decision(exception=JobFailed("speech_busy", asked), job=job)
    assert decision is not None
    assert decision.pause == timedelta(seconds=seconds)


async def test_vendor_that_names_a_time_is_left_alone_until_then(database: Database) -> None:
    work = Work(failures=1, error=lambda: RateLimited("speech_busy", retry_after_seconds=600))
    job = _defer(database)
    async with _opened(database, work.task()) as queue:
        await _run(queue)
    [(pause,)] = _rows(
        database,
        "select extract(epoch from scheduled_at - now())::float from jobs.procrastinate_jobs where id = %s",
        job,
    )
    assert 590 < pause <= 600


async def test_job_is_given_up_at_the_end_with_its_reason(database: Database) -> None:
    work, argument = Work(failures=9, error=lambda: UpstreamFailed("object_missing")), uuid4()
    job = _defer(database, argument)
    async with _opened(database, work.task(attempts=3)) as queue:
        for _ in range(5):
            await _run(queue)
            _hurry(database)
    assert len(work.done) == 3
    assert work.given_up == [(str(argument), "object_missing")]
    assert _status(database, job) == ("failed", 3)


async def test_bug_is_given_up_as_an_internal_error(database: Database) -> None:
    work = Work(failures=1)
    _defer(database)
    async with _opened(database, work.task(attempts=1)) as queue:
        await _run(queue)
    assert [reason for _, reason in work.given_up] == ["internal_error"]


async def test_job_end_that_cannot_be_written_is_written_later(database: Database) -> None:
    work = Work(failures=9)
    work.failures_to_give_up = 2
    job = _defer(database)
    async with _opened(database, work.task(attempts=1)) as queue:
        for _ in range(2):
            await _run(queue)
            assert _status(database, job)[0] == "todo"
            assert work.given_up == []
            _hurry(database)
        await _run(queue)
    assert len(work.given_up) == 1
    assert _status(database, job)[0] == "failed"


@pytest.mark.parametrize("exception", [NotGivenUp("x"), asyncio.CancelledError()])
def test_interrupted_attempt_is_not_the_last_attempt(exception: BaseException) -> None:
    job = Job(id=1, queue="default", lock=None, queueing_lock=None, task_name=TASK, attempts=7)
    assert GrowingPauses(3).get_retry_decision(exception=ValueError(), job=job) is None
    assert GrowingPauses(3).get_retry_decision(exception=exception, job=job) is not None


async def test_shutdown_cuts_a_job_short_and_leaves_it_for_another(database: Database) -> None:
    began = asyncio.Event()

    async def hang(argument: str) -> None:
        began.set()
        await asyncio.sleep(60)

    job = _defer(database)
    async with _opened(database, Task(TASK, hang, attempts=1)) as queue:
        working = asyncio.create_task(
            queue.run_worker_async(install_signal_handlers=False, shutdown_graceful_timeout=0.1)
        )
        await asyncio.wait_for(began.wait(), 10)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert _status(database, job)[0] == "todo"


async def test_queue_and_log_contain_no_text_of_the_vendor(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    work = Work(failures=9)
    _defer(database)
    async with _opened(database, work.task(attempts=2)) as queue:
        for _ in range(2):
            await _run(queue)
            _hurry(database)
    rows = [
        str(row)
        for table in ("procrastinate_jobs", "procrastinate_events", "procrastinate_workers")
        for row in _rows(database, f"select t::text from jobs.{table} as t")  # noqa: S608 - table names from this test
    ]
    assert len(work.done) == 2
    assert "job failed: task=verify_recording" in caplog.text
    for words in (WORDS, "X-Amz-Signature", "Paula"):
        assert words not in caplog.text
        assert words not in " ".join(rows)


async def test_arguments_are_one_id_each(database: Database) -> None:
    argument = uuid4()
    for task in ("start_recording", "stop_recording", "enforce_consent", "verify_recording", "ban_user"):
        _defer(database, argument, task)
    found = _rows(
        database, "select distinct args::text, replace(lock, task_name, 'task') from jobs.procrastinate_jobs"
    )
    assert found == [(f'{{"id": "{argument}"}}', f"task:{argument}")]


async def test_every_task_that_can_be_deferred_has_a_runner(database: Database) -> None:
    definitions = _rows(
        database,
        "select prosrc from pg_proc where oid in"
        " ('private.defer_job'::regproc, 'private.receive_livekit_event'::regproc, 'private.invite_staff'::regproc)",
    )
    text = " ".join(source for (source,) in definitions)
    text += " ".join(f"'{name}'" for (name,) in _rows(database, "select name from private.tasks"))
    names = {
        task.name
        for task in define_tasks(
            WorkerServices(
                database=object.__new__(Pool),
                recording_jobs=RecordingJobs(
                    object.__new__(Pool),
                    object.__new__(LiveKit),
                    object.__new__(Storage),
                    cast("Any", None),
                    keyring=object.__new__(Keyring),
                ),
                reconciler=object.__new__(Reconciler),
                lost_objects=object.__new__(LostObjects),
                bans=object.__new__(StaffBans),
                invitations=object.__new__(StaffInvitations),
                second_factor_resets=object.__new__(SecondFactorResets),
                reassignments=object.__new__(Reassignments),
                access_removal=object.__new__(AccessRemoval),
                uploads=object.__new__(UploadSigner),
                orphaned_objects=object.__new__(OrphanedObjects),
                destroyer=object.__new__(Destroyer),
                restores=object.__new__(RestoreCheck),
                exports=object.__new__(Exports),
                thumbnails=object.__new__(ThumbnailMaker),
                missing_objects=object.__new__(MissingObjects),
                protection=object.__new__(BucketProtection),
                bucket=object.__new__(BucketPolicies),
                transcriber=object.__new__(Transcriber),
                insights_writer=object.__new__(InsightsWriter),
                note_sections=object.__new__(NoteSectionWriter),
                audit_exporter=object.__new__(AuditExporter),
                webhook_sender=object.__new__(WebhookSender),
                agreement_watch=object.__new__(AgreementWatch),
                breach_counter=object.__new__(BreachCounter),
                clips=object.__new__(ClipCutter),
                job_repair=object.__new__(JobRepair),
                idempotency_keys=object.__new__(IdempotencyKeys),
                audit_sealer=object.__new__(Sealer),
                audit_counts=object.__new__(LogCounts),
                sign_ins=object.__new__(SignInReader),
                audit_adoption=object.__new__(Adoption),
                audit_publisher=object.__new__(Publisher),
                second_audit_bucket=object.__new__(SecondBucket),
                note_destroyer=object.__new__(NoteDestroyer),
                held_language_work=object.__new__(HeldLanguageWork),
                audit_index=object.__new__(AuditIndex),
                alerts=object.__new__(Alerts),
                review_evaluation=object.__new__(ReviewEvaluation),
            )
        )
    }
    assert {name for name in names if f"'{name}'" not in text} == set()
    with pytest.raises(psycopg.Error, match="unknown_task"):
        _defer(database, task="retry_stalled_jobs")


def _receive(database: Database, egress_id: str | None = "EG_1", event: str = "egress_updated") -> str:
    event_id = f"EV_{uuid4().hex}"
    call = "select private.receive_livekit_event(%s, %s, %s, 'room', now())"
    assert _rows(database, call, event_id, event, egress_id) == [(True,)]
    return event_id


def _looks(database: Database) -> list[tuple[Any, ...]]:
    return _rows(
        database,
        "select args ->> 'id', status::text from jobs.procrastinate_jobs"
        " where task_name in ('follow_egress', 'watch_room') order by id",
    )


async def test_hundred_events_of_one_egress_queue_one_job(database: Database) -> None:
    first = _receive(database)
    for _ in range(99):
        _receive(database)
    assert _looks(database) == [(first, "todo")]
    assert _rows(database, "select count(*) from private.livekit_events") == [(100,)]


async def test_event_of_another_egress_of_the_room_queues_its_own_job(database: Database) -> None:
    events = [_receive(database, egress_id) for egress_id in ("EG_1", "EG_2", None, "EG_1", "EG_2", None)]
    assert _looks(database) == [(event, "todo") for event in events[:3]]


async def test_event_during_a_job_queues_another_job(database: Database) -> None:
    looks, received = [], [_receive(database)]

    async def look(event_id: str) -> None:
        looks.append(event_id)
        if len(looks) == 1:
            received.extend((_receive(database), _receive(database)))

    async with _opened(database, Task("follow_egress", look)) as queue:
        for _ in range(2):
            await _run(queue)
    assert looks == received[:2]


async def test_event_beside_a_fetch_not_yet_committed_neither_waits_nor_queues(database: Database) -> None:
    """A worker receives a job only after its fetch transaction has committed. A worker whose fetch transaction is
    not committed yet will therefore read LiveKit's list after the second event.
    """
    first = _receive(database)
    with psycopg.connect(database.worker_url) as worker:
        worker.execute("select jobs.procrastinate_fetch_job_v2(null, null)")
        _receive(database)
        assert _looks(database) == [(first, "todo")]
        worker.commit()
    last = _receive(database)
    assert _looks(database) == [(first, "doing"), (last, "todo")]


async def test_event_after_a_failed_job_queues_its_own_job(database: Database) -> None:
    first = _receive(database)
    async with _opened(database, Task("follow_egress", Work(failures=1).run)) as queue:
        await _run(queue)
    last = _receive(database)
    assert _looks(database) == [(first, "todo"), (last, "todo")]


async def test_job_of_a_transaction_that_rolls_back_does_not_exist(database: Database) -> None:
    pool = Pool(database.worker_url, application="test", max_size=1)
    await pool.open()
    try:
        with pytest.raises(UpstreamFailed):
            await _defer_and_raise(pool)
        assert _rows(database, "select id from jobs.procrastinate_jobs") == []
        async with pool.as_service("test") as tx:
            await defer_job(tx, "verify_recording", uuid4())
        assert len(_rows(database, "select id from jobs.procrastinate_jobs")) == 1
    finally:
        await pool.close()


async def _defer_and_raise(pool: Pool) -> None:
    async with pool.as_service("test") as tx:
        await defer_job(tx, "verify_recording", uuid4())
        raise UpstreamFailed("livekit_unavailable")


async def test_same_task_for_one_id_runs_once_at_a_time(database: Database) -> None:
    running, most, runs = 0, 0, 0

    async def run(_: str) -> None:
        nonlocal running, most, runs
        running += 1
        most, runs = max(most, running), runs + 1
        await asyncio.sleep(0.05)
        running -= 1

    argument = uuid4()
    for _ in range(3):
        _defer(database, argument, "stop_recording")
    async with _opened(database, Task("stop_recording", run)) as queue:
        for _ in range(3):
            await _run(queue)
    assert (most, runs) == (1, 3)


async def test_stop_does_not_wait_for_a_start_that_is_tried_again_later(database: Database) -> None:
    argument, ran = uuid4(), list[str]()

    async def start(_: str) -> None:
        raise UpstreamFailed("livekit_unavailable")

    async def stop(_: str) -> None:
        ran.append("stop")

    _defer(database, argument, "start_recording")
    async with _opened(database, Task("start_recording", start), Task("stop_recording", stop)) as queue:
        await _run(queue)
        _defer(database, argument, "stop_recording")
        await _run(queue)
    assert ran == ["stop"]


async def test_long_tasks_have_a_queue_of_their_own(database: Database) -> None:
    for task in ("verify_recording", "start_recording", "stop_recording"):
        _defer(database, task=task)
    found = _rows(database, "select task_name, queue_name from jobs.procrastinate_jobs order by id")
    assert found == [
        ("verify_recording", "media"),
        ("start_recording", "starts"),
        ("stop_recording", "default"),
    ]


async def test_jobs_of_several_ids_run_at_once(database: Database) -> None:
    both = asyncio.Barrier(2)

    async def meet(argument: str) -> None:
        async with asyncio.timeout(10):
            await both.wait()

    jobs = [_defer(database), _defer(database)]
    async with _opened(database, Task(TASK, meet, attempts=1)) as queue:
        await _run(queue)
    assert [_status(database, job)[0] for job in jobs] == ["succeeded", "succeeded"]


A_YEAR = timedelta(days=365)


@pytest.mark.parametrize("off", [A_YEAR, -A_YEAR, timedelta(hours=-2)])
async def test_retry_is_dated_by_the_database_while_the_workers_clock_is_wrong(
    database: Database, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    monkeypatch.setattr("procrastinate.utils.utcnow", lambda: datetime.now(UTC) + off)
    work = Work(failures=1)
    job = _defer(database)
    async with _opened(database, work.task()) as queue:
        await _run(queue)
    query = (
        "select extract(epoch from scheduled_at - now())::float from jobs.procrastinate_jobs where id = %s"
    )
    [(pause,)] = _rows(database, query, job)
    assert _status(database, job) == ("todo", 1)
    assert 0 < pause <= 1


async def _repair(database: Database) -> None:
    pool = Pool(database.worker_url, application="test", max_size=1)
    await pool.open()
    try:
        await JobRepair(pool).run_once()
    finally:
        await pool.close()


async def test_job_dated_beyond_the_longest_pause_is_due_at_once_after_a_repair(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work()
    jobs = {seconds: _defer(database) for seconds in (30, LONGEST_ASKED_PAUSE_SECONDS, 365 * 86400)}
    for seconds, job in jobs.items():
        _rows(
            database,
            "update jobs.procrastinate_jobs set scheduled_at = now() + make_interval(secs => %s) where id = %s",
            seconds,
            job,
        )
    await _repair(database)
    async with _opened(database, work.task()) as queue:
        await _run(queue)
    assert [_status(database, job)[0] for job in jobs.values()] == ["todo", "todo", "succeeded"]
    assert f"a job due too late is due now: task={TASK} job={jobs[365 * 86400]}" in caplog.text
    assert caplog.text.count("due too late") == 1


async def test_job_of_a_worker_that_died_is_given_to_another(database: Database) -> None:
    work = Work()
    job, other, of_nobody = (_defer(database) for _ in range(3))
    _leave_behind(database, job, heartbeat=f"{STALLED_SECONDS} seconds")
    _leave_behind(database, other, heartbeat=f"{STALLED_SECONDS - 10} seconds")
    _rows(database, "update jobs.procrastinate_jobs set status = 'doing' where id = %s", of_nobody)
    await _repair(database)
    async with _opened(database, work.task()) as queue:
        await _run(queue)
    assert [_status(database, one)[0] for one in (job, other, of_nobody)] == [
        "succeeded",
        "doing",
        "succeeded",
    ]
    assert len(work.done) == 2


async def test_heartbeat_of_the_future_hides_a_dead_worker_for_no_longer_than_any_other(
    database: Database,
) -> None:
    job = _defer(database)
    _leave_behind(database, job, heartbeat="-1 year")
    await _repair(database)
    assert _status(database, job)[0] == "doing"
    _rows(
        database,
        "update jobs.procrastinate_workers set last_heartbeat = last_heartbeat - make_interval(secs => %s)",
        STALLED_SECONDS,
    )
    await _repair(database)
    assert _status(database, job)[0] == "todo"


@pytest.mark.parametrize("failures", [0, 1])
async def test_worker_that_stood_still_does_not_end_the_job_that_another_has_by_now(
    database: Database, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    frozen, woken = asyncio.Event(), asyncio.Event()
    job = _defer(database)

    async def stand_still(_: str) -> None:
        frozen.set()
        await woken.wait()
        if failures:
            raise UpstreamFailed("livekit_unavailable")

    async with _opened(database, Task(TASK, stand_still)) as queue:
        working = asyncio.create_task(_run(queue))
        await asyncio.wait_for(frozen.wait(), 10)
        _leave_behind(database, job, heartbeat="0 seconds")
        woken.set()
        await working
    assert _status(database, job) == ("doing", 0)
    assert f"another worker has the job: task={TASK} job={job}" in caplog.text


async def test_heartbeat_that_fails_is_tried_again_at_the_next_one(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with _opened(database) as queue:
        worker = await queue.job_manager.register_worker()
        _rows(database, "alter table jobs.procrastinate_workers rename to away")
        await queue.job_manager.update_heartbeat(worker)
        _rows(database, "alter table jobs.away rename to procrastinate_workers")
        _rows(database, "update jobs.procrastinate_workers set last_heartbeat = now() - interval '1 hour'")
        await queue.job_manager.update_heartbeat(worker)
    assert caplog.text.count("heartbeat not written") == 1
    query = (
        "select last_heartbeat > now() - interval '1 minute' from jobs.procrastinate_workers where id = %s"
    )
    assert _rows(database, query, worker) == [(True,)]


def _leave_behind(database: Database, job: int, *, heartbeat: str) -> None:
    """Bring the job into the state in which it remains if its worker is killed during the job."""
    _rows(
        database,
        "with w as (insert into jobs.procrastinate_workers (last_heartbeat)"
        " values (now() - %s::interval) returning id)"
        " update jobs.procrastinate_jobs set status = 'doing', worker_id = (select id from w) where id = %s",
        heartbeat,
        job,
    )
