"""The environment of the state machine: a real, migrated database with a movable clock, and the real services on
it, with LiveKit and the bucket in memory.

The state machine also runs the jobs and periodic tasks that the worker would run. The state machine takes jobs from
the queue's table in any order in which the queue could hand them out. The queue's own runner runs the jobs, with
its retries, its pauses and its maximum number of attempts.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, LiteralString, TypeVar, cast
from uuid import UUID, uuid4

import psycopg

from app.bucket.lost_objects import LostObjects
from app.consents.model import ShownText
from app.consents.service import Consents
from app.consents.texts import consent_texts
from app.consultations.model import Registration, Sensitivity
from app.consultations.service import Consultations
from app.errors import AppError
from app.integrations.livekit.client import S3Target, WebhookVerifier
from app.integrations.storage.caller import Credentials
from app.jobs.queue import _runner
from app.jobs.retries import GrowingPauses, JobFailed
from app.keys.service import register_root_key
from app.media.probe import Container
from app.postgres.clock import database_time
from app.postgres.database import Database as Pool
from app.postgres.database import Transaction
from app.recordings import tasks as recording_tasks
from app.recordings.model import SoundMode
from app.recordings.reconciler import Reconciler
from app.recordings.service import Recordings
from app.recordings.tasks import RecordingJobs
from app.recordings.verification import Probe
from app.transcripts import tasks as transcript_tasks
from app.transcripts.transcription.service import Transcriber
from devstack.livekit.webhooks import sign
from tests.databases import Database
from tests.faults.cloud import Cloud, Crashed, Faults, Told, quick_probe
from tests.integration.recording_harness import DOCTOR, KEY, KEYRING, PATIENT, SECRET, asker, seed_people
from tests.registered import RegisteredConsultation

T = TypeVar("T")
PLENTY = 1_000_000
GUEST, STRANGER = "guest", "somebody"

MOVABLE_CLOCK = """
create schema faults;
create table faults.clock (ahead interval not null);
insert into faults.clock values ('0');
create function faults.move() returns trigger language plpgsql security definer as $$
declare
    moved interval := (select c.ahead from faults.clock c);
begin
    if tg_op = 'INSERT' then
        new.created_at := new.created_at + moved;
    end if;
    new.updated_at := new.updated_at + moved;
    if tg_op = 'INSERT' or new.status <> old.status then
        new.status_at := new.status_at + moved;
    end if;
    return new;
end $$;
create trigger zz_clock before insert or update on resguardo.recordings for each row execute function faults.move();
"""
"""The last trigger of each row. It shifts timestamps of the server's clock by the same offset as the machine's
clock.
"""

CLEAN = """
set session_replication_role = replica;
delete from resguardo.recordings;
delete from private.recording_secrets;
delete from private.recording_keys;
delete from private.livekit_events;
delete from jobs.procrastinate_jobs;
update faults.clock set ahead = '0';
set session_replication_role = origin;
"""

STANDING = """
select p.id, p.kind <> 'GUEST' or p.joined_at is not null, coalesce((
    select c.decision = 'GIVEN' from resguardo.consents c where c.participant_id = p.id
    order by c.recorded_at desc, c.id desc limit 1), false)
from resguardo.participants p where p.consultation_id = %s
"""

GUEST_IN = """
insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)
select %s, c.id, c.doctor_id, c.patient_id, 'GUEST', 'INTERPRETER' from resguardo.consultations c where c.id = %s
"""

WAITING = """
select j.id, j.task_name, j.lock, j.args ->> 'id', j.attempts from jobs.procrastinate_jobs j
where j.status = 'todo' and not exists (
    select from jobs.procrastinate_jobs o
    where o.lock = j.lock and (o.status = 'doing' or o.status = 'todo' and o.id < j.id)
) order by j.id
"""
"""The earliest job of each lock. The queue would give these jobs to a worker if their pauses were over."""

AGAIN = "update jobs.procrastinate_jobs set status = 'todo', attempts = attempts + 1 where id = %s"


class FaultyPool(Pool):
    """The worker's connection pool, with a boundary before and after each commit."""

    faults = Faults()

    @asynccontextmanager
    async def as_service(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        """Open a transaction of the worker."""
        async with super().as_service(reason) as tx:
            yield tx
            await self.faults.boundary(is_in_transaction=True)
        self.faults.commit()
        await self.faults.boundary()


@dataclass(frozen=True)
class Job:
    """A job that a worker may take at once, or after the job's retry pause."""

    id: int
    task: str
    lock: str
    argument: str
    attempts: int


@dataclass
class MachineServices:
    """The database and the event loop that all sequences of the state machine use, one sequence after another."""

    database: Database
    superuser: psycopg.Connection[tuple[Any, ...]]
    runner: asyncio.Runner
    api: Pool
    worker: FaultyPool
    probe: Probe = quick_probe
    media: dict[Container, bytes] = field(default_factory=dict)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine on the event loop of the connection pools."""
        return self.runner.run(coroutine)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read rows as the superuser and return those that are committed."""
        return self.superuser.execute(query.encode(), parameters or None).fetchall()

    def do(self, query: str, *parameters: object) -> None:
        """Run a statement as a superuser."""
        self.superuser.execute(query.encode(), parameters or None)


@contextmanager
def running_services(database: Database, probe: Probe = quick_probe) -> Iterator[MachineServices]:
    """Yield the database, its people and the pools of its logins, for any number of sequences."""
    seed_people(database)
    api = Pool(database.api_url, application="machine-api", max_size=4)
    worker = FaultyPool(database.worker_url, application="machine-worker", max_size=4)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser, asyncio.Runner() as runner:
        superuser.execute(MOVABLE_CLOCK)
        superuser.execute("update private.quotas set per_hour = %s", [PLENTY])
        for pool in (api, worker):
            runner.run(pool.open())
        runner.run(register_root_key(worker, KEYRING))
        try:
            yield MachineServices(database, superuser, runner, api, worker, probe)
        finally:
            for pool in (api, worker):
                runner.run(pool.close())


class Stage:
    """The consultation, the cloud and the services of one sequence."""

    def __init__(self, services: MachineServices, sound: SoundMode | None = None) -> None:
        self.services = services
        services.do(CLEAN)
        self.cloud = Cloud()
        self.cloud.media |= services.media
        services.worker.faults = self.cloud.faults
        self.consents = Consents(services.api)
        self.recordings = Recordings(
            services.api,
            self.cloud.bucket,
            WebhookVerifier({KEY: SECRET}),
            url_lifetime_seconds=60,
            totp_max_age_seconds=3600,
            has_routes=sound is not None and sound.is_routed,
        )
        self.recording_jobs = RecordingJobs(
            services.worker,
            self.cloud,
            self.cloud.bucket,
            _target,
            keyring=KEYRING,
            clock=self._clock,
            probe=services.probe,
            sound=sound,
        )
        self.reconciler = self.another_reconciler()
        self.lost = LostObjects(services.worker, self.cloud.bucket, clock=self._clock)
        transcriber = Transcriber(services.worker, self.cloud.bucket, None, KEYRING)
        tasks = [
            *recording_tasks.define_tasks(self.recording_jobs),
            *transcript_tasks.define_tasks(transcriber),
        ]
        self.tasks = {task.name: task for task in tasks}
        self.paused: dict[int, timedelta] = {}
        self.broken: list[AssertionError] = []

    def another_reconciler(self) -> Reconciler:
        """Return a new reconciler with an empty state, as in a new process."""
        services = self.services
        return Reconciler(
            services.worker,
            self.cloud,
            self.cloud.bucket,
            self.recording_jobs.updates,
            self.recording_jobs.transitions,
            self.recording_jobs.rooms,
            deployment="test",
            clock=self._clock,
        )

    def register(self, *, has_guest: bool = True, **wished: bool) -> None:
        """Register the consultation of the sequence, with a guest who has not joined. `wished` contains options for
        registering the consultation.
        """
        self.consultation = self.services.run(self._register(wished))
        self.room = self.consultation.room_name
        self.people: dict[str, UUID] = {}
        if has_guest:
            self.invite()
        for one in self.consultation.participants:
            self.people[one.kind.value.lower()] = one.id

    def invite(self) -> UUID:
        """Invite a guest who does not join. Return the participant id."""
        self.people[GUEST] = uuid4()
        self.services.do(GUEST_IN, self.people[GUEST], self.consultation.id)
        return self.people[GUEST]

    def standing(self) -> dict[str, tuple[bool, bool]]:
        """Return, for each participant's identity, whether consent is required and whether the participant
        consents. Reads the rows directly.
        """
        rows = self.services.rows(STANDING, self.consultation.id)
        return {str(one): (is_required, is_given) for one, is_required, is_given in rows}

    def objection(self) -> str | None:
        """Return the reason why nothing may be recorded now: a person in the room without consent, or a participant
        whose required consent is missing.
        """
        standing = self.standing()
        for identity in self.people_in_room():
            if not standing.get(identity, (False, False))[1]:
                return f"{identity} is in the room"
        return self.refusal()

    def refusal(self) -> str | None:
        """Return the first participant whose consent is required and missing, whether this participant is in the
        room or not.
        """
        missing = [one for one, (is_required, is_given) in self.standing().items() if is_required > is_given]
        return f"{missing[0]} does not consent" if missing else None

    def people_in_room(self) -> list[str]:
        """Return the identities of the people in the room, without recorders."""
        room = self.cloud.rooms_open.get(self.room)
        return [] if room is None else list(room.people)

    async def say(self, who: str, *, gives: bool) -> None:
        """Give or withdraw a participant's consent. The doctor attests a guest's consent. Raises AppError."""
        person = PATIENT if who == "patient" else DOCTOR
        if not gives:
            await self.consents.withdraw(asker(person), self.people[who], None)
            return
        text = consent_texts()["2026-11", "en"]
        shown = ShownText(text.version, text.language, text.sha256)
        await self.consents.give(asker(person), self.people[who], shown, None)

    async def deliver(self, told: Told) -> None:
        """Deliver the event as a webhook with LiveKit's signature."""
        body = json.dumps(_message(told)).encode()
        await self.recordings.receive_webhook(body, sign(body, KEY, SECRET)["authorization"])

    def advance(self, by: timedelta) -> None:
        """Advance the clocks of the machine and the database."""
        self.cloud.ahead += by
        self.services.do("update faults.clock set ahead = %s", self.cloud.ahead)
        self.cloud.close_rooms()
        self.cloud.give_up_tracks()

    def jobs(self, *, due: bool = True) -> list[Job]:
        """Return the jobs that a worker may take. If `due` is false, include the jobs whose retry pause has not
        ended.

        The simulated clock decides when a job's retry pause ends, so a sequence of steps has the same result on any
        machine.
        """
        now = self.cloud.ahead
        found = [Job(*row) for row in self.services.rows(WAITING)]
        return [job for job in found if not due or self.paused.get(job.id, now) <= now]

    async def work(self, job: Job) -> None:
        """Run the job as the worker would: the job succeeds, is retried after a pause, or fails for good. If the
        process crashes during the job, the job stays in the queue.

        The queue would only retry a job that raised an unexpected exception, so the machine stores the exception in
        `broken`.
        """
        task = self.tasks[job.task]
        context = cast("Any", SimpleNamespace(job=SimpleNamespace(attempts=job.attempts)))
        self.services.do("update jobs.procrastinate_jobs set status = 'doing' where id = %s", job.id)
        try:
            await _runner(task)(context, job.argument)
        except Crashed:
            self._again(job, timedelta())
        except JobFailed as error:
            if not isinstance(error.__context__, AppError):
                self.broken.append(AssertionError(f"{job.task}: {error.__context__!r}"))
            decision = GrowingPauses(task.attempts).get_retry_decision(exception=error, job=context.job)
            if decision is None:
                self.services.do("delete from jobs.procrastinate_jobs where id = %s", job.id)
            else:
                self._again(job, decision.pause)
        else:
            self.services.do("delete from jobs.procrastinate_jobs where id = %s", job.id)

    def _again(self, job: Job, pause: timedelta) -> None:
        self.services.do(AGAIN, job.id)
        self.paused[job.id] = self.cloud.ahead + pause

    async def _register(self, wished: dict[str, bool]) -> RegisteredConsultation:
        consultations = Consultations(
            self.services.api, self.cloud, KEYRING, livekit_url="ws://nowhere", deployment="test"
        )
        registration = Registration(
            external_id=f"consultation-{uuid4()}",
            doctor_id=None,
            patient_external_id="patient-1",
            patient_user_id=PATIENT,
            scheduled_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
            kind="follow_up",
            sensitivity=Sensitivity.ORDINARY,
            **wished,  # type: ignore[arg-type] # booleans, and one of its fields is a date
        )
        return await RegisteredConsultation.register(consultations, asker(DOCTOR), registration)

    async def _clock(self, tx: Transaction) -> datetime:
        return await database_time(tx) + self.cloud.ahead


async def _target(object_key: str) -> S3Target:
    return S3Target("http://nowhere.invalid", "auto", "bucket", Credentials("id", "secret"))


def _message(told: Told) -> dict[str, object]:
    room: dict[str, object] = {} if told.room_name is None else {"name": told.room_name, "sid": "RM_1"}
    message: dict[str, object] = {
        "event": told.event,
        "id": told.event_id,
        "createdAt": str(int(time.time())),
        "room": room,
    }
    if told.event.startswith("track_"):
        message["track"] = {"sid": f"TR_{told.event_id}", "source": "MICROPHONE"}
        message["participant"] = {"identity": "somebody"}
    if told.event.startswith("egress_"):
        message["egressInfo"] = {
            "egressId": told.egress_id or "",
            "roomName": told.room_name or "",
            "status": told.status,
        }
    return message
