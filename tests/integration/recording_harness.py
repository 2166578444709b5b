"""Builds a consultation with all consents, and all services that record it. Postgres and the object store are real
servers, and the LiveKit stand-in runs in the test's process.
"""

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import uvicorn
from starlette.applications import Starlette

from app.consents.model import ShownText
from app.consents.service import Consents
from app.consents.texts import consent_texts
from app.consultations.model import ParticipantKind, Registration, Sensitivity
from app.consultations.service import Consultations
from app.integrations.livekit.client import EgressSnapshot, LiveKit, S3Target, WebhookVerifier
from app.integrations.storage.client import Storage
from app.keys.keyring import Keyring
from app.keys.service import register_root_key
from app.postgres.clock import database_time
from app.postgres.database import Asker, Transaction
from app.postgres.database import Database as Pool
from app.recordings import store
from app.recordings.model import Recording, RecordingStatus, SoundMode
from app.recordings.reconciler import Reconciler
from app.recordings.service import Recordings
from app.recordings.tasks import RecordingJobs
from devstack.livekit import LiveKitStandIn, Order, Pace, create_livekit_app
from devstack.livekit.webhooks import sign
from devstack.object_store import ObjectStore
from devstack.supabase_project import ProjectUrls
from tests.databases import Database
from tests.practice import practice_of
from tests.registered import RegisteredConsultation

KEYRING = Keyring({"tests-1": b"a root key of a world of records"})
KEY, SECRET = "APItest", "a-secret-of-more-than-thirty-two-bytes"
PACE = Pace(start_delay_seconds=0.01, record_seconds=60, upload_backoff_seconds=0.001, scale=0.002)
DOCTOR, PATIENT = UUID(int=1), UUID(int=2)
TRANSITIONS = (
    "select reason from audit.events"
    " where action = 'recording.transition' and "
    "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
    " = array[%s] order by recorded_at, id"
)


def asker(user_id: UUID, aal: str = "aal2") -> Asker:
    """Return the caller's identity for a user whose session `seed_people` has inserted."""
    claims: dict[str, object] = {
        "sub": str(user_id),
        "session_id": str(user_id),
        "aal": aal,
        "role": "authenticated",
        "exp": int(time.time()) + 3600,
    }
    return Asker(claims=claims, request_id=uuid4(), address="192.0.2.7")


def seed_people(database: Database | ProjectUrls) -> None:
    """Insert an active doctor and a patient, each with a login and a session."""
    with practice_of(database.superuser_url) as practice:
        for user_id in (DOCTOR, PATIENT):
            practice.session(practice.user(user_id), user_id)
        practice.member(DOCTOR)


@asynccontextmanager
async def served(app: Starlette, *, date_header: bool = True) -> AsyncIterator[str]:
    """Serve an ASGI application, including its lifespan events, on a free port. Yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            date_header=date_header,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event to wait for
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@dataclass
class RecordingHarness:
    """A consultation, and the services and clients with which a test records it. `ahead`: by how much the clock of
    the jobs and the reconciler is ahead of the database's clock.
    """

    database: Database
    api: Pool
    worker: Pool
    livekit_url: str
    stand_in: LiveKitStandIn
    livekit: LiveKit
    storage: Storage
    object_store: ObjectStore
    consultation: RegisteredConsultation
    ahead: timedelta = timedelta()
    sound: SoundMode | None = None
    asked_for: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        verifier = WebhookVerifier({KEY: SECRET})
        self.consents = Consents(self.api)
        self.recordings = Recordings(
            self.api,
            self.storage,
            verifier,
            url_lifetime_seconds=60,
            totp_max_age_seconds=3600,
        )
        self.jobs = self.jobs_of(self.livekit)
        self.reconciler = self.reconciler_of(self.livekit)

    def jobs_of(self, livekit: LiveKit) -> RecordingJobs:
        """Return the worker's recording jobs, which use this LiveKit client and the clock of the test harness."""
        return RecordingJobs(
            self.worker,
            livekit,
            self.storage,
            self._target,
            keyring=KEYRING,
            clock=self.clock,
            sound=self.sound,
        )

    def reconciler_of(self, livekit: LiveKit) -> Reconciler:
        """Return a reconciler that uses this LiveKit client and the clock of the test harness."""
        jobs = self.jobs_of(livekit)
        return Reconciler(
            self.worker,
            livekit,
            self.storage,
            jobs.updates,
            jobs.transitions,
            jobs.rooms,
            deployment="test",
            clock=self.clock,
        )

    async def clock(self, tx: Transaction) -> datetime:
        """Return the database's time plus `ahead`, the time shift that the test sets."""
        return await database_time(tx) + self.ahead

    async def _target(self, object_key: str) -> S3Target:
        self.asked_for.append(object_key)
        store_ = self.object_store
        return S3Target(store_.endpoint_url, store_.region, store_.bucket, store_.recorder)

    async def request(self) -> UUID:
        """Request a recording as the doctor. Return the new recording's id."""
        row = await self.recordings.start(asker(DOCTOR), self.consultation.id)
        return UUID(row["id"])

    async def recording(self) -> UUID:
        """Return the id of a recording whose egress is active in LiveKit."""
        recording_id = await self.request()
        await self.jobs.starter.start(recording_id)
        await self.until(recording_id, RecordingStatus.RECORDING)
        return recording_id

    async def completed(self) -> UUID:
        """Return the id of a recording whose object LiveKit has uploaded but the worker has not verified yet."""
        recording_id = await self.recording()
        await self.recordings.stop(asker(DOCTOR), recording_id)
        await self.jobs.updates.stop(recording_id)
        await self.until(recording_id, RecordingStatus.VERIFYING)
        return recording_id

    async def read(self, recording_id: UUID) -> Recording:
        """Return the recording's row."""
        async with self.worker.as_service("test") as tx:
            found = await store.lock(tx, recording_id)
        assert found is not None
        return found

    async def object_key(self, recording_id: UUID) -> str:
        """Return the object key of the recording."""
        async with self.worker.as_service("test") as tx:
            return await store.read_object_key(tx, recording_id)

    async def egresses(self) -> list[EgressSnapshot]:
        """Return the egresses that LiveKit lists for the consultation's room."""
        return await self.livekit.list_egress(room_name=self.consultation.room_name)

    async def until_egress(self, *statuses: str) -> EgressSnapshot:
        """Wait until LiveKit lists the room's only egress. If `statuses` are given, wait until the egress has one
        of these statuses. Return the egress.
        """
        async with asyncio.timeout(20):
            while True:
                found = await self.egresses()
                if found and (not statuses or found[0].status in statuses):
                    (egress,) = found
                    return egress
                await asyncio.sleep(0.01)

    async def until(self, recording_id: UUID, status: RecordingStatus) -> Recording:
        """Repeat webhooks about each egress that LiveKit lists, until the recording has this status. Return the
        recording.
        """
        async with asyncio.timeout(20):
            while (found := await self.read(recording_id)).status is not status:
                assert not found.status.is_terminal, found
                for egress in await self.egresses():
                    await self.hint(egress.egress_id)
                await asyncio.sleep(0.01)
        return found

    async def hint(self, egress_id: str, event: str = "egress_updated", status: str = "EGRESS_ACTIVE") -> str:
        """Let Resguardo receive a correctly signed webhook about this egress, and update the egress's recording as
        the webhook's job does. Return the event's id.
        """
        event_id = await self.receive(egress_id, event, status)
        await self.jobs.updates.apply_event(event_id)
        return event_id

    async def receive(self, egress_id: str, event: str, status: str, event_id: str | None = None) -> str:
        """Let Resguardo receive a correctly signed webhook about this egress, and leave the webhook's job in the
        queue. Return the event's id.
        """
        event_id = event_id or f"EV_{secrets.token_hex(6)}"
        told = {
            "event": event,
            "id": event_id,
            "createdAt": str(int(time.time())),
            "egressInfo": {
                "egressId": egress_id,
                "roomName": self.consultation.room_name,
                "status": status,
                "updatedAt": str(time.time_ns()),
            },
        }
        body = json.dumps(told).encode()
        await self.recordings.receive_webhook(body, sign(body, KEY, SECRET)["authorization"])
        return event_id

    async def join(self, identity: UUID | str | None = None) -> None:
        """Let a participant, by default the doctor, join the room and publish tracks."""
        who = str(identity or self.participant(ParticipantKind.DOCTOR))
        token = self.livekit.join_token(identity=who, room=self.consultation.room_name, metadata="{}")
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{self.livekit_url}/stand-in/join", json={"token": token})
        assert answer.is_success

    async def leave(self, identity: UUID | str | None = None) -> None:
        """Let a participant, by default the doctor, leave the room."""
        who = str(identity or self.participant(ParticipantKind.DOCTOR))
        room = self.consultation.room_name
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(
                f"{self.livekit_url}/stand-in/leave",
                json={"room": room, "identity": who},
                headers={"Authorization": f"Bearer {SECRET}"},
            )
        assert answer.is_success

    async def republish(self, identity: UUID | str | None = None) -> None:
        """Let a participant, by default the doctor, publish the microphone as a new track before the old track
        ends.
        """
        who = str(identity or self.participant(ParticipantKind.DOCTOR))
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(
                f"{self.livekit_url}/stand-in/republish",
                json={"room": self.consultation.room_name, "identity": who},
                headers={"Authorization": f"Bearer {SECRET}"},
            )
        assert answer.is_success

    async def request_sound(self, recording_id: UUID) -> None:
        """Request a sound recording of each published microphone, for a video recording whose egress has not
        started yet.
        """
        microphones = [
            (one.identity, track_sid)
            for one in await self.livekit.participants(self.consultation.room_name)
            for track_sid in one.microphones
        ]
        async with self.worker.as_service("test") as tx:
            await store.request_sound(tx, recording_id, microphones, self.sound or SoundMode())

    async def sound_of(self, recording_id: UUID) -> list[Recording]:
        """Return the sound recordings that belong to this video recording, in the order in which they were
        requested.
        """
        query = "select id from resguardo.recordings where video_id = %s order by created_at, track_sid"
        return [await self.read(sound_id) for (sound_id,) in self.rows(query, recording_id)]

    async def consent(self) -> None:
        """Give the patient's and the doctor's consent, each as that person."""
        text = consent_texts()["2026-11", "en"]
        shown = ShownText(text.version, text.language, text.sha256)
        for kind, person in ((ParticipantKind.PATIENT, PATIENT), (ParticipantKind.DOCTOR, DOCTOR)):
            await self.consents.give(asker(person), self.participant(kind), shown, None)

    async def withdraw(self) -> None:
        """Withdraw the patient's consent."""
        await self.consents.withdraw(asker(PATIENT), self.participant(ParticipantKind.PATIENT), None)

    def participant(self, kind: ParticipantKind) -> UUID:
        """Return the participant's id, which is also the participant's identity in the LiveKit room."""
        return next(one.id for one in self.consultation.participants if one.kind is kind)

    def order(self, kind: str, **changes: Any) -> None:
        """Order the LiveKit stand-in to cause a fault of this kind."""
        self.stand_in.orders.add(Order(kind, **changes))

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a query as a superuser in a new transaction, and return its rows."""
        with psycopg.connect(self.database.superuser_url) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def transitions(self, recording_id: UUID) -> list[str]:
        """Return the recording's status transitions from the audit log, each as `FROM>TO:error`."""
        return [reason for (reason,) in self.rows(TRANSITIONS, recording_id)]

    def queued(self) -> list[str]:
        """Return the task names of the jobs that wait in the queue, oldest job first."""
        query = "select task_name from jobs.procrastinate_jobs where status = 'todo' order by id"
        return [name for (name,) in self.rows(query)]


@asynccontextmanager
async def opened(
    database: Database,
    object_store: ObjectStore,
    pace: Pace = PACE,
    *,
    departure_timeout_seconds: float = 20,
    sound: SoundMode | None = None,
    **wished: bool,
) -> AsyncIterator[RecordingHarness]:
    """Yield the recording harness with a consultation in which everybody has consented and the doctor is in the
    room. `wished`: options with which the consultation is registered.
    """
    seed_people(database)
    async with AsyncExitStack() as stack:
        app = create_livekit_app(
            KEY, SECRET, None, None, pace=pace, departure_timeout_seconds=departure_timeout_seconds
        )
        url = await stack.enter_async_context(served(app))
        livekit = await stack.enter_async_context(LiveKit(url, KEY, SECRET, start_timeout_seconds=10))
        storage = Storage(
            endpoint_url=object_store.endpoint_url,
            bucket=object_store.bucket,
            credentials=object_store.writer,
        )
        stack.callback(storage.close)
        pools = [
            Pool(login, application="test", max_size=4) for login in (database.api_url, database.worker_url)
        ]
        for pool in pools:
            await pool.open()
            stack.push_async_callback(pool.close)
        await register_root_key(pools[1], KEYRING)
        consultation = await _register(pools[0], livekit, wished)
        harness = RecordingHarness(
            database,
            pools[0],
            pools[1],
            url,
            app.state.stand_in,
            livekit,
            storage,
            object_store,
            consultation,
            sound=sound,
        )
        await harness.consent()
        await harness.join()
        yield harness


async def _register(api: Pool, livekit: LiveKit, wished: dict[str, bool]) -> RegisteredConsultation:
    consultations = Consultations(api, livekit, KEYRING, livekit_url="ws://127.0.0.1", deployment="test")
    registration = Registration(
        external_id="consultation-1",
        doctor_id=None,
        patient_external_id="patient-1",
        patient_user_id=PATIENT,
        scheduled_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
        kind="follow_up",
        sensitivity=Sensitivity.ORDINARY,
        **wished,  # type: ignore[arg-type] # `wished` holds only booleans
    )
    return await RegisteredConsultation.register(consultations, asker(DOCTOR), registration)
