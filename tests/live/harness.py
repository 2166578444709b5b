"""The real API, worker and LiveKit server on embedded parts. People in the room use LiveKit's own client.

The stand-in for LiveKit also runs, but nothing calls it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import httpx
import livekit.rtc as rtc
import psycopg
from psycopg.rows import DictRow, dict_row

from app.integrations.livekit.client import LiveKit
from devstack import stack as devstack
from devstack.api_client import ApiClient
from devstack.children import free_port
from devstack.people import People
from devstack.stack import Stack
from tests.api import documents
from tests.api.harness import consent_input, consultation_input
from tests.databases import Cluster
from tests.integration import small_stack
from tests.live import server, witnesses
from tests.live.server import LiveServer
from tests.live.witnesses import Witness

PATIENCE_SECONDS = 30
SAMPLE_RATE_HZ = 48_000
FRAME_SECONDS = 0.01


@dataclass(frozen=True)
class Live:
    """The running parts of the live tests: the stack, the LiveKit server, and a second receiver of the server's
    webhooks.
    """

    stack: Stack
    server: LiveServer
    witness: Witness

    def rows(self, sql: LiteralString, *values: object) -> list[DictRow]:
        """Run a query as the superuser and return the rows."""
        url = self.stack.project.superuser_url
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(sql, values).fetchall()

    @asynccontextmanager
    async def livekit(self) -> AsyncIterator[LiveKit]:
        """Yield our LiveKit adapter, connected to the real server."""
        async with LiveKit(self.server.url, self.server.api_key, self.server.api_secret) as livekit:
            yield livekit


@dataclass(frozen=True)
class Case:
    """A registered consultation of a doctor and a patient."""

    live: Live
    consultation: Any
    doctor: ApiClient = field(repr=False)
    patient: ApiClient = field(repr=False)

    @property
    def id(self) -> str:
        return str(self.consultation["id"])

    @property
    def room_name(self) -> str:
        return str(self.consultation["roomName"])

    def participant(self, kind: str) -> str:
        """Return the participant id of the doctor or the patient."""
        return next(str(one["id"]) for one in self.consultation["participants"] if one["kind"] == kind)

    async def consent(self) -> None:
        """Record the doctor's and the patient's own consents."""
        for person, kind in ((self.doctor, "DOCTOR"), (self.patient, "PATIENT")):
            await person.ask(documents.RECORD_CONSENT, consent=consent_input(self.participant(kind)))

    async def pass_of(self, person: ApiClient) -> Any:
        """Return the `joinToken` of `joinConsultation`: `url`, `token`, `roomName`."""
        return (await person.ask(documents.JOIN, consultationId=self.id))["joinConsultation"]["joinToken"]


@contextmanager
def running(cluster: Cluster, data_dir: Path) -> Iterator[Live]:
    """Start the stack, the LiveKit server and the webhook receiver, and stop them at the end of the block."""
    with small_stack.running(cluster, data_dir) as idle, ExitStack() as stack:
        port, witness = free_port(), stack.enter_context(witnesses.listening())
        url = f"http://127.0.0.1:{port}"
        made = replace(idle, livekit_url=url, environment={**idle.environment, "LIVEKIT_URL": url})
        real = server.running(
            data_dir,
            port=port,
            api_key=made.environment["LIVEKIT_API_KEY"],
            api_secret=made.livekit_api_secret,
            webhook_urls=[f"{made.api_url}/webhooks/livekit", witness.url],
        )
        live = Live(made, stack.enter_context(real), witness)
        devstack._start_worker(stack, data_dir, made)
        devstack._start_api(stack, data_dir, made).wait_until_ready()
        yield live


@asynccontextmanager
async def opened_case(live: Live) -> AsyncIterator[Case]:
    """Yield a new consultation without any consent."""
    people = People(live.stack)
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        doctor, patient = await people.hire("clinician"), await people.patient()
        sessions = [await people.sign_in(doctor), await people.sign_in(patient)]
        clients = [ApiClient(http, live.stack.graphql_url, session.access_token) for session in sessions]
        wanted = consultation_input(patientUserId=str(patient.user_id))
        made = await clients[0].ask(documents.REGISTER, consultation=wanted)
        yield Case(live, made["registerConsultation"]["consultation"], *clients)


@asynccontextmanager
async def inside(url: str, token: str) -> AsyncIterator[rtc.Room]:
    """Stay in the room with LiveKit's own client until the end of the block. Raises ConnectError."""
    room = rtc.Room()
    await room.connect(_as_websocket(url), token, rtc.RoomOptions(connect_timeout=10))
    try:
        yield room
    finally:
        await room.disconnect()


@asynccontextmanager
async def speaking(room: rtc.Room) -> AsyncIterator[rtc.LocalTrackPublication]:
    """Publish a microphone track with a constant level until the end of the block."""
    source = rtc.AudioSource(SAMPLE_RATE_HZ, 1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(source.aclose)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        publication = await room.local_participant.publish_track(track, options)
        talking = asyncio.create_task(_talk(source))
        stack.push_async_callback(_cancelled, talking)
        yield publication
        await room.local_participant.unpublish_track(publication.sid)


@asynccontextmanager
async def showing(room: rtc.Room) -> AsyncIterator[rtc.LocalTrackPublication]:
    """Publish a camera track until the end of the block."""
    source = rtc.VideoSource(64, 64)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(source.aclose)
        track = rtc.LocalVideoTrack.create_video_track("camera", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA)
        publication = await room.local_participant.publish_track(track, options)
        yield publication
        await room.local_participant.unpublish_track(publication.sid)


async def _talk(source: rtc.AudioSource) -> None:
    samples = int(SAMPLE_RATE_HZ * FRAME_SECONDS)
    frame = rtc.AudioFrame(b"\x00\x10" * samples, SAMPLE_RATE_HZ, 1, samples)
    while True:
        await source.capture_frame(frame)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(
    holds: Callable[[], bool | Awaitable[bool]],
    seconds: float = PATIENCE_SECONDS,
    *,
    pause_seconds: float = 0.05,
) -> None:
    """Wait until the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(pause_seconds)


def _as_websocket(url: str) -> str:
    return urlsplit(url)._replace(scheme="ws").geturl()
