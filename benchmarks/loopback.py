"""A minimal HTTP/1.1 client for benchmarks. The client must use little processor time, because the client and the
measured server run on the same processor cores.

The client sends prepared bytes, and reads only the status and the length of an answer. The client supports no
redirects, no chunked bodies and no TLS, so it works only with our own servers.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class UnexpectedAnswerError(Exception):
    """The server's answer has no Content-Length, or its status is not 200."""


def post(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the bytes of a POST request, after which the connection stays open."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """A connection to one server, which sends one request at a time and then waits for the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def exchange(self, request: bytes) -> bytes:
        """Send the request and return the body of the answer. Raises UnexpectedAnswerError unless the status is
        200.
        """
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            raise UnexpectedAnswerError(head.partition(b"\r\n")[0].decode())
        return await self._reader.readexactly(int(length[1]))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Open a connection to the server that `url` names. Close the connection at the end of the block."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
