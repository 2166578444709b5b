"""The stand-in as an ASGI application. The base URL of the stand-in is its address followed by `/v1`.

Besides OpenAI's routes, the stand-in has routes under `/stand-in`, which need the key as bearer token. `POST`, `GET`
and `DELETE /stand-in/orders` add, list and cancel orders (`{"order": KIND, "count": 1, "seconds": 0}`, see `orders`).
`GET /stand-in/calls` lists the calls for transcription, and `GET /stand-in/language-calls` those of the language model.
`GET /stand-in/recogniser` returns the name of the recogniser.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devstack.openai.asked import MODELS, asked
from devstack.openai.forms import parse_form
from devstack.openai.language_requests import parse_chat_request, parse_response_request
from devstack.openai.orders import as_json, parse
from devstack.openai.recogniser import Recogniser, SpeechRecogniser
from devstack.openai.refusals import Refusal
from devstack.openai.stand_in import OpenAIStandIn

MAX_BYTES: Final = 26_214_400
_CREATED: Final = 1_677_532_384

_Route = tuple[str, str, Callable[[Request], Awaitable[Response]]]
"""The method, the path and the handler of a route."""


def create_openai_app(api_key: str, recogniser: SpeechRecogniser | None = None) -> Starlette:
    """Return the application. The application's `state.stand_in` is the OpenAIStandIn. `recogniser` None means
    pocketsphinx.
    """
    stand_in = OpenAIStandIn(api_key, recogniser or Recogniser())

    routes = (*_vendor_routes(stand_in), *_control_routes(stand_in))
    app = Starlette(
        routes=[
            *(Route(path, _guarded(stand_in, handle), methods=[method]) for method, path, handle in routes),
            Route("/{rest:path}", _unrouted, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]
    )
    app.state.stand_in = stand_in
    return app


def _vendor_routes(stand_in: OpenAIStandIn) -> Sequence[_Route]:
    async def transcribe(request: Request) -> Response:
        form = parse_form(request.headers.get("content-type", ""), await _body(request))
        return await stand_in.transcribe(asked(form))

    async def respond(request: Request) -> Response:
        return await stand_in.write(parse_response_request(await _body(request)))

    async def complete(request: Request) -> Response:
        return await stand_in.write(parse_chat_request(await _body(request)))

    return (
        ("POST", "/v1/audio/transcriptions", transcribe),
        ("POST", "/v1/responses", respond),
        ("POST", "/v1/chat/completions", complete),
        ("GET", "/v1/models", _models),
    )


def _control_routes(stand_in: OpenAIStandIn) -> Sequence[_Route]:
    async def order(request: Request) -> Response:
        try:
            stand_in.orders.add(parse(await request.body()))
        except ValueError as error:
            raise Refusal(400, "no such order") from error
        return Response(status_code=204)

    async def still_open(_: Request) -> Response:
        return JSONResponse([as_json(one) for one in stand_in.orders.still_open()])

    async def take_back(_: Request) -> Response:
        stand_in.orders.clear()
        return Response(status_code=204)

    async def calls(_: Request) -> Response:
        return JSONResponse([asdict(one) for one in stand_in.calls])

    async def language_calls(_: Request) -> Response:
        return JSONResponse([asdict(one) for one in stand_in.language_calls])

    async def show_recogniser(_: Request) -> Response:
        return JSONResponse({"name": stand_in.recogniser.name})

    return (
        ("POST", "/stand-in/orders", order),
        ("GET", "/stand-in/orders", still_open),
        ("DELETE", "/stand-in/orders", take_back),
        ("GET", "/stand-in/calls", calls),
        ("GET", "/stand-in/language-calls", language_calls),
        ("GET", "/stand-in/recogniser", show_recogniser),
    )


def _guarded(
    stand_in: OpenAIStandIn, handle: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def guard(request: Request) -> Response:
        try:
            stand_in.authenticate(request.headers.get("authorization", ""))
            return await handle(request)
        except Refusal as refusal:
            return refusal.response()

    return guard


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            message = f"Maximum content size limit ({MAX_BYTES}) exceeded ({len(body)} bytes read)"
            raise Refusal(413, message, kind="server_error")
    return bytes(body)


async def _models(_: Request) -> Response:
    listed = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "system"} for name in MODELS]
    return JSONResponse({"object": "list", "data": listed})


async def _unrouted(request: Request) -> JSONResponse:
    message = f"Invalid URL ({request.method} {request.url.path})"
    return Refusal(404, message).response()
