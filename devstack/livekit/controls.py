"""The routes under `/stand-in`, with which tests and the demo control the stand-in: participants and faults.

A client with a join token calls `POST join` and `POST leave` with `{"token": ...}`. The field `channel` of `join`
is the number, from 0, of the channel in the stand-in's sound file that plays as the participant's voice. Without
`channel`, the participant gets the first channel that no other participant of the room has. All routes except
`join` and `leave` with a token need the API secret as bearer token:

- `POST join` with `{"room", "identity", "metadata": "", "publishes": true}` lets any participant in, known or unknown.
  `POST leave`, `POST publish` and `POST unpublish` take `{"room", "identity"}`.
- `POST republish` with `{"room", "identity"}` publishes the microphone again: the new track begins before the old track
  ends. `POST kill` lets a participant's device die, which LiveKit notices 21 s later (scaled).
- `POST orders` with `{"order": KIND, "count": 1, "seconds": 0, "event": null, "file": null, "code":
  "resource_exhausted"}` adds an order (`orders.KINDS`). `GET orders` lists the open orders. `DELETE orders` cancels all
  orders, or those of one kind (`?order=KIND`).
- `POST die` and `POST forget` with `{"egress_id"}` cause the fault of that name in a running egress at once. Orders
  named `die` and `forget` cause the same faults in the next egress.
- `POST restart` loses every queued webhook, as a restart of the server does, but keeps rooms and egresses.
- `POST crash` with `{"with_recorders": false}` lets the server crash and come back. Queued webhooks are lost, and
  all participants stay listed although none is connected. The recorders die with the server if `with_recorders` is
  true; otherwise they join their rooms again.
- `POST forge` signs any JSON object as a notification, sends it once, and answers `{"status": ...}` with the receiver's
  status, or null if the receiver did not answer.

The answer to a success is 204 (`join`: 200 with ids), to a malformed request 400, and to a request without the
secret 401. If LiveKit would refuse the action, the answer has LiveKit's own text.
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from devstack.livekit.orders import as_json, parse
from devstack.livekit.pace import LOST_PARTICIPANT_SECONDS
from devstack.livekit.rooms import Rooms
from devstack.livekit.services import LiveKitStandIn
from devstack.livekit.twirp import TokenError, TwirpError, grants_of_token

_Endpoint = Callable[[Request], Awaitable[Response]]


class _Anybody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    room: str
    identity: str
    metadata: str = ""
    publishes: bool = True
    channel: int | None = Field(default=None, ge=0)


class _Voice(BaseModel):
    model_config = ConfigDict(strict=True)

    channel: int | None = Field(default=None, ge=0)


class _Someone(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    room: str
    identity: str


class _Crash(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    with_recorders: bool = False


class _Egress(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    egress_id: str


def _answered(endpoint: _Endpoint) -> _Endpoint:
    """Wrap a route so that it answers a refusal with LiveKit's error, and a malformed body with 400."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (TwirpError, TokenError) as error:
            return error.response()
        except ValueError:
            return PlainTextResponse("no such order", status_code=400)

    return answer


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    """Answer 401 to callers that do not send the API secret."""

    async def answer(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        secrets = stand_in_of(request).keys.values()
        if not any(hmac.compare_digest(given, f"Bearer {secret}".encode()) for secret in secrets):
            return PlainTextResponse("unauthorized", status_code=401)
        return await endpoint(request)

    return _answered(answer)


async def _join(request: Request) -> Response:
    body = await _object(request)
    if "token" not in body:
        return await _guarded(_admit)(request)
    grants = grants_of_token(str(body["token"]), stand_in_of(request).keys)
    rooms, channel = stand_in_of(request).rooms, _Voice.model_validate(body).channel
    return _entered(rooms, grants.video.get("room", ""), rooms.join(grants, channel=channel).sid)


async def _admit(request: Request) -> Response:
    asked = _Anybody.model_validate_json(await request.body())
    rooms = stand_in_of(request).rooms
    person = rooms.admit(
        asked.room,
        asked.identity,
        metadata=asked.metadata,
        publishes=asked.publishes,
        channel=asked.channel,
    )
    return _entered(rooms, asked.room, person.sid)


def _entered(rooms: Rooms, name: str, participant_sid: str) -> Response:
    room = rooms.snapshot(name)
    return JSONResponse({"room": room.name, "room_sid": room.sid, "participant_sid": participant_sid})


async def _leave(request: Request) -> Response:
    body = await _object(request)
    if "token" not in body:
        return await _guarded(_of_someone(Rooms.leave))(request)
    grants = grants_of_token(str(body["token"]), stand_in_of(request).keys)
    grants.require("roomJoin")
    stand_in_of(request).rooms.leave(grants.video.get("room", ""), grants.identity)
    return Response(status_code=204)


def _of_someone(act: Callable[[Rooms, str, str], None]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        asked = _Someone.model_validate_json(await request.body())
        act(stand_in_of(request).rooms, asked.room, asked.identity)
        return Response(status_code=204)

    return endpoint


async def _kill(request: Request) -> Response:
    asked = _Someone.model_validate_json(await request.body())
    stand_in = stand_in_of(request)
    seconds = stand_in.delays.seconds(LOST_PARTICIPANT_SECONDS)
    stand_in.rooms.kill(asked.room, asked.identity, seconds)
    return Response(status_code=204)


async def _order(request: Request) -> Response:
    stand_in_of(request).orders.add(parse(await request.body()))
    return Response(status_code=204)


async def _still_open(request: Request) -> Response:
    orders = stand_in_of(request).orders.still_open()
    return JSONResponse([as_json(one) for one in orders])


async def _take_back(request: Request) -> Response:
    stand_in_of(request).orders.clear(request.query_params.get("order"))
    return Response(status_code=204)


async def _die(request: Request) -> Response:
    stand_in_of(request).recorder.die(_Egress.model_validate_json(await request.body()).egress_id)
    return Response(status_code=204)


async def _forget(request: Request) -> Response:
    stand_in_of(request).recorder.forget(_Egress.model_validate_json(await request.body()).egress_id)
    return Response(status_code=204)


async def _restart(request: Request) -> Response:
    await stand_in_of(request).notifier.restart()
    return Response(status_code=204)


async def _crash(request: Request) -> Response:
    asked = _Crash.model_validate_json(await request.body())
    await stand_in_of(request).crash(with_recorders=asked.with_recorders)
    return Response(status_code=204)


async def _forge(request: Request) -> Response:
    return JSONResponse({"status": await stand_in_of(request).notifier.forge(await _object(request))})


async def _object(request: Request) -> dict[str, Any]:
    try:
        raw = json.loads(await request.body())
    except ValueError as error:
        raise TwirpError("malformed", "the request could not be decoded") from error
    if not isinstance(raw, dict):
        raise TwirpError("malformed", "the request could not be decoded")
    return raw


def stand_in_of(request: Request) -> LiveKitStandIn:
    """Return the stand-in that the request's application serves."""
    stand_in: LiveKitStandIn = request.app.state.stand_in
    return stand_in


ROUTES: Final = (
    Route("/stand-in/join", _answered(_join), methods=["POST"]),
    Route("/stand-in/leave", _answered(_leave), methods=["POST"]),
    Route("/stand-in/publish", _guarded(_of_someone(Rooms.publish)), methods=["POST"]),
    Route("/stand-in/unpublish", _guarded(_of_someone(Rooms.unpublish)), methods=["POST"]),
    Route("/stand-in/republish", _guarded(_of_someone(Rooms.republish)), methods=["POST"]),
    Route("/stand-in/kill", _guarded(_kill), methods=["POST"]),
    Route("/stand-in/orders", _guarded(_order), methods=["POST"]),
    Route("/stand-in/orders", _guarded(_still_open), methods=["GET"]),
    Route("/stand-in/orders", _guarded(_take_back), methods=["DELETE"]),
    Route("/stand-in/die", _guarded(_die), methods=["POST"]),
    Route("/stand-in/forget", _guarded(_forget), methods=["POST"]),
    Route("/stand-in/restart", _guarded(_restart), methods=["POST"]),
    Route("/stand-in/crash", _guarded(_crash), methods=["POST"]),
    Route("/stand-in/forge", _guarded(_forge), methods=["POST"]),
)
