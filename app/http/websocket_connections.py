"""Accepts the WebSockets of one route. This module checks the origin of a WebSocket, and the limits on connections
and messages.

`websocket_sessions.py` serves an accepted connection. uvicorn's pings (`ws_ping_interval`) detect clients that no
longer answer.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from datetime import timedelta

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.types.unset import UnsetType

from app.errors import AppError, RateLimited
from app.http.address_limit import Connecting
from app.http.error_responses import render_app_error
from app.http.websocket_messages import (
    PROTOCOL,
    ConnectionEndedError,
    decode_message,
    translate_session_error,
)
from app.http.websocket_sessions import Connect, SessionHandler, SocketConnection, SocketLimits
from graphql_schema.error_masking import MaskedSchema


class LimitedWebSocket(ASGIWebSocketAdapter):
    """Reads and writes the messages of one WebSocket within the limits on their size and time. Every method of this
    class may raise ConnectionEndedError.
    """

    view: "SubscriptionEndpoint"  # type: ignore[assignment]  # it makes each

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        """Yield the messages of the client until it disconnects."""
        while (message := await self.ws.receive())["type"] != "websocket.disconnect":
            yield decode_message(message.get("text"), self.view.limits.message_bytes)

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send a message. If the client does not receive the message within `send_seconds`, the connection ends,
        and the client must connect again.
        """
        try:
            async with asyncio.timeout(self.view.limits.send_seconds):
                await self.ws.send_text(json.dumps(message))
        except (TimeoutError, WebSocketDisconnect) as error:
            raise ConnectionEndedError from error

    async def close(self, code: int, reason: str) -> None:
        """Raise ConnectionEndedError. The endpoint closes the WebSocket when all tasks of the connection have ended."""
        raise ConnectionEndedError(code, reason)


def _unlimited(_: Scope) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class SubscriptionEndpoint(GraphQL[SocketConnection, None]):
    """The ASGI application of one WebSocket route.

    A web page may connect if its origin is one of `allowed_origins`. A client that sends no origin is not a
    browser, and may connect.
    """

    websocket_adapter_class = LimitedWebSocket
    graphql_transport_ws_handler_class = SessionHandler

    def __init__(
        self,
        schema: MaskedSchema,
        *,
        connect: Connect,
        allowed_origins: Collection[str] = (),
        limits: SocketLimits | None = None,
        connecting: Connecting = _unlimited,
    ) -> None:
        self.limits = limits or SocketLimits()
        super().__init__(
            schema,
            subscription_protocols=(PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=self.limits.init_seconds),
            max_subscriptions_per_connection=self.limits.operations_per_connection,
            allowed_origins=tuple(allowed_origins),
        )
        self._connect = connect
        self._connecting = connecting
        self._origins = frozenset(allowed_origins)
        self._connections: Counter[Hashable] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. The endpoint refuses a connection from any origin outside `allowed_origins` with
        403, even from the API's own origin.

        The endpoint removes the query string from the request without reading it, because a client may have put a
        token into the query string. uvicorn would log the query string (0.54, websockets_sansio_impl.py; checked
        2026-11-21).
        """
        scope["query_string"] = b""
        websocket = WebSocket(scope, receive, send)
        if not self._origins.issuperset(websocket.headers.getlist("origin")):
            await websocket.close()
            return
        async with AsyncExitStack() as slots:
            try:
                await slots.enter_async_context(self._connecting(scope))
                await self.run(websocket, SocketConnection(websocket, self.limits, slots))
            except RateLimited as error:
                await _deny(websocket, error)
            except ConnectionEndedError as ended:
                await self._close(websocket, ended)

    async def on_ws_connect(self, context: SocketConnection) -> UnsetType:
        """Identify the person of a WebSocket connection, and check the person's session. Raises ConnectionEndedError.

        A connection counts for its client address until its person is identified, and from then on for the person.
        """
        async with context.slots.pop_all():
            try:
                connected = await self._connect(context.websocket, context.connection_params or {})
                context.slots.enter_context(self._count(connected.person))
                if connected.is_unchecked:
                    await connected.recheck()
            except AppError as error:
                raise translate_session_error(error) from error
        context.connected = connected
        return UnsetType()

    @contextmanager
    def _count(self, person: Hashable) -> Iterator[None]:
        """Count a connection of a person while it is open. Raises RateLimited."""
        limit = self.limits.connections_per_person
        if self._connections[person] >= limit:
            raise RateLimited("too_many_connections", limit=limit)
        self._connections[person] += 1
        try:
            yield
        finally:
            self._connections[person] -= 1
            if not self._connections[person]:
                del self._connections[person]

    async def _close(self, websocket: WebSocket, ended: ConnectionEndedError) -> None:
        if ended.code is None:
            return
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(self.limits.send_seconds):
                await websocket.close(ended.code, ended.reason)


async def _deny(websocket: WebSocket, error: AppError) -> None:
    """Refuse the WebSocket handshake. If the server supports a response body before a WebSocket is accepted, the
    answer contains the error; otherwise it is an empty 403.
    """
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(render_app_error(websocket.scope, error))
    else:
        await websocket.close()
