"""Middleware around every route: request ids, security headers, CORS, masked errors, and limits on requests and
bodies.

Each middleware is pure ASGI and does not know GraphQL, people or the database. The function `edge_middleware` lists
the middleware, the outermost first. The server must run with `proxy_headers=False` and with `ws_max_size`, because
the limit on request bodies does not cover WebSocket frames.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from app.errors import AppError
from app.failures import describe_failure
from app.http.address_limit import AddressLimit
from app.http.body_limit import BodyLimit
from app.http.client_address import Network
from app.http.error_responses import (
    RefusedError,
    render_app_error,
    render_internal_error,
    render_refusal,
    request_id,
)

logger = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
STRICT_TRANSPORT_SECURITY = "max-age=63072000; includeSubDomains"
CORS_HEADERS = (
    "Authorization",
    "Content-Type",
    "Accept-Language",
    "apikey",
    "x-client-info",
    "x-retry-count",
    "traceparent",
    "tracestate",
    "baggage",
    "apollographql-client-name",
    "apollographql-client-version",
    "apollo-require-preflight",
)
"""The request headers that CORS allows: our own, and those that common clients add. The API does not read the
latter.

supabase-js 2.109 adds headers (its `cors` module and its trace headers) if a page uses its `fetch`; so does Apollo
Client 4.3. urql 6.0 and graphql-request 7.4 add none (read in the packages, 2026-11-29).
"""
CORS_METHODS = ("GET", "POST")
"""CORS allows GET only so that a page whose client uses GET can read the refusal. A failed preflight shows no
reason.
"""
CORS_EXPOSED = ("X-Request-Id", "Retry-After")
CORS_MAX_AGE_SECONDS = 600
_INTERNAL_ERROR_CLOSE = 1011
_ROUTE_REFUSALS = {
    404: ("NOT_FOUND", "There is nothing at this address. Check its spelling: it has no slash at the end."),
    405: (
        "METHOD_NOT_ALLOWED",
        "This address does not take the method. The header Allow names those that it takes.",
    ),
}


def edge_middleware(
    *,
    allowed_origins: Sequence[str],
    body_limit_bytes: int,
    is_production: bool,
    requests_per_address: int | None = None,
    trusted_proxies: Sequence[Network] = (),
) -> list[Middleware]:
    """Return the list of all HTTP middleware, as the argument for `Starlette(middleware=...)`. A web page may call
    the API only if its origin is equal to one of `allowed_origins`. No answer allows credentials.
    """
    if "*" in allowed_origins:
        raise ValueError("allowed_origins must name origins")
    logging.getLogger("uvicorn.error").addFilter(_is_of_the_server)
    return [
        Middleware(RequestId),
        Middleware(SecurityHeaders, is_production=is_production),
        Middleware(
            CORSMiddleware,
            allow_origins=tuple(allowed_origins),
            allow_methods=CORS_METHODS,
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
            max_age=CORS_MAX_AGE_SECONDS,
        ),
        Middleware(LastResort),
        Middleware(AddressLimit, requests=requests_per_address, trusted_proxies=trusted_proxies),
        Middleware(BodyLimit, limit_bytes=body_limit_bytes),
    ]


def _is_of_the_server(record: logging.LogRecord) -> bool:
    """Return False for the log record of a client's text frame that is not UTF-8.

    The server uvicorn logs a frame that is not UTF-8 as an error with a stack trace, and closes the connection with
    1007 by itself (0.54).
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], UnicodeDecodeError)


async def _handle_unknown_route(request: Request, error: Exception) -> Response:
    """Answer a request that Starlette refuses with 404 or 405. The 404 or 405 answer has the same shape as the
    answers to requests that the HTTP layer refuses.
    """
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows the type
    code, message = _ROUTE_REFUSALS[error.status_code]
    return render_refusal(request.scope, RefusedError(error.status_code, code, message, error.headers))


async def _handle_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101 - narrows the type
    return render_refusal(request.scope, error)


async def _handle_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101 - narrows the type
    return render_app_error(request.scope, error)


EXCEPTION_HANDLERS: Final[dict[Any, Any]] = {
    404: _handle_unknown_route,
    405: _handle_unknown_route,
    RefusedError: _handle_refused,
    AppError: _handle_app_error,
}
"""The answers to exceptions that a route raises, for `Starlette(exception_handlers=...)`."""


class RequestId:
    """ASGI middleware: gives each request its own id, stores it in the scope's state, and returns it as
    `X-Request-Id`.

    The middleware ignores a request id that the client sends, because the client's id could name another request or
    contain any text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
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
    """ASGI middleware: adds headers against caching, sniffing, framing and scripts, and requires HTTPS in
    production.

    An answer with its own Content-Security-Policy (GraphiQL's page, in development) keeps that policy.
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
        """Handle one request."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            await send(message)

        await self._app(scope, receive, secured if scope["type"] == "http" else send)


class LastResort:
    """ASGI middleware: turns an unexpected exception into a masked 500 and a log line that contains only ids."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
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
        except (ClientDisconnect, WebSocketDisconnect):
            logger.debug("the client hung up: request=%s", request_id(scope))
        except Exception as error:  # noqa: BLE001 - the outermost frame: the server would log the message
            logger.error("request failed: request=%s %s", request_id(scope), describe_failure(error))  # noqa: TRY400 - its traceback carries the message
            if not is_answered:
                await _close(scope, receive, send)


async def _close(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _INTERNAL_ERROR_CLOSE, "reason": ""})
    else:
        await render_internal_error(scope)(scope, receive, send)
