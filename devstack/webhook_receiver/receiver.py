"""The test receiver of outgoing webhooks: an HTTP server on the loopback address. Tests set the answers of the
receiver.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

LARGEST_BODY_BYTES = 65_536


@dataclass(frozen=True)
class Received:
    """A verified message. `id` is its header `webhook-id`."""

    id: str
    message: dict[str, Any]
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """The answer of the receiver to a request. If `status` is None, the receiver sends no answer."""

    status: int | None = 204
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class WebhookReceiver:
    """Receives messages. The next request gets the first of `answers`, or 204 if there is none. A message whose
    signature does not match any secret gets 401. `on_message` is called with each verified message.
    """

    secret: str = field(repr=False)
    answers: list[Answer] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    refused: int = 0
    on_message: Callable[[Received], None] = lambda _: None
    url: str = ""

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[None]:
        """Listen on the port, or on a free one, until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks"
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            lines = (line.partition(":") for line in head[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in lines}
            length = int(headers.get("content-length", "0"))
            body = await reader.readexactly(length) if length <= LARGEST_BODY_BYTES else b""
            answer = self._receive(head[0], headers, body)
            if answer.status is None:
                await reader.read()  # until the client closes the connection
                return
            more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            writer.write(f"HTTP/1.1 {answer.status} -\r\nConnection: close\r\n{more}\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    def _receive(self, request: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if request.startswith("GET "):
            return Answer(204)
        try:
            message = Webhook(self.secret).verify(body, dict(headers))
        except WebhookVerificationError:
            self.refused += 1
            return Answer(401)
        answer = self.answers.pop(0) if self.answers else Answer()
        if answer.status is not None and 200 <= answer.status <= 299:
            self.received.append(Received(headers["webhook-id"], message, headers))
            self.on_message(self.received[-1])
        return answer
