"""Runs the LiveKit stand-in as an HTTP server, to which `app.integrations.livekit` connects with the vendor's
client. Stores the webhooks that the LiveKit stand-in sends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from livekit.api import LiveKitAPI, TokenVerifier, WebhookReceiver
from livekit.protocol.egress import AudioMixing, EncodedFileType
from livekit.protocol.webhook import WebhookEvent as VendorEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.integrations.livekit import requests as livekit_requests
from app.integrations.livekit import snapshots as livekit_snapshots
from app.integrations.livekit.client import EgressSnapshot, LiveKit, S3Target, WebhookEvent, WebhookVerifier
from app.integrations.storage.caller import Credentials
from devstack import object_store
from devstack.livekit import LiveKitStandIn, Pace, create_livekit_app
from tests.buckets import s3_client
from tests.integration.recording_harness import served

KEY, SECRET = "APIdevelopment", "a-secret-of-more-than-thirty-two-bytes"
MEDIA = Path(__file__).parent.parent / "fixtures" / "headache.mp4"
OBJECT_KEY = "r/10y/consultation/recording/video.mp4"
SPEAKERS_KEY = "r/10y/consultation/recording/speakers.ogg"
ROOM = "consultation-1"
AUTHORIZED = {"authorization": f"Bearer {SECRET}"}
NOWHERE = S3Target(
    "http://127.0.0.1:1", "us-east-1", "bucket", Credentials("ID-KEPT", "SECRET-KEPT", "SESSION-KEPT")
)
PACE = Pace(start_delay_seconds=0.01, record_seconds=60, upload_backoff_seconds=0.001, scale=0.002)


@dataclass
class Receiver:
    """An endpoint that stores the webhooks it receives. The endpoint answers with the next status in `answers`, or
    with 200 if `answers` is empty.
    """

    url: str = ""
    answers: list[int] = field(default_factory=list)
    bodies: list[tuple[bytes, str, str]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def receive(self, request: Request) -> Response:
        body = await request.body()
        headers = request.headers
        async with self.arrived:
            self.bodies.append((body, headers["authorization"], headers["content-type"]))
            self.arrived.notify_all()
        return Response(status_code=self.answers.pop(0) if self.answers else 200)

    def events(self) -> list[WebhookEvent]:
        verifier = WebhookVerifier({KEY: SECRET})
        return [verifier.verify(body, token) for body, token, _ in self.bodies]

    def vendor_events(self) -> list[VendorEvent]:
        receiver = WebhookReceiver(TokenVerifier(KEY, SECRET))
        return [receiver.receive(body.decode(), token) for body, token, _ in self.bodies]

    def names(self, *prefixes: str) -> list[str]:
        """Return the event types of the received webhooks that start with one of these prefixes. If `prefixes` is
        empty, the method returns the types that start with `egress_`.
        """
        return [one.event for one in self.vendor_events() if one.event.startswith(prefixes or ("egress_",))]

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(enough)


@dataclass
class LiveKitHarness:
    url: str
    stand_in: LiveKitStandIn
    livekit: LiveKit
    receiver: Receiver

    async def join(self, identity: str = "person-1", room: str = ROOM) -> httpx.Response:
        token = self.livekit.join_token(identity=identity, room=room, metadata="consultation-id")
        return await self.post("join", {"token": token})

    async def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(f"{self.url}/stand-in/{path}", json=body, headers=headers)

    async def control(self, path: str, body: object) -> httpx.Response:
        """Send a control request to the LiveKit stand-in, authorized with the API secret."""
        return await self.post(path, body, **AUTHORIZED)

    async def orders(self) -> list[str]:
        """Return the kinds of the faults that a test has ordered and the LiveKit stand-in has not caused yet."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.url}/stand-in/orders", headers=AUTHORIZED)
        return [order["order"] for order in answer.json()]

    async def orders_taken_back(self, kind: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.delete(f"{self.url}/stand-in/orders?order={kind}", headers=AUTHORIZED)

    async def start(self, upload: S3Target = NOWHERE) -> EgressSnapshot:
        return await self.livekit.start_room_composite(room_name=ROOM, object_key=OBJECT_KEY, upload=upload)

    async def start_speakers(self, upload: S3Target = NOWHERE) -> EgressSnapshot:
        """Start an audio-only egress that writes tracks alternately to the left and the right channel. An earlier
        version of Resguardo started such audio-only egresses.
        """
        request = livekit_requests.video(ROOM, OBJECT_KEY, upload)
        request.audio_only, request.audio_mixing = True, AudioMixing.DUAL_CHANNEL_ALTERNATE
        request.ClearField("advanced")
        (output,) = request.file_outputs
        output.file_type, output.filepath = EncodedFileType.OGG, SPEAKERS_KEY
        async with LiveKitAPI(self.url, KEY, SECRET) as api:
            return livekit_snapshots.egress(await api.egress.start_room_composite_egress(request))

    async def listed(self, egress_id: str) -> EgressSnapshot:
        (found,) = await self.livekit.list_egress(egress_id=egress_id)
        return found

    async def record(self, upload: S3Target = NOWHERE, *, until: str) -> EgressSnapshot:
        """Join the room, start an egress, stop the egress, and wait until LiveKit reports the status `until` for
        the egress. Return the ended egress.
        """
        await self.join()
        started = await self.start(upload)
        await self.until(started.egress_id, "active")
        await self.livekit.stop_egress(started.egress_id)
        ended = await self.until(started.egress_id, until)
        await self.stand_in.notifier.idle()
        return ended

    async def until(self, egress_id: str, status: str) -> EgressSnapshot:
        async with asyncio.timeout(20):
            while True:
                (found,) = await self.livekit.list_egress(egress_id=egress_id)
                if found.status == status:
                    return found
                await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(
    media: Path | None = None, pace: Pace = PACE, audio: Path | None = None
) -> AsyncIterator[LiveKitHarness]:
    receiver = Receiver()
    async with served(Starlette(routes=[Route("/hook", receiver.receive, methods=["POST"])])) as hook:
        app = create_livekit_app(
            KEY,
            SECRET,
            f"{hook}/hook",
            media,
            audio=audio,
            pace=pace,
            departure_timeout_seconds=0.05,
            retry_wait_seconds=0.01,
        )
        async with served(app) as url, LiveKit(url, KEY, SECRET, timeout_seconds=5) as livekit:
            yield LiveKitHarness(url, app.state.stand_in, livekit, receiver)


@dataclass(frozen=True)
class Stored:
    content: bytes
    content_type: str
    disposition: str
    parts: int


def stored(store: object_store.ObjectStore, key: str = OBJECT_KEY) -> Stored | None:
    """Return the object with this key, or None if the store has no such object."""
    client = s3_client(store, store.reader)
    try:
        found = client.get_object(Bucket=store.bucket, Key=key)
        with found["Body"] as body:
            parts = int(found["ETag"].strip('"').partition("-")[2] or 1)
            return Stored(body.read(), found["ContentType"], found["ContentDisposition"], parts)
    except client.exceptions.NoSuchKey:
        return None
    finally:
        client.close()
