"""A WebSocket client that speaks graphql-transport-ws over a real socket. The client knows nothing of the server
except the messages that the server sends.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from tests.api.harness import Person, served

ORIGIN = "https://app.example.org"
PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Socket:
    """A WebSocket connection."""

    connection: ClientConnection

    @property
    def request_id(self) -> str:
        """Return the request id of this WebSocket connection, which the audit log contains."""
        assert self.connection.response is not None
        return str(UUID(self.connection.response.headers["x-request-id"]))

    async def send_message(self, **message: Any) -> None:
        """Send a message."""
        await self.connection.send(json.dumps(message))

    async def receive(self) -> Any:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self.connection.recv())

    async def send_init(self, person: Person, **payload: str) -> None:
        """Send `connection_init` with the person's token."""
        token = {} if person.token is None else {"authorization": f"Bearer {person.token}"}
        await self.send_message(type="connection_init", payload=token | payload)

    async def init(self, person: Person, **payload: str) -> None:
        """Send `connection_init` with the person's token, and require that the server accepts it."""
        await self.send_init(person, **payload)
        assert await self.receive() == {"type": "connection_ack"}

    async def subscribe(self, query: str, identifier: str = "1", **variables: object) -> None:
        await self.send_message(
            id=identifier, type="subscribe", payload={"query": query, "variables": variables}
        )

    async def event(self, identifier: str = "1") -> Any:
        """Return the value of the root field in the next event of the subscription."""
        message = await self.receive()
        assert (message["type"], message["id"]) == ("next", identifier), message
        (value,) = message["payload"]["data"].values()
        return value

    async def error(self, identifier: str = "1") -> Any:
        """Return the only error in the `error` message of a failed operation."""
        message = await self.receive()
        assert (message["type"], message["id"]) == ("error", identifier), message
        (error,) = message["payload"]
        return error

    async def require_no_message(self) -> None:
        """Send a ping, and require that the next message of the server is the pong."""
        await self.send_message(type="ping")
        assert await self.receive() == {"type": "pong"}

    async def wait_for_close(self) -> tuple[int, str]:
        """Return the code and the reason with which the server closes the connection. The method fails if the
        server sends a message before it closes the connection.
        """
        with pytest.raises(ConnectionClosed) as closed:
            raise AssertionError(await self.receive())
        frame = closed.value.rcvd
        assert frame is not None, closed.value
        return frame.code, frame.reason


@asynccontextmanager
async def open_socket(
    url: str, *, origin: str | None = ORIGIN, protocol: str = "graphql-transport-ws", query: str = ""
) -> AsyncIterator[Socket]:
    """Open a WebSocket connection without sending a message."""
    address = url.replace("http://", "ws://") + "/graphql" + query
    async with connect(
        address,
        subprotocols=[Subprotocol(protocol)],
        origin=None if origin is None else Origin(origin),
        open_timeout=PATIENCE_SECONDS,
    ) as connection:
        yield Socket(connection)


@asynccontextmanager
async def serve_app(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application and run its lifespan events. Yield the URL of the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with served(app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
