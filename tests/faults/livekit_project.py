"""A LiveKit project with one stand-in for each room, so that a fault ordered for one room does not affect another
room.

The project's single address forwards a call to the room's stand-in, or to all stand-ins if the call names no room.
The judge reads the stand-ins directly, because only they know what is really recorded.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from livekit.protocol.egress import EgressStatus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from devstack.livekit import LiveKitStandIn, Order, Pace
from devstack.livekit.media import generate, generate_silence
from devstack.livekit.rows import ENDED, Recording
from devstack.livekit.twirp import TokenError, TwirpError, decode, encode, grants_of_request, media_type
from tests.integration.recording_harness import served

DEPARTURE_SECONDS = 2
PACE = Pace(start_delay_seconds=0.2, record_seconds=3600, upload_backoff_seconds=0.2)


@dataclass(eq=False)
class LiveKitProject:
    """A LiveKit project. `key` and `secret` belong to the project. The stand-ins of all rooms send their webhooks
    to `webhook_url`.
    """

    key: str
    secret: str = field(repr=False)
    directory: Path
    webhook_url: str = ""
    rooms: dict[str, LiveKitStandIn] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve the project. Yield its address."""
        self._video = generate(self.directory / "room.mp4")
        self._sound = generate_silence(self.directory / "room.ogg", self._video.duration_seconds)
        routes = [
            Route("/", lambda _: PlainTextResponse("OK")),
            Route("/twirp/livekit.{method:path}", self._twirp, methods=["POST"]),
        ]
        async with served(Starlette(routes=routes)) as url:
            try:
                yield url
            finally:
                for room in self.rooms.values():
                    await room.aclose()

    def room(self, name: str) -> LiveKitStandIn:
        """Return the stand-in of a room. The first call for a room creates its stand-in."""
        if name not in self.rooms:
            made = LiveKitStandIn(
                self.key,
                self.secret,
                self.webhook_url or None,
                PACE,
                departure_timeout_seconds=DEPARTURE_SECONDS,
                retry_wait_seconds=1,
            )
            made.recorder.media, made.recorder.audio = self._video, self._sound
            self.rooms[name] = made
        return self.rooms[name]

    def order(self, name: str, kind: str, **changes: Any) -> None:
        """Order the room's stand-in to cause a fault."""
        self.room(name).orders.add(Order(kind, **changes))

    def live(self, name: str) -> list[str]:
        """Return what a room's recorders really record now: `video`, `sound`, or the track of a microphone."""
        return [_recorded(one) for one in self._running(name, ENDED)]

    def recorded(self, name: str) -> list[str]:
        """Return what the recorders of a room record now, named as `live` names it. A recorder that was stopped and
        still writes its file does not count as recording.
        """
        return [_recorded(one) for one in self._running(name, EgressStatus.EGRESS_ENDING)]

    def _running(self, name: str, end: int) -> list[Recording]:
        rows = self.room(name).recorder.rows.of_room(name)
        return [one for one in rows if one.info.status < end and not one.is_dead]

    async def _twirp(self, request: Request) -> Response:
        path, body = request.path_params["method"], await request.body()
        try:
            grants = grants_of_request(request, {self.key: self.secret})
            media = media_type(request)
            answers = [
                await room.method(path).serve(grants, media, body) for room in self._asked(path, media, body)
            ]
            return encode(media, _merged(answers))
        except (TwirpError, TokenError) as error:
            return error.response()

    def _asked(self, path: str, media: str, body: bytes) -> list[LiveKitStandIn]:
        """Return the stand-ins to which the project forwards this call."""
        asked = _decoded(self.room("").method(path).request, media, body)
        if egress_id := getattr(asked, "egress_id", ""):
            return [next((one for one in self.rooms.values() if _has(one, egress_id)), self.room(""))]
        name = getattr(asked, "room_name", "") or getattr(asked, "room", "") or getattr(asked, "name", "")
        names = [name] if name else list(getattr(asked, "names", ())) or list(self.rooms)
        return [self.room(one) for one in names]


class Doubles:
    """Measures, for each room, the longest time in seconds during which two egresses recorded the same source at
    once.
    """

    def __init__(self, project: LiveKitProject) -> None:
        self._project = project
        self._since: dict[str, float] = {}
        self.longest: dict[str, float] = {}

    def look(self) -> None:
        """Update the measurement. Callers must call this method often, because it sees only what is recorded at the
        moment of the call.
        """
        for name in list(self._project.rooms):
            live = self._project.recorded(name)
            if len(live) == len(set(live)):
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, time.monotonic())
            self.longest[name] = max(self.longest.get(name, 0.0), time.monotonic() - since)


def _recorded(one: Recording) -> str:
    if one.sound is None:
        return "video"
    return one.sound.sources.track_sid or "sound"


def _has(room: LiveKitStandIn, egress_id: str) -> bool:
    return egress_id in room.recorder.rows._recordings


def _decoded(kind: type[Message], media: str, body: bytes) -> Message:
    message = kind()
    decode(media, body, message)
    return message


def _merged(answers: list[Message]) -> Message:
    first, *others = answers
    merged = type(first)()
    merged.CopyFrom(first)
    for other in others:
        merged.MergeFrom(other)
    return merged
