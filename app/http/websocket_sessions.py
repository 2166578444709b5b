"""Runs the GraphQL subscriptions of one WebSocket while the session of its person lasts.

The token arrives in `connection_init`, because browsers cannot set headers for a WebSocket and URLs are logged. The
API verifies the token once, and checks in the database every few seconds whether the session of the token is still
valid. The API closes the WebSocket when the token expires, so a WebSocket never extends a session. A WebSocket
accepts only subscriptions, so that mutations have one entry point. Strawberry's handler speaks the protocol
`graphql-transport-ws`; this module adds the session, the API's error messages, and the limit on running operations.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.websockets import WebSocket
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    SubscribeMessage,
)
from strawberry.types import ExecutionContext, ExecutionResult

from app.errors import AppError, InvalidInput, RateLimited, Timeout, Unauthenticated, UpstreamFailed
from app.http.error_responses import build_error_payload, request_id
from app.http.persisted_queries import is_hash_alone, not_supported
from app.http.websocket_messages import (
    Close,
    ConnectionEndedError,
    translate_session_error,
)
from app.texts import Language
from graphql_schema.document_limits import TooComplex
from graphql_schema.error_masking import MaskedSchema

_MAX_TOKENS = 1000


@dataclass(frozen=True)
class SocketLimits:
    """The limits of one API process on its WebSockets. If a session ends, the API closes the session's WebSockets
    within `recheck_seconds` plus the time of a database query.
    """

    init_seconds: float = 5
    recheck_seconds: float = 5
    send_seconds: float = 10
    message_bytes: int = 16_384
    operations_per_connection: int = 10
    connections_per_person: int = 10


@dataclass(frozen=True)
class Connected:
    """A person with a valid token on a WebSocket, with the context of the resolvers. `expires_at` is the expiry of
    the token in Unix seconds.

    The function `recheck` raises an AppError if the person's session has ended. `is_unchecked` means that the
    session has not been checked yet. If `is_unchecked` is true, the API first counts the connection for its person
    and then checks the session, so that a flood of connections does not reach the database.
    """

    context: object
    person: Hashable
    expires_at: float
    language: Language
    recheck: Callable[[], Awaitable[None]]
    is_unchecked: bool = False


Connect = Callable[[WebSocket, Mapping[str, Any]], Awaitable[Connected]]
"""Identifies the person by the payload of `connection_init`. Raises AppError."""


@dataclass
class SocketConnection:
    """One WebSocket connection. `slots` counts the connection for its client address until its person is known, and
    then for its person.
    """

    websocket: WebSocket
    limits: SocketLimits
    slots: AsyncExitStack
    connection_params: Mapping[str, Any] | None = None
    connected: Connected | None = None


class SessionHandler(BaseGraphQLTransportWSHandler[SocketConnection, None]):
    """Strawberry's protocol handler for one WebSocket connection. A ConnectionEndedError in a task of the handler
    ends the connection.
    """

    schema: MaskedSchema

    async def handle(self) -> None:
        """Serve the connection until the client or the API ends it. The method always ends by raising
        ConnectionEndedError, except after an unexpected exception.
        """
        self._running: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._await_failure())
                await super().handle()
                raise ConnectionEndedError  # noqa: TRY301 - cancels the other tasks
        except* ConnectionEndedError as group:
            ended = group
        raise _first_with_code(ended)

    async def handle_task_exception(self, error: Exception) -> None:
        """End the connection with the error of a task that Strawberry started."""
        if not self._failure.done():
            self._failure.set_exception(error)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Connect the person whom the token identifies, and start the repeated check of the person's session."""
        if message.get("payload") is None:
            message = {"type": "connection_init", "payload": {}}
        await super().handle_connection_init(message)
        if self.context.connected is not None:
            self._tasks.create_task(
                _watch_session(self.context.connected, self.context.limits.recheck_seconds)
            )

    async def handle_invalid_message(self, error_message: str) -> None:
        """Raise AssertionError. Strawberry treats every KeyError as an invalid message, but `decode_message` has
        already checked the message.
        """
        raise AssertionError(error_message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Start an operation, or send an `error` message if the operation may not start."""
        connected = self.context.connected
        if connected is not None and message["id"] not in self.operations:
            refusal = self._refusal(connected, message)
            if refusal is not None:
                await self.send_message({"id": message["id"], "type": "error", "payload": [refusal]})
                return
        await super().handle_subscribe(message)
        task = self.operations[message["id"]].task
        assert task is not None, "Strawberry has started it"  # noqa: S101 - narrows the type
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _refusal(self, connected: Connected, message: SubscribeMessage) -> Any:
        """Return the error of an operation that may not start, or None if the operation may start.

        A cancelled operation counts as running until its task has ended. Strawberry's own limit on running
        operations does not count cancelled operations.
        """
        told_as, limit = (
            request_id(self.context.websocket.scope),
            self.context.limits.operations_per_connection,
        )
        if is_hash_alone(message["payload"]):
            return not_supported(told_as)
        error = _find_refusal(message)
        if len(self._running) >= limit:
            error = RateLimited("too_many_subscriptions", limit=limit)
        return None if error is None else build_error_payload(error, connected.language, told_as)

    async def run_operation(self, operation: Operation[SocketConnection, None]) -> None:
        """Send the results of an operation, and then `complete` or the errors that ended the operation."""
        try:
            errors = await self._send_results(operation)
            if not errors:
                await operation.send_operation_message({"id": operation.id, "type": "complete"})
                return
            await operation.send_initial_errors(errors)
            _require_authenticated(errors)
        except Exception as error:  # noqa: BLE001 - `handle` raises it
            await self.handle_task_exception(error)

    async def _send_results(self, operation: Operation[SocketConnection, None]) -> list[GraphQLError]:
        """Send the results of a subscription until it ends or returns no data. Return the errors that ended the
        operation.

        Strawberry (0.341.2) does not mask an exception that a schema extension raises during parsing.
        """
        assert self.context.connected is not None, "operations follow the connection"  # noqa: S101 - narrows the type
        schema, context = self.schema, self.context.connected.context
        try:
            results = await schema.subscribe(
                operation.query,
                variable_values=operation.variables,
                context_value=context,
                operation_name=operation.operation_name,
            )
            async with aclosing(results):
                async for result in results:
                    if result.data is None:
                        return list(result.errors or ())
                    await operation.send_next(ExecutionResult(result.data, result.errors or None))
        except GraphQLError as error:
            errors = [error]
            schema.process_errors(errors, ExecutionContext(None, schema, (), context))
            return errors
        return []

    async def _await_failure(self) -> None:
        await self._failure


async def _watch_session(connected: Connected, recheck_seconds: float) -> None:
    """Check the session every `recheck_seconds` until the token expires, even if the subscription has no events
    (law 4). If the check of the session fails for a technical reason, the function repeats the check. Raises
    ConnectionEndedError.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(connected.expires_at - time.time()):
            while True:
                await asyncio.sleep(recheck_seconds)
                try:
                    await connected.recheck()
                except (UpstreamFailed, Timeout):
                    continue
                except AppError as error:
                    raise translate_session_error(error) from error
    raise translate_session_error(Unauthenticated("token_expired"))


def _require_authenticated(errors: Iterable[GraphQLError]) -> None:
    for extensions in (error.extensions or {} for error in errors):
        if extensions.get("code") == Unauthenticated.code:
            raise ConnectionEndedError(Close.UNAUTHENTICATED, str(extensions["reason"] or ""))


def _first_with_code(group: BaseExceptionGroup[ConnectionEndedError]) -> ConnectionEndedError:
    """Return the first ConnectionEndedError that has a code to send to the client."""
    ended = (error for error in group.exceptions if isinstance(error, ConnectionEndedError))
    return next((error for error in ended if error.code is not None), ConnectionEndedError())


def _find_refusal(message: SubscribeMessage) -> AppError | None:
    """Return the error of a document that does not have exactly one operation, or whose operation is no subscription
    or has another name than `operationName`. The schema later refuses an invalid document.
    """
    try:
        document = parse(message["payload"]["query"], no_location=True, max_tokens=_MAX_TOKENS)
    except (GraphQLError, RecursionError):
        return None
    found = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if len(found) > 1:
        return TooComplex("too_many_operations", limit=1, count=len(found))
    names = [None, *(node.name.value for node in found if node.name)]
    if not found or message["payload"].get("operationName") not in names:
        return InvalidInput("operation_not_found")
    return None if found[0].operation is OperationType.SUBSCRIPTION else InvalidInput("subscriptions_only")
