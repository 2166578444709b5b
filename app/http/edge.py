"""What surrounds every route: request ids, security headers, CORS, the last resort and the body limit.

Pure ASGI, outermost first as `edge_middleware` lists them. It knows nothing of GraphQL, people or the database. The
server must run with `proxy_headers=False` and a `ws_max_size`: frames of a WebSocket are not a body.
"""

import logging
from collections.abc import Sequence
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.failures import describe_failure
from app.http.body_limit import BodyLimit
from app.http.refusals import internal_error, request_id

logger = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
STRICT_TRANSPORT_SECURITY = "max-age=63072000; includeSubDomains"
CORS_HEADERS = ("Authorization", "Content-Type", "Accept-Language")
CORS_MAX_AGE_SECONDS = 600
_INTERNAL_ERROR_CLOSE = 1011


def edge_middleware(
    *, allowed_origins: Sequence[str], body_limit_bytes: int, is_production: bool
) -> list[Middleware]:
    """The edge, for `Starlette(middleware=...)`. `allowed_origins` are exact, and none is sent credentials."""
    if "*" in allowed_origins:
        raise ValueError("allowed_origins must name origins")
    return [
        Middleware(RequestId),
        Middleware(SecurityHeaders, is_production=is_production),
        Middleware(
            CORSMiddleware,
            allow_origins=tuple(allowed_origins),
            allow_methods=("POST",),
            allow_headers=CORS_HEADERS,
            expose_headers=("X-Request-Id",),
            max_age=CORS_MAX_AGE_SECONDS,
        ),
        Middleware(LastResort),
        Middleware(BodyLimit, limit_bytes=body_limit_bytes),
    ]


class RequestId:
    """ASGI middleware: gives each request an id of our own, kept in the scope's state, told as `X-Request-Id`.

    An inbound id is not believed: it could name another request, or anything else, in our logs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        new_id = str(uuid4())
        scope.setdefault("state", {})["request_id"] = new_id

        async def told(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["X-Request-Id"] = new_id
            await send(message)

        await self._app(scope, receive, told)


class SecurityHeaders:
    """ASGI middleware: nothing is cached, sniffed, framed or run; HTTPS only in production.

    An answer that brings its own Content-Security-Policy (GraphiQL's page, in development) keeps it.
    """

    def __init__(self, app: ASGIApp, is_production: bool) -> None:
        self._app = app
        self._headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        if is_production:
            self._headers["Strict-Transport-Security"] = STRICT_TRANSPORT_SECURITY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            await send(message)

        await self._app(scope, receive, secured if scope["type"] == "http" else send)


class LastResort:
    """ASGI middleware: whatever nobody expected becomes a masked 500 and a log line with ids only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = is_answered or message["type"] in ("http.response.start", "websocket.close")
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the outermost frame: the server would log the message
            logger.error("request failed: request=%s %s", request_id(scope), describe_failure(error))  # noqa: TRY400 - its traceback carries the message
            if not is_answered:
                await _close(scope, receive, send)


async def _close(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _INTERNAL_ERROR_CLOSE, "reason": ""})
    else:
        await internal_error(scope)(scope, receive, send)
