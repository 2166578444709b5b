"""GraphQL subscriptions over WebSocket. The person is known before anything is sent, and is checked during the
connection.

The token arrives in `connection_init`, because browsers cannot set headers for a WebSocket and URLs are logged. The
API verifies the token then, and asks the database for its session every few seconds. The connection closes when the
token expires, so a connection never extends a session. Only subscriptions are accepted, so mutations have one entry
point. Everything has a limit: the time before `connection_init`, the connections of a person, the operations of a
connection, the bytes of a message, and the time until the client has received a message. The server's pings detect
dead peers (uvicorn: `ws_ping_interval`).
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry import Schema
from strawberry.types import ExecutionContext

from app.errors import AppError, InvalidInput, RateLimited, Timeout, Unauthenticated, UpstreamFailed
from app.http.address_limit import Connecting
from app.http.error_responses import app_error_refusal, request_id
from app.http.persisted_queries import not_supported
from app.http.websocket_messages import (
    PROTOCOL,
    Close,
    EndedError,
    Operation,
    decode_message,
    ended_by,
    init_payload,
    operation_id,
    operation_of,
    refusal_message,
)
from app.texts import Language

_MAX_TOKENS = 1000


@dataclass(frozen=True)
class SocketLimits:
    """The limits of one API process. A session that ended is closed within `recheck_seconds` plus the time of a
    query.
    """

    init_seconds: float = 5
    recheck_seconds: float = 5
    send_seconds: float = 10
    message_bytes: int = 16_384
    operations_per_connection: int = 10
    connections_per_person: int = 10


@dataclass(frozen=True)
class Connected:
    """A person with a valid token: the context of the resolvers, and the expiry in Unix seconds.

    `recheck` raises an AppError if the session has ended. With `is_unchecked`, the first check happens after the
    connection counts for its person and before it is acknowledged, so a flood of connections does not reach the
    database.
    """

    context: object
    person: Hashable
    expires_at: float
    language: Language
    recheck: Callable[[], Awaitable[None]]
    is_unchecked: bool = False


Connect = Callable[[WebSocket, Mapping[str, Any]], Awaitable[Connected]]
"""Identifies the person by the payload of `connection_init`. Raises AppError."""


def _unlimited(_: Scope) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class SubscriptionEndpoint:
    """The ASGI application of one WebSocket route.

    A web page may connect if its origin is one of `allowed_origins`. A client that sends no origin is not a
    browser.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        connect: Connect,
        allowed_origins: Collection[str] = (),
        limits: SocketLimits | None = None,
        connecting: Connecting = _unlimited,
    ) -> None:
        self.schema = schema
        self.connect = connect
        self.limits = limits or SocketLimits()
        self._connecting = connecting
        self._allowed_origins = frozenset(allowed_origins)
        self._connections: Counter[Hashable] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. A connection from another origin is refused with 403.

        The query string is removed unread: uvicorn logs it (0.54, websockets_sansio_impl.py; checked 2026-11-21),
        and a client may have put a token there.
        """
        scope["query_string"] = b""
        websocket = WebSocket(scope, receive, send)
        if not self._allowed_origins.issuperset(websocket.headers.getlist("origin")):
            await websocket.close()
        elif PROTOCOL not in scope["subprotocols"]:
            await websocket.accept()
            await websocket.close(Close.PROTOCOL, f"The subprotocol is {PROTOCOL}")
        else:
            await self._serve(websocket)

    async def _serve(self, websocket: WebSocket) -> None:
        async with AsyncExitStack() as connecting:
            try:
                await connecting.enter_async_context(self._connecting(websocket.scope))
            except RateLimited as error:
                await _deny(websocket, error)
                return
            await websocket.accept(PROTOCOL)
            await _Connection(self, websocket, connecting).run()

    @contextmanager
    def admitted(self, person: Hashable) -> Iterator[None]:
        """Count a connection of a person while it is open. Raises EndedError."""
        if self._connections[person] >= self.limits.connections_per_person:
            raise EndedError(Close.TOO_MANY, "too_many_connections")
        self._connections[person] += 1
        try:
            yield
        finally:
            self._connections[person] -= 1
            if not self._connections[person]:
                del self._connections[person]


class _Connection:
    """One connection. The first of its tasks that finds the connection over raises EndedError, which ends the other
    tasks.
    """

    def __init__(
        self, endpoint: SubscriptionEndpoint, websocket: WebSocket, connecting: AsyncExitStack
    ) -> None:
        self._endpoint = endpoint
        self._connecting = connecting
        self._limits = endpoint.limits
        self._websocket = websocket
        self._tasks = asyncio.TaskGroup()
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        try:
            await self._serve()
        except EndedError as ended:
            await self._close(ended)

    async def _serve(self) -> None:
        connected = await self._connect()
        with self._endpoint.admitted(connected.person):
            await self._require_session(connected)
            await self._connecting.aclose()
            try:
                async with self._tasks:
                    self._tasks.create_task(self._watch_session(connected))
                    await self._send({"type": "connection_ack"})
                    while True:
                        await self._handle(connected, await self._receive())
            except* EndedError as group:
                ended = group
            raise _told(ended)

    async def _connect(self) -> Connected:
        try:
            async with asyncio.timeout(self._limits.init_seconds):
                message = await self._receive()
                while message["type"] in ("ping", "pong"):
                    await self._answer(message)
                    message = await self._receive()
        except TimeoutError:
            raise EndedError(Close.INIT_TIMEOUT, "Connection initialisation timeout") from None
        if message["type"] != "connection_init":
            raise EndedError(Close.UNAUTHENTICATED, "Unauthorized")
        try:
            return await self._endpoint.connect(self._websocket, init_payload(message))
        except AppError as error:
            raise ended_by(error) from error

    async def _require_session(self, connected: Connected) -> None:
        try:
            if connected.is_unchecked:
                await connected.recheck()
        except AppError as error:
            raise ended_by(error) from error

    async def _watch_session(self, connected: Connected) -> None:
        """Check the session while nothing else happens (law 4). If the check fails for a technical reason, it is
        repeated.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(connected.expires_at - time.time()):
                while True:
                    await asyncio.sleep(self._limits.recheck_seconds)
                    try:
                        await connected.recheck()
                    except (UpstreamFailed, Timeout):
                        continue
                    except AppError as error:
                        raise ended_by(error) from error
        raise EndedError(Close.FORBIDDEN, "token_expired")

    async def _handle(self, connected: Connected, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "ping" | "pong":
                await self._answer(message)
            case "subscribe":
                await self._subscribe(connected, operation_of(message))
            case "complete":
                self._complete(operation_id(message))
            case "connection_init":
                raise EndedError(Close.TOO_MANY, "Too many initialisation requests")
            case _:
                raise EndedError(Close.BAD_REQUEST, "The type of the message is unknown")

    async def _answer(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "ping":
            await self._send({"type": "pong"})

    async def _subscribe(self, connected: Connected, operation: Operation) -> None:
        if operation.id in self._operations:
            raise EndedError(Close.DUPLICATE_ID, "A subscriber of this id exists already")
        told_as = request_id(self._websocket.scope)
        if not operation.query:
            payload = [not_supported(told_as)]
            await self._send({"id": operation.id, "type": "error", "payload": payload})
            return
        refused: AppError | None = None
        if len(self._running) >= self._limits.operations_per_connection:
            refused = RateLimited("too_many_subscriptions", limit=self._limits.operations_per_connection)
        elif not _is_one_subscription(operation):
            refused = InvalidInput("subscriptions_only")
        if refused is not None:
            await self._send(refusal_message(operation.id, refused, connected.language, told_as))
            return
        task = self._tasks.create_task(self._operate(connected, operation))
        self._operations[operation.id] = task
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _complete(self, identifier: str) -> None:
        task = self._operations.pop(identifier, None)
        if task is not None:
            task.cancel()

    async def _operate(self, connected: Connected, operation: Operation) -> None:
        errors = await self._stream(connected, operation)
        self._operations.pop(operation.id, None)
        if not errors:
            await self._send({"id": operation.id, "type": "complete"})
            return
        payload = [error.formatted for error in errors]
        await self._send({"id": operation.id, "type": "error", "payload": payload})
        for error in errors:
            extensions = error.extensions or {}
            if extensions.get("code") == Unauthenticated.code:
                raise EndedError(Close.UNAUTHENTICATED, str(extensions.get("reason")))

    async def _stream(self, connected: Connected, operation: Operation) -> Sequence[GraphQLError]:
        """Send the results of an operation until it ends or returns no data. Return the errors that ended it.

        An exception of a schema extension during parsing passes through Strawberry's stream unmasked (0.341.2).
        """
        schema = self._endpoint.schema
        try:
            results = await schema.subscribe(
                operation.query,
                variable_values=operation.variables,
                context_value=connected.context,
                operation_name=operation.name,
            )
            async with aclosing(results):
                async for result in results:
                    if result.data is None:
                        return result.errors or ()
                    await self._send({"id": operation.id, "type": "next", "payload": {"data": result.data}})
        except GraphQLError as error:
            errors = [error]
            schema.process_errors(errors, ExecutionContext(None, schema, (), connected.context))
            return errors
        return ()

    async def _receive(self) -> dict[str, Any]:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise EndedError
        return decode_message(message.get("text"), self._limits.message_bytes)

    async def _send(self, message: Mapping[str, object]) -> None:
        """Send a message. If the client does not receive it within `send_seconds`, the connection ends; the client
        reads again later.
        """
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await self._websocket.send_text(json.dumps(message))
        except (TimeoutError, WebSocketDisconnect) as error:
            raise EndedError from error

    async def _close(self, ended: EndedError) -> None:
        if ended.code is None:
            return
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(self._limits.send_seconds):
                await self._websocket.close(ended.code, ended.reason)


async def _deny(websocket: WebSocket, error: AppError) -> None:
    """Answer the handshake with the error if the server supports more than a bare 403."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(app_error_refusal(websocket.scope, error))
    else:
        await websocket.close()


def _told(group: BaseExceptionGroup[EndedError]) -> EndedError:
    """Return the first error that has something to send to the client."""
    ended = (error for error in group.exceptions if isinstance(error, EndedError))
    return next((error for error in ended if error.code is not None), EndedError())


def _is_one_subscription(operation: Operation) -> bool:
    """Return whether the document has exactly one operation, a subscription. The schema later refuses an invalid
    document.
    """
    try:
        document = parse(operation.query, no_location=True, max_tokens=_MAX_TOKENS)
    except (GraphQLError, RecursionError):
        return True
    found = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if len(found) != 1 or found[0].operation is not OperationType.SUBSCRIPTION:
        return False
    name = found[0].name
    return operation.name in (None, name.value if name else None)
