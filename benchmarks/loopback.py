"""A lean HTTP/1.1 client: what a benchmark's own side costs is taken from the server's share of the same cores.

It sends bytes that were made beforehand and reads of the answer its status and its length. It speaks to servers of
ours alone: no redirects, no chunks, no TLS.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class UnexpectedAnswerError(Exception):
    """An answer without a length, or of another status than it must have."""


def post(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of one POST on a connection that stays open."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection to one server; one exchange at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def exchange(self, request: bytes) -> bytes:
        """The body of the answer. Raises UnexpectedAnswerError unless it is 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            raise UnexpectedAnswerError(head.partition(b"\r\n")[0].decode())
        return await self._reader.readexactly(int(length[1]))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection to the server of `url`, closed at the end."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
