"""The demo: one consultation from its registration to the audit log, against everything it must withstand.

Each step does what a user or an attacker would do, through the same doors, and checks the answer. A check that fails
ends the demo.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg

from app.devstack import documents
from app.devstack.api_client import ApiClient
from app.devstack.people import People, Person
from app.devstack.sign_in import Session, sign_out
from app.devstack.stack import Stack
from app.integrations.storage import Storage

PATIENCE_SECONDS = 120
RECORDING_SECONDS = 1.5


class DemoFailed(Exception):  # noqa: N818 - it reads as what happened
    """A check of the demo did not hold."""


@dataclass(frozen=True)
class Step:
    """What was done, and how long it took."""

    name: str
    ok: bool
    milliseconds: int


@dataclass
class Report:
    """What happened, as `--json` writes it. The token is for the terminal alone."""

    steps: list[Step] = field(default_factory=list)
    recording: dict[str, object] = field(default_factory=dict)
    audit: dict[str, dict[str, int]] = field(default_factory=dict)
    token: str = field(default="", repr=False)

    def to_json(self) -> str:
        """Without the token."""
        steps = [{"name": step.name, "ok": step.ok, "milliseconds": step.milliseconds} for step in self.steps]
        return json.dumps({"steps": steps, "recording": self.recording, "audit": self.audit}, indent=2)


OnStep = Callable[[Step], None]


class Demo:
    """One run. `on_step` hears of each step when it has ended."""

    def __init__(
        self, stack: Stack, media: Path, http: httpx.AsyncClient, report: Report, on_step: OnStep
    ) -> None:
        self._stack = stack
        self._media = media
        self._http = http
        self._report = report
        self._on_step = on_step
        self._people = People(stack)

    async def run(self) -> None:
        """The consultation. Raises DemoFailed, Refused."""
        began_at = datetime.now(UTC)
        async with self._step("staff and patient get their logins"):
            doctor, stranger, suspended = [await self._people.hire("clinician") for _ in range(3)]
            officer = await self._people.hire("compliance")
            patient = await self._people.patient()
        async with self._step("the doctor signs in with password and TOTP"):
            session = await self._people.sign_in(doctor)
            api, self._report.token = self._as(session), session.access_token
        async with self._step("the consultation is registered by its external id"):
            consultation = await self._register(api, patient)
        async with self._step("recording without consent is refused"):
            await self._expect(api, "FORBIDDEN", documents.START_RECORDING, consultationId=consultation["id"])
        patient_api = self._as(await self._people.sign_in(patient, with_totp=False))
        async with self._step("patient and doctor consent"):
            await self._consent(consultation, patient_api, api)
        async with self._step("each joins with a LiveKit token"):
            await self._join(consultation["id"], patient_api, api)
        async with self._step("the doctor starts the recording"):
            started = await api.ask(documents.START_RECORDING, consultationId=consultation["id"])
            recording_id = started["startRecording"]["id"]
            await self._wait_for(api, recording_id, "RECORDING")
        async with self._step("the doctor stops it; LiveKit uploads; webhooks arrive; it becomes READY"):
            await asyncio.sleep(RECORDING_SECONDS)
            await api.ask(documents.STOP_RECORDING, recordingId=recording_id)
            recording = await self._wait_for(api, recording_id, "READY")
        async with self._step("the doctor lists recordings and downloads this one, byte for byte the source"):
            url = await self._download(api, recording)
        async with self._step("the object store refuses the URL altered in one byte, and expired"):
            await self._refused_by_the_store(url)
        await self._intrude(recording_id, doctor, stranger, suspended, officer, patient_api)
        async with self._step("the compliance officer reads who did all that, and gets no URL"):
            await self._examine(officer, recording_id, began_at)

    async def _register(self, api: ApiClient, patient: Person) -> Any:
        answer = await api.ask(
            documents.REGISTER,
            consultation={
                "externalId": f"demo-{uuid4().hex[:12]}",
                "patientExternalId": f"patient-{uuid4().hex[:12]}",
                "patientUserId": str(patient.user_id),
                "scheduledAt": datetime.now(UTC).isoformat(),
            },
        )
        return answer["registerConsultation"]

    async def _consent(self, consultation: Any, patient_api: ApiClient, api: ApiClient) -> None:
        text = (await api.ask(documents.CONSENT_TEXT))["consentText"]
        for kind, by in (("PATIENT", patient_api), ("DOCTOR", api)):
            participant = next(one for one in consultation["participants"] if one["kind"] == kind)
            await by.ask(
                documents.RECORD_CONSENT,
                consent={
                    "participantId": participant["id"],
                    "textVersion": text["version"],
                    "language": "EN",
                    "textSha256": text["sha256"],
                },
            )

    async def _join(self, consultation_id: str, *who: ApiClient) -> None:
        for api in who:
            token = (await api.ask(documents.JOIN, consultationId=consultation_id))["joinConsultation"]
            entered = await self._http.post(
                f"{self._stack.livekit_url}/stand-in/join", json={"token": token["token"]}
            )
            _require(entered.status_code < 300, "LiveKit did not accept the join token")
        rooms = (await who[-1].ask(documents.ACTIVE_ROOMS))["activeRooms"]
        _require(any(room["consultationId"] == consultation_id for room in rooms), "the room is not active")

    async def _wait_for(self, api: ApiClient, recording_id: str, status: str) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            recording = (await api.ask(documents.RECORDING_STATUS, id=recording_id))["recording"]
            if recording["status"] == status:
                return recording
            _require(
                recording["status"] not in ("FAILED", "ABORTED", "LOST"),
                f"the recording ended {recording['status']}: {recording['error']}",
            )
            await asyncio.sleep(0.1)
        raise DemoFailed(f"the recording did not become {status} within {PATIENCE_SECONDS} s")

    async def _download(self, api: ApiClient, recording: Any) -> str:
        listed = (await api.ask(documents.RECORDINGS))["recordings"]["edges"]
        _require(
            [edge["node"]["id"] for edge in listed] == [recording["id"]], "the list is not this recording"
        )
        detail = (await api.ask(documents.RECORDING_STORAGE, id=recording["id"]))["recording"]
        _require(detail["storage"]["sizeBytes"] == recording["sizeBytes"], "the bucket's size differs")
        issued = await api.ask(documents.ISSUE_URL, recordingId=recording["id"])
        url = str(issued["issueDownloadUrl"]["url"])
        downloaded = await self._http.get(url)
        source = await asyncio.to_thread(self._media.read_bytes)
        digest = hashlib.sha256(downloaded.content).hexdigest()
        _require(downloaded.status_code == 200, "the download failed")
        _require(digest == hashlib.sha256(source).hexdigest() == recording["sha256"], "the SHA-256 differs")
        self._report.recording = {
            "id": recording["id"],
            "size": recording["sizeBytes"],
            "sha256": recording["sha256"],
            "duration": recording["durationSeconds"],
        }
        return url

    async def _refused_by_the_store(self, url: str) -> None:
        for altered in _altered(url):
            answer = await self._http.get(altered)
            _require(answer.status_code in (400, 403), "an altered URL was not refused")
        environment = self._stack.environment
        reader = Storage(
            endpoint_url=environment["R2_ENDPOINT_URL"],
            bucket=environment["R2_BUCKET_NAME"],
            credentials=self._stack.store.reader,
        )
        key = urlsplit(url).path.removeprefix(f"/{environment['R2_BUCKET_NAME']}/")
        brief = reader.presign_get(key, expires_in_seconds=1, filename="late.mp4")
        await asyncio.sleep(2.1)
        _require((await self._http.get(brief)).status_code == 403, "an expired URL was served")

    async def _intrude(
        self,
        recording_id: str,
        doctor: Person,
        stranger: Person,
        suspended: Person,
        officer: Person,
        patient_api: ApiClient,
    ) -> None:
        async with self._step("another doctor finds nothing"):
            other = self._as(await self._people.sign_in(stranger))
            _require(
                not (await other.ask(documents.RECORDINGS))["recordings"]["edges"], "a stranger sees rows"
            )
            await self._nothing_for(other, recording_id, "NOT_FOUND")
        async with self._step("the patient gets nothing"):
            await self._nothing_for(patient_api, recording_id, "FORBIDDEN", lists="FORBIDDEN")
        async with self._step("the doctor without the second factor gets nothing"):
            weak = self._as(await self._people.sign_in(doctor, with_totp=False))
            await self._nothing_for(weak, recording_id, "FORBIDDEN", lists="FORBIDDEN")
        async with self._step(
            "the doctor's signed-out session gets nothing, though its token has not expired"
        ):
            session = await self._people.sign_in(doctor)
            await sign_out(self._stack.supabase_url, self._stack.publishable_key, session)
            await self._nothing_for(
                self._as(session), recording_id, "UNAUTHENTICATED", lists="UNAUTHENTICATED"
            )
        async with self._step("a doctor who is suspended gets nothing, at once"):
            session = await self._people.sign_in(suspended)
            _require(not (await self._as(session).ask(documents.RECORDINGS))["recordings"]["edges"], "rows")
            compliance = self._as(await self._people.sign_in(officer))
            await compliance.ask(documents.SUSPEND, userId=str(suspended.user_id))
            await self._nothing_for(
                self._as(session), recording_id, "UNAUTHENTICATED", lists="UNAUTHENTICATED"
            )
        async with self._step("Supabase's Data API roles get nothing with the doctor's own token"):
            session = await self._people.sign_in(doctor)
            await asyncio.to_thread(_nothing_for_data_api_roles, self._stack, session)
        self._report.token = session.access_token

    async def _nothing_for(
        self, api: ApiClient, recording_id: str, code: str, *, lists: str | None = None
    ) -> None:
        await self._expect(api, code, documents.RECORDING_STATUS, id=recording_id)
        await self._expect(api, code, documents.ISSUE_URL, recordingId=recording_id)
        if lists is not None:
            await self._expect(api, lists, documents.RECORDINGS)

    async def _examine(self, officer: Person, recording_id: str, began_at: datetime) -> None:
        compliance = self._as(await self._people.sign_in(officer))
        await self._expect(compliance, "FORBIDDEN", documents.ISSUE_URL, recordingId=recording_id)
        counted: Counter[tuple[str, str]] = Counter()
        async for event in _audit_events(compliance, began_at):
            counted[event["action"], event["outcome"]] += 1
        for action, outcome in (
            ("recording.issue_url", "ALLOWED"),
            ("recording.issue_url", "DENIED"),
            ("recording.start", "DENIED"),
            ("recording.read", "DENIED"),
            ("staff.suspend", "ALLOWED"),
        ):
            _require(counted[action, outcome] > 0, f"{action} {outcome} is missing in the audit log")
        for (action, outcome), count in sorted(counted.items()):
            self._report.audit.setdefault(action, {})[outcome] = count

    async def _expect(self, api: ApiClient, code: str, document: str, **variables: object) -> None:
        got = await api.refusal(document, **variables)
        _require(got == code, f"expected {code}, got {got}")

    def _as(self, session: Session) -> ApiClient:
        return ApiClient(self._http, self._stack.graphql_url, session.access_token)

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        began, ok = time.monotonic(), False
        try:
            yield
            ok = True
        finally:
            step = Step(name, ok, round((time.monotonic() - began) * 1000))
            self._report.steps.append(step)
            self._on_step(step)


async def run_demo(stack: Stack, media: Path, report: Report, on_step: OnStep) -> None:
    """One consultation on a running stack. Raises DemoFailed, Refused."""
    async with httpx.AsyncClient(timeout=60) as http:
        await Demo(stack, media, http, report, on_step).run()


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(what)


def _altered(url: str) -> Iterator[str]:
    """The URL with one byte changed: in the path, in each parameter's value."""
    head, query = url.split("?", 1)
    yield f"{head[:-5]}{_other(head[-5])}{head[-4:]}?{query}"
    parameters = query.split("&")
    for index, parameter in enumerate(parameters):
        changed = parameter[:-1] + _other(parameter[-1])
        yield head + "?" + "&".join([*parameters[:index], changed, *parameters[index + 1 :]])


def _other(character: str) -> str:
    return "0" if character != "0" else "1"


async def _audit_events(api: ApiClient, since: datetime) -> AsyncIterator[Any]:
    after, has_next = None, True
    while has_next:
        page = (await api.ask(documents.AUDIT_EVENTS, since=since.isoformat(), after=after))["auditEvents"]
        for edge in page["edges"]:
            yield edge["node"]
        after, has_next = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]


def _nothing_for_data_api_roles(stack: Stack, session: Session) -> None:
    """What PostgREST would do with a browser's request: take the role, set the claims, read."""
    claims = json.dumps({"sub": str(session.user_id), "role": "authenticated", "aal": "aal2"})
    tables = ("resguardo.recordings", "resguardo.consultations", "private.recording_secrets", "audit.events")
    with psycopg.connect(stack.project.superuser_url, autocommit=True) as connection:
        for role in ("anon", "authenticated", "service_role"):
            for table in tables:
                try:
                    with connection.transaction():
                        connection.execute(f"set local role {role}")
                        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
                        connection.execute(f"select * from {table}")  # noqa: S608 - both are named above
                except psycopg.errors.InsufficientPrivilege:
                    continue
                raise DemoFailed(f"{role} may read {table}")
