"""Serves the stand-in: Twirp as livekit-server does, and three endpoints of its own under `/stand-in`.

`POST /stand-in/join` and `/stand-in/leave` (`{"token": ...}`) are what a client does with a join token; `POST
/stand-in/orders` (bearer: the API secret) takes an order for a fault. `GET /` answers `OK`, as LiveKit does.
"""

import hmac
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.devstack.livekit.media import generate, probe
from app.devstack.livekit.orders import parse
from app.devstack.livekit.recorder import Pace
from app.devstack.livekit.rooms import DEPARTURE_TIMEOUT_SECONDS
from app.devstack.livekit.services import LiveKitStandIn
from app.devstack.livekit.twirp import (
    Grants,
    TokenError,
    TwirpError,
    encode,
    grants_of_request,
    grants_of_token,
    media_type,
)


def create_livekit_app(
    api_key: str,
    api_secret: str,
    webhook_url: str | None,
    media: Path | None = None,
    *,
    pace: Pace | None = None,
    departure_timeout_seconds: float = DEPARTURE_TIMEOUT_SECONDS,
    retry_wait_seconds: float = 1,
) -> Starlette:
    """Build the stand-in; it must be served with its lifespan.

    `media` is the MP4 that every room "shows", one grey second if None. `retry_wait_seconds` is the first
    wait before a webhook is sent again.
    """
    stand_in = LiveKitStandIn(
        api_key, api_secret, webhook_url, pace or Pace(), departure_timeout_seconds, retry_wait_seconds
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="livekit-") as directory:
            stand_in.recorder.media = probe(media) if media else generate(Path(directory) / "room.mp4")
            try:
                yield
            finally:
                await stand_in.aclose()

    routes = [
        Route("/", _health),
        Route("/twirp/livekit.{method:path}", _twirp, methods=["GET", "POST"]),
        Route("/stand-in/join", _join, methods=["POST"]),
        Route("/stand-in/leave", _leave, methods=["POST"]),
        Route("/stand-in/orders", _orders, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.stand_in = stand_in
    return app


async def _health(_request: Request) -> Response:
    return PlainTextResponse("OK")


async def _twirp(request: Request) -> Response:
    stand_in = _stand_in(request)
    try:
        grants = grants_of_request(request, stand_in.keys)
        method = stand_in.method(request.path_params["method"])
        media = media_type(request)
        return encode(media, await method.serve(grants, media, await request.body()))
    except (TwirpError, TokenError) as error:
        return error.response()


async def _join(request: Request) -> Response:
    stand_in = _stand_in(request)
    try:
        grants = await _token_grants(request)
        person = stand_in.rooms.join(grants)
        room = stand_in.rooms.snapshot(grants.video["room"])
    except (TwirpError, TokenError) as error:
        return error.response()
    return JSONResponse({"room": room.name, "room_sid": room.sid, "participant_sid": person.sid})


async def _leave(request: Request) -> Response:
    try:
        grants = await _token_grants(request)
        grants.require("roomJoin")
        _stand_in(request).rooms.leave(grants.video.get("room", ""), grants.identity)
    except (TwirpError, TokenError) as error:
        return error.response()
    return Response(status_code=204)


async def _orders(request: Request) -> Response:
    stand_in = _stand_in(request)
    given = request.headers.get("authorization", "").encode()
    if not any(hmac.compare_digest(given, f"Bearer {secret}".encode()) for secret in stand_in.keys.values()):
        return PlainTextResponse("unauthorized", status_code=401)
    try:
        stand_in.orders.add(parse(await request.body()))
    except ValueError:
        return PlainTextResponse("no such order", status_code=400)
    return Response(status_code=204)


async def _token_grants(request: Request) -> Grants:
    try:
        raw = json.loads(await request.body())
    except ValueError as error:
        raise TwirpError("malformed", "the request could not be decoded") from error
    token = raw.get("token") if isinstance(raw, dict) else None
    return grants_of_token(str(token), _stand_in(request).keys)


def _stand_in(request: Request) -> LiveKitStandIn:
    stand_in: LiveKitStandIn = request.app.state.stand_in
    return stand_in
