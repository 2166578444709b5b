"""The harness of the API tests: the real API with its own database, and the people who use the API.

Postgres and the object store are real server processes. The stand-ins for Supabase Auth and LiveKit run as servers.
The API is called in this process, with the client address `ADDRESS`, and receives LiveKit's webhooks over HTTP. The
worker's jobs run only while a test calls the method `work`. All tests share one harness: each test creates people
of its own and finds its audit rows by the request id.
"""

import asyncio
import hashlib
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import httpx
import procrastinate
import psycopg
import uvicorn
from psycopg.rows import DictRow, dict_row
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.types import ASGIApp

from app.audit_exports.exporter import AuditExporter, Receipts
from app.deployment import mark_database
from app.integrations.storage.client import Storage
from app.main import create_app
from app.settings import ApiSettings, Environment, LanguageApi, WorkerSettings
from app.worker.services import WorkerServices, open_queue, open_services
from devstack.gotrue import GotrueConfig, create_gotrue_app
from devstack.gotrue.signing import Signer, load_signer
from devstack.livekit import LiveKitStandIn, Pace, create_livekit_app
from devstack.object_store import ObjectStore
from tests.api import documents
from tests.databases import Database
from tests.practice import Practice, practice_of

DEPLOYMENT = "tests"
ADDRESS = "203.0.113.7"
LIVEKIT_KEY, LIVEKIT_SECRET = "APItests", "a-secret-of-more-than-thirty-two-bytes"
PUBLISHABLE_KEY, SECRET_KEY = "sb_publishable_tests", "sb_secret_tests"
ROOT_KEYS = "tests-1:" + b64encode(b"a root key of a world of tests!!").decode()
CERTIFICATE_SEED = "Y2VydGlmaWNhdGVzIG9mIGEgd29ybGQgb2YgdGVzdHM="
AUDIT_SEED = b64encode(b"a log seed of a world of tests!!").decode()
MEDIA = Path(__file__).parent.parent / "fixtures" / "headache.mp4"
PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Error:
    """The first error in an answer of the API. `reason` is spelled as in the registry of reasons, in lower case."""

    code: str
    reason: str | None
    message: str
    extensions: Mapping[str, Any]

    @property
    def details(self) -> Mapping[str, Any]:
        """Return the values that belong to the error."""
        return self.extensions["details"] or {}


@dataclass(frozen=True)
class Answer:
    """The API's answer to one GraphQL operation, which `document` contains."""

    response: httpx.Response
    document: str

    @property
    def body(self) -> Any:
        return self.response.json()

    @property
    def request_id(self) -> str:
        return self.response.headers["x-request-id"]

    @property
    def data(self) -> Any:
        """Return the `data` of the answer to a successful GraphQL operation."""
        assert "errors" not in self.body, self.body
        return self.body["data"]

    @property
    def value(self) -> Any:
        """Return the value of the only root field of a successful operation. If the only root field is a mutation whose
        payload was selected with one field, return that field's value instead of the payload.
        """
        (value,) = self.data.values()
        is_mutation = self.document.lstrip().startswith("mutation")
        return next(iter(value.values())) if is_mutation and len(value) == 1 else value

    @property
    def error(self) -> Error:
        """Return the only error in the answer to a failed GraphQL operation."""
        (found,) = self.body["errors"]
        extensions = found["extensions"]
        reason = extensions["reason"]
        assert reason is None or reason.isupper(), reason
        return Error(extensions["code"], reason and reason.lower(), found["message"], extensions)


@dataclass(frozen=True)
class Person:
    """A person who calls the API, with a session or without a token."""

    http: httpx.AsyncClient = field(repr=False)
    user_id: UUID
    session_id: UUID
    token: str | None = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the person's session, in the form that the audit log contains."""
        return hashlib.sha256(self.session_id.bytes).hexdigest()

    async def send(self, document: str, *, in_language: object = None, **variables: object) -> Answer:
        """Send one GraphQL operation. Return the API's answer, even if the operation failed."""
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if in_language is not None:
            headers["Accept-Language"] = str(in_language)
        body = {"query": document, "variables": variables}
        return Answer(await self.http.post("/graphql", json=body, headers=headers), document)

    async def ask(self, document: str, **variables: object) -> Any:
        """Send one GraphQL operation, and return `Answer.value`."""
        return (await self.send(document, **variables)).value

    async def refused(self, document: str, **variables: object) -> tuple[str, str | None]:
        """Return the code and the reason with which the API refuses the operation."""
        error = (await self.send(document, **variables)).error
        return error.code, error.reason


@dataclass(frozen=True)
class Case:
    """A registered consultation of a doctor and a patient who has a login."""

    doctor: Person
    patient: Person
    consultation: Mapping[str, Any]
    registration: Mapping[str, object]

    @property
    def id(self) -> str:
        return str(self.consultation["id"])

    @property
    def patient_id(self) -> str:
        return str(self.consultation["patient"]["id"])

    def participant(self, kind: str) -> str:
        """Return the participant id of the doctor or the patient."""
        return next(str(one["id"]) for one in self.consultation["participants"] if one["kind"] == kind)

    async def consent(self) -> None:
        """Record the doctor's and the patient's own consents."""
        for person, kind in ((self.doctor, "DOCTOR"), (self.patient, "PATIENT")):
            await person.ask(documents.RECORD_CONSENT, consent=consent_input(self.participant(kind)))


@dataclass(frozen=True)
class ApiHarness:
    """The running servers of the API tests, and direct access to the database and the bucket."""

    database: Database
    store: ObjectStore
    bucket: Storage
    app: Starlette
    http: httpx.AsyncClient
    api_url: str
    supabase_url: str
    signer: Signer
    livekit: LiveKitStandIn
    livekit_url: str
    queue: procrastinate.App
    services: WorkerServices
    superuser: psycopg.AsyncConnection[DictRow]
    practice: Practice
    settings: ApiSettings
    worker_settings: WorkerSettings

    async def rows(self, sql: LiteralString, *values: object) -> list[DictRow]:
        """Run an SQL statement as a superuser, and return its rows, or [] if the statement returns no rows."""
        cursor = await self.superuser.execute(sql, values)
        return await cursor.fetchall() if cursor.description else []

    async def audit(self, request_id: str) -> list[DictRow]:
        """Return the audit rows of one request in the order in which they were written."""
        return await self.rows(
            "select * from audit.events where request_id = %s order by recorded_at", request_id
        )

    async def user(self, *, aal: str = "aal2", totp_at: float | None = None) -> Person:
        """Return a person who has signed in and is not registered in Resguardo. `totp_at` is the time of the second
        factor in Unix seconds, by default now.
        """
        person = self.practice.user(aud="authenticated", role="authenticated")
        session = self.practice.session(person, aal=aal)
        return Person(self.http, person, session, self.token(person, session, aal=aal, totp_at=totp_at))

    async def staff(self, role: str, **session: Any) -> Person:
        """Return a new active member of staff."""
        person = await self.user(**session)
        self.practice.member(person.user_id, role)
        return person

    async def clinician(self, **session: Any) -> Person:
        return await self.staff("clinician", **session)

    def stranger(self) -> Person:
        """Return a person who calls the API without an access token."""
        return Person(self.http, uuid4(), uuid4(), None)

    async def with_session(self, person: Person, **session: Any) -> Person:
        """Return the same person with a newly opened session."""
        other = await self.user(**session)
        await self.rows(
            "update auth.sessions set user_id = %s where id = %s", person.user_id, other.session_id
        )
        token = self.token(person.user_id, other.session_id, **session)
        return replace(other, user_id=person.user_id, token=token)

    async def delegated(self, person: Person) -> Person:
        """Return the same person with a session that an OAuth client, a foreign application, opened. The access
        token of the session does not name the OAuth client.
        """
        client = await self.with_session(person)
        await self.rows(
            "update auth.sessions set oauth_client_id = gen_random_uuid(), scopes = 'email' where id = %s",
            client.session_id,
        )
        return client

    async def end_session(self, person: Person) -> None:
        await self.rows("delete from auth.sessions where id = %s", person.session_id)

    def token(
        self, user: UUID, session: UUID, *, aal: str = "aal2", totp_at: float | None = None, **claims: object
    ) -> str:
        """Return an access token in the form of Supabase Auth. The keyword arguments `claims` replace the token's
        default claims.
        """
        now = int(time.time())
        amr = [{"method": "password", "timestamp": now}]
        if aal == "aal2":
            amr.insert(0, {"method": "totp", "timestamp": int(totp_at or now)})
        return self.signer.sign(
            {
                "aud": "authenticated",
                "exp": now + 3600,
                "iat": now,
                "sub": str(user),
                "email": f"{user}@example.org",
                "role": "authenticated",
                "aal": aal,
                "amr": amr,
                "session_id": str(session),
                "is_anonymous": False,
            }
            | claims
        )

    async def case(self, doctor: Person | None = None, **given: object) -> Case:
        """Register a new consultation with the API."""
        doctor = doctor or await self.clinician()
        patient = await self.user(aal="aal1")
        wanted = consultation_input(patientUserId=str(patient.user_id)) | given
        return Case(doctor, patient, await doctor.ask(documents.REGISTER, consultation=wanted), wanted)

    async def recording(
        self,
        case: Case,
        status: str = "READY",
        *,
        content: bytes = b"recorded",
        age: timedelta = timedelta(0),
    ) -> UUID:
        """Return the id of a new recording that reached this status `age` ago. If the recording's status is READY,
        the helper also stores the recording's object in the bucket.
        """
        consultation, recording = UUID(case.id), uuid4()
        key = f"keep/{case.id}/{recording}/video.mp4"
        self.practice.recording(
            consultation,
            status,
            recording,
            object_key=key,
            egress_id=f"EG_{recording.hex}",
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            created_at=datetime.now(UTC) - age,
        )
        if status == "READY":
            await self.bucket.put_new(key, content, "video/mp4")
        return recording

    async def spend(self, person: Person, meter: str, used: int) -> None:
        """Store that a person has made `used` requests of one kind in the next clock hour, which the quota also
        counts for the current hour. The next clock hour may begin while the test runs.
        """
        await self.rows(
            "insert into private.usage (person_id, meter, slot, window_start, used)"
            " select %s, %s, s, date_trunc('hour', now() + interval '1 hour', 'UTC'), (%s + 7 - s) / 8"
            " from generate_series(0, 7) as s on conflict (person_id, meter, slot)"
            " do update set used = excluded.used, window_start = excluded.window_start",
            person.user_id,
            meter,
            used,
        )

    async def work(self) -> None:
        """Run all due jobs, and the jobs that they queue, until no job is due.

        A job waits for an earlier job with the same lock, even if the earlier job will be retried later.
        """
        before, due = None, await self._due()
        while due and due != before:
            await self.queue.run_worker_async(
                wait=False, listen_notify=False, install_signal_handlers=False, delete_jobs="never"
            )
            before, due = due, await self._due()

    async def _due(self) -> list[DictRow]:
        return await self.rows(
            "select id from jobs.procrastinate_jobs where status = 'todo'"
            " and (scheduled_at is null or scheduled_at <= now()) order by id"
        )

    async def until(self, person: Person, recording_id: str, status: str) -> Any:
        """Run jobs and wait for LiveKit's webhooks until the recording has this status."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await self.livekit.notifier.idle()
                await self.work()
                found = await person.ask(documents.RECORDING, id=recording_id)
                if found["status"] == status:
                    return found
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def another_api(self, **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
        """Start a second API with the changed settings, and stop it at the end of the `async with` block."""
        app = create_app(self.settings.model_copy(update=changed))
        async with app.router.lifespan_context(app), asgi_client(app) as http:
            yield http


def consultation_input(**given: object) -> dict[str, object]:
    """Return the GraphQL input for a new consultation."""
    return {
        "externalId": f"visit-{uuid4().hex[:12]}",
        "patientExternalId": f"mrn-{uuid4().hex[:12]}",
        "scheduledAt": "2026-11-21T15:00:00+00:00",
        "kind": "follow_up",
    } | given


def consent_input(participant_id: str, **given: object) -> dict[str, object]:
    """Return the GraphQL input of a consent to the current English consent text."""
    return {"participantId": participant_id, **documents.SHOWN, "language": "EN"} | given


def asgi_client(app: ASGIApp, address: str = ADDRESS) -> httpx.AsyncClient:
    """Return an HTTP client that calls the ASGI application directly, and whose requests come from the given client
    address.
    """
    transport = httpx.ASGITransport(app, client=(address, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://api.test")


def from_address(http: httpx.AsyncClient, address: str) -> httpx.AsyncClient:
    """Return a second HTTP client of the same ASGI application, whose requests come from the given client address."""
    transport = http._transport
    assert isinstance(transport, httpx.ASGITransport)
    return asgi_client(transport.app, address)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave Ctrl-C to pytest."""
        yield


@asynccontextmanager
async def served(app: ASGIApp, listener: socket.socket, *, lifespan: Any = "on") -> AsyncIterator[None]:
    """Serve an ASGI application in the event loop of the test."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan=lifespan, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event to wait for
        await asyncio.sleep(0.005)
    yield
    server.should_exit = True
    await serving


@asynccontextmanager
async def opened(database: Database, store: ObjectStore, data_dir: Path) -> AsyncIterator[ApiHarness]:
    """Start all servers of the API tests, with a migrated database and a running object store."""
    async with AsyncExitStack() as stack:
        api, auth, rooms = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3))
        bucket = Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
        stack.callback(bucket.close)
        await asyncio.to_thread(mark_database, database.owner_url, DEPLOYMENT)
        await bucket.claim(DEPLOYMENT)
        config = GotrueConfig(_url(auth), database.auth_admin_url, PUBLISHABLE_KEY, SECRET_KEY, data_dir)
        await stack.enter_async_context(served(create_gotrue_app(config), auth))
        livekit = create_livekit_app(
            LIVEKIT_KEY,
            LIVEKIT_SECRET,
            f"{_url(api)}/webhooks/livekit",
            MEDIA,
            pace=Pace(0.001, record_seconds=60, upload_backoff_seconds=0.001, scale=0.002),
            retry_wait_seconds=0.01,
        )
        await stack.enter_async_context(served(livekit, rooms))
        settings = _api_settings(database, store, config.url, _url(rooms))
        app = create_app(settings)
        await stack.enter_async_context(app.router.lifespan_context(app))
        await stack.enter_async_context(served(app, api, lifespan="off"))
        worker = _worker_settings(database, store, settings)
        services = await stack.enter_async_context(open_services(worker))
        # Nothing seals the audit log here, so the job of an export would wait in vain, and other jobs behind it.
        exporter = AuditExporter(
            services.database,
            bucket,
            Receipts(services.database).read,
            deployment=DEPLOYMENT,
            seal_seconds=0,
        )
        services = replace(services, audit_exporter=exporter)
        queue = await stack.enter_async_context(open_queue(worker, services))
        superuser = await psycopg.AsyncConnection.connect(
            database.superuser_url, autocommit=True, row_factory=dict_row
        )
        await stack.enter_async_context(superuser)
        yield ApiHarness(
            database=database,
            store=store,
            bucket=bucket,
            app=app,
            http=await stack.enter_async_context(asgi_client(app)),
            api_url=_url(api),
            supabase_url=config.url,
            signer=load_signer(data_dir, config.issuer),
            livekit=livekit.state.stand_in,
            livekit_url=_url(rooms),
            queue=queue,
            services=services,
            superuser=superuser,
            practice=stack.enter_context(practice_of(database.superuser_url)),
            settings=settings,
            worker_settings=worker,
        )


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _api_settings(database: Database, store: ObjectStore, supabase_url: str, livekit_url: str) -> ApiSettings:
    return ApiSettings(
        _env_file=None,
        environment=Environment.DEVELOPMENT,
        deployment=DEPLOYMENT,
        api_database_url=SecretStr(database.api_url),
        supabase_url=supabase_url,
        r2_bucket_name=store.bucket,
        r2_endpoint_url=store.endpoint_url,
        r2_reader_access_key_id=store.reader.access_key_id,
        r2_reader_secret_access_key=SecretStr(store.reader.secret_access_key),
        root_keys=SecretStr(ROOT_KEYS),
        livekit_url=livekit_url,
        livekit_api_key=LIVEKIT_KEY,
        livekit_api_secret=SecretStr(LIVEKIT_SECRET),
        language_api=LanguageApi.EXTRACT,
    )


def _worker_settings(database: Database, store: ObjectStore, api: ApiSettings) -> WorkerSettings:
    return WorkerSettings(
        _env_file=None,
        environment=api.environment,
        deployment=DEPLOYMENT,
        worker_database_url=SecretStr(database.worker_url),
        supabase_url=api.supabase_url,
        supabase_secret_key=SecretStr(SECRET_KEY),
        certificate_signing_key=SecretStr(CERTIFICATE_SEED),
        audit_signing_key=SecretStr(AUDIT_SEED),
        root_keys=SecretStr(ROOT_KEYS),
        r2_bucket_name=store.bucket,
        r2_endpoint_url=store.endpoint_url,
        r2_access_key_id=store.writer.access_key_id,
        r2_secret_access_key=SecretStr(store.writer.secret_access_key),
        r2_recorder_access_key_id=store.recorder.access_key_id,
        r2_recorder_secret_access_key=SecretStr(store.recorder.secret_access_key),
        livekit_url=api.livekit_url,
        livekit_api_key=LIVEKIT_KEY,
        livekit_api_secret=SecretStr(LIVEKIT_SECRET),
    )


def ids_of(row: Mapping[str, Any]) -> list[UUID]:
    """Return the ids of all entities that a row of audit.events names, of every type."""
    return [UUID(one) for entity in row["entities"] for one in entity["ids"]]
