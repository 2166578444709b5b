"""A proxy for Postgres that detects the end of each transaction and can kill the client exactly at this moment.

A boundary is the moment when a client asks to commit: with `COMMIT`, or with the `Sync` of a statement outside of a
transaction. With BEFORE, the proxy kills the client just before the commit, which the server never receives. With
AFTER, the proxy kills the client just after the commit: the server has committed, but the client never receives the
answer (PostgreSQL 18, "Message Formats"; checked 2026-11-21). The proxy counts only the transactions of one
consultation, which it recognises by the consultation's ids and names in the messages.
"""

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.proxy import Address, Proxy, first_to_end
from tests.faults.watches import Moment, Watch

_NO_ENCRYPTION = {80877103, 80877104}
_STARTUP = 196_608
_IDLE = b"I"


@dataclass
class _Session:
    login: str = ""
    status: bytes = _IDLE
    has_executed: bool = False
    is_committing: bool = False
    said: bytearray = field(default_factory=bytearray)
    prepared: dict[bytes, bytes] = field(default_factory=dict)

    def hears(self, kind: bytes, message: bytes) -> None:
        """Collect a client's message. For a Bind message, also collect the text of the prepared statement that it
        names.
        """
        if kind == b"P":
            name, text, _ = message[5:].split(b"\0", 2)
            self.prepared[name] = text
        if kind == b"B":
            _, name, _ = message[5:].split(b"\0", 2)
            self.said += self.prepared.get(name, b"")
        self.said += message


class PostgresProxy(Proxy):
    """A proxy for Postgres that reports every commit of a login to the watches for this login."""

    def __init__(self, upstream: Address) -> None:
        super().__init__(upstream)
        self.watches: list[Watch] = []

    @contextmanager
    def watched(self, *watches: Watch) -> Iterator[None]:
        """Report commits to these watches until the end of the block."""
        self.watches.extend(watches)
        try:
            yield
        finally:
            for watch in watches:
                self.watches.remove(watch)

    async def relay(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        session = _Session()
        await self._greet(session, *client, server[1])
        await first_to_end(
            self._to_server(session, client[0], server[1]), self._to_client(session, server[0], client[1])
        )

    async def _greet(
        self,
        session: _Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
    ) -> None:
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            body = await reader.readexactly(length - 8)
            if code not in _NO_ENCRYPTION:
                break
            writer.write(b"N")
        if code == _STARTUP:
            words = body.split(b"\0")
            session.login = words[words.index(b"user") + 1].decode()
        server.write(head + body)

    async def _to_server(
        self, session: _Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            kind, message = await _message(reader)
            if kind == b"Q" and session.status == _IDLE:
                session.said.clear()
            session.hears(kind, message)
            session.has_executed |= kind == b"E"
            session.is_committing = _commits(session, kind, message)
            if session.is_committing and self._strikes(session, "before"):
                return
            writer.write(message)
            await writer.drain()

    async def _to_client(
        self, session: _Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            kind, message = await _message(reader)
            session.said += message
            if kind == b"Z":
                session.status = message[-1:]
                if session.is_committing and self._strikes(session, "after"):
                    return
                if session.status == _IDLE:
                    session.said.clear()
                session.has_executed = session.is_committing = False
            writer.write(message)
            await writer.drain()

    def _strikes(self, session: _Session, moment: Moment) -> bool:
        said = bytes(session.said)
        watches = [watch for watch in self.watches if watch.login == session.login]
        for watch in watches:
            watch.learn(said)
        for watch in watches:
            if watch.moment == moment and watch.passes(said):
                watch.kill()
                return True
        return False


def _commits(session: _Session, kind: bytes, message: bytes) -> bool:
    if kind == b"Q":
        return message[5:].upper().startswith(b"COMMIT")
    return kind == b"S" and session.status == _IDLE and session.has_executed


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)
