"""Serves the stand-in: Twirp like livekit-server, and the routes of `controls` under `/stand-in`.

`GET /` answers `OK`, as LiveKit does.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from devstack.livekit.controls import ROUTES, stand_in_of
from devstack.livekit.media import generate, generate_silence, probe, probe_audio
from devstack.livekit.pace import Pace
from devstack.livekit.rooms import DEPARTURE_TIMEOUT_SECONDS
from devstack.livekit.services import LiveKitStandIn
from devstack.livekit.twirp import TokenError, TwirpError, encode, grants_of_request, media_type


def create_livekit_app(
    api_key: str,
    api_secret: str,
    webhook_url: str | None,
    media: Path | None = None,
    *,
    audio: Path | None = None,
    pace: Pace | None = None,
    departure_timeout_seconds: float = DEPARTURE_TIMEOUT_SECONDS,
    retry_wait_seconds: float = 1,
) -> Starlette:
    """Build the stand-in. The server must run the app's ASGI lifespan (startup and shutdown).

    `media` is the MP4 that every room shows, or None for one grey second. `audio` is the Ogg with the sound of the
    rooms, or None for silence as long as the video. `retry_wait_seconds` is the first pause before a webhook is
    sent again.
    """
    stand_in = LiveKitStandIn(
        api_key, api_secret, webhook_url, pace or Pace(), departure_timeout_seconds, retry_wait_seconds
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="livekit-") as directory:
            shown = probe(media) if media else generate(Path(directory) / "room.mp4")
            silence = Path(directory) / "room.ogg"
            stand_in.recorder.media = shown
            stand_in.recorder.audio = (
                probe_audio(audio) if audio else generate_silence(silence, shown.duration_seconds)
            )
            try:
                yield
            finally:
                await stand_in.aclose()

    routes = [
        Route("/", _health),
        Route("/twirp/livekit.{method:path}", _twirp, methods=["GET", "POST"]),
        *ROUTES,
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.stand_in = stand_in
    return app


async def _health(_request: Request) -> Response:
    return PlainTextResponse("OK")


async def _twirp(request: Request) -> Response:
    stand_in = stand_in_of(request)
    try:
        grants = grants_of_request(request, stand_in.keys)
        method = stand_in.method(request.path_params["method"])
        media = media_type(request)
        return encode(media, await method.serve(grants, media, await request.body()))
    except (TwirpError, TokenError) as error:
        return error.response()
