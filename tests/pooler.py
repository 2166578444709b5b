"""A pooler of Postgres connections with pgbouncer's session, transaction and statement modes.

The pooler logs in for its clients and authenticates none of them. The pooler supports no cancel requests, no TLS,
no COPY, and no pipelines over several transactions, because no test needs them. The argument `picks` selects the
idle session for the next client: the session that was used last (pgbouncer's default), the session that has been
idle longest (`server_round_robin`), or a random session.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import psycopg

Mode = Literal["session", "transaction", "statement"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_STATUS = (
    "client_encoding",
    "DateStyle",
    "integer_datetimes",
    "server_encoding",
    "server_version",
    "TimeZone",
    "standard_conforming_strings",
    "IntervalStyle",
    "in_hot_standby",
    "default_transaction_read_only",
)
PICKS: dict[str, Callable[[list[Streams]], int]] = {
    "last": lambda idle: -1,
    "first": lambda idle: 0,
    "any": lambda idle: random.randrange(len(idle)),  # noqa: S311 - nothing is kept secret by it
}


@dataclass
class Pooler:
    """A pooler for the login of `url` and the logins of `others`. `most` is the maximum number of server sessions
    for each login.

    `started` contains the startup parameters of each client connection.
    """

    url: str
    mode: Mode
    picks: str = "last"
    most: int = 4
    port: int = 0
    options: Literal["refused", "dropped"] = "refused"
    others: Sequence[str] = ()
    started: list[dict[str, str]] = field(default_factory=list)
    _logins: dict[str, "_Login"] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Run the pooler. Yield the URL of the login of `url` through the pooler."""
        for login_url in (self.url, *self.others):
            self._logins[urlsplit(login_url).username or ""] = _Login(login_url, asyncio.Semaphore(self.most))
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        parts = urlsplit(self.url)
        login = parts.netloc.rpartition("@")[0]
        try:
            yield parts._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()
        finally:
            server.close()
            for each in self._logins.values():
                each.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            login = await self._greet(reader, writer)
            if login is not None:
                await self._carry(login, reader, writer)
        writer.transport.abort()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "_Login | None":
        while True:
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code == _CANCEL_REQUEST:
                return None
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                break
            writer.write(b"N")
        words = body[4:].split(b"\0")
        start = {
            key.decode(): value.decode() for key, value in zip(words[::2], words[1::2], strict=False) if key
        }
        self.started.append(start)
        if "options" in start and self.options == "refused":
            writer.write(_error("FATAL", "08P01", "unsupported startup parameter: options"))
            await writer.drain()
            return None
        login = self._logins[start["user"]]
        writer.write(_message(b"R", struct.pack("!i", 0)))
        login.give_back(await login.taken(self.picks))
        connection = login.connections[-1]
        for name in _STATUS:
            if value := connection.info.parameter_status(name):
                writer.write(_message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(_message(b"K", struct.pack("!ii", 1, 1)) + _message(b"Z", b"I"))
        return login

    async def _carry(
        self, login: "_Login", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server: Streams | None = None
        try:
            while True:
                kind, body = await _read(reader)
                if kind == b"X":
                    return
                if server is None:
                    server = await login.taken(self.picks)
                server[1].write(_message(kind, body))
                if kind not in (b"Q", b"S"):
                    continue
                status = await self._answered(server, writer)
                if self.mode == "statement" and status == b"T":
                    writer.write(
                        _error("FATAL", "08P01", "transaction blocks not allowed in statement pooling mode")
                    )
                    await writer.drain()
                    return
                if self.mode != "session" and status == b"I":
                    login.give_back(server)
                    server = None
        finally:
            if server is not None:
                server[
                    1
                ].transport.abort()  # The client died, so the server session's transaction is rolled back
                login.places.release()

    async def _answered(self, server: Streams, writer: asyncio.StreamWriter) -> bytes:
        while True:
            kind, body = await _read(server[0])
            writer.write(_message(kind, body))
            if kind == b"Z":
                await writer.drain()
                return body


@dataclass
class _Login:
    """The pooler's server sessions of one login."""

    url: str
    places: asyncio.Semaphore
    idle: list[Streams] = field(default_factory=list)
    connections: list[psycopg.Connection] = field(default_factory=list)

    async def taken(self, picks: str) -> Streams:
        await self.places.acquire()
        if self.idle:
            return self.idle.pop(PICKS[picks](self.idle))
        connection = await asyncio.to_thread(lambda: psycopg.connect(self.url, autocommit=True))
        self.connections.append(connection)
        raw = socket.socket(fileno=socket.dup(connection.fileno()))
        raw.setblocking(False)
        return await asyncio.open_connection(sock=raw)

    def give_back(self, server: Streams) -> None:
        self.idle.append(server)
        self.places.release()

    def close(self) -> None:
        for _, writer in self.idle:
            writer.transport.abort()
        for connection in self.connections:
            connection.close()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _error(severity: str, state: str, text: str) -> bytes:
    return _message(b"E", f"S{severity}\0V{severity}\0C{state}\0M{text}\0\0".encode())


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)
