"""A TCP proxy between clients and one server, which can break the connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

Address = tuple[str, int]
_CHUNK_BYTES = 65_536


class Proxy:
    """A TCP proxy on a port of its own. `upstream` may be changed at any time; the change applies to new
    connections.
    """

    def __init__(self, upstream: Address) -> None:
        self.upstream = upstream
        self.port = 0
        self._is_cut = False
        self._moves = asyncio.Event()
        self._moves.set()
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Forward connections until the end of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Break every connection, and refuse new connections until `mend`."""
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """Accept and forward new connections again."""
        self._is_cut = False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Accept bytes but forward none until the end of the block, like a server that hangs."""
        self._moves.clear()
        try:
            yield
        finally:
            self._moves.set()

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Break all connections, and refuse new ones until the end of the block."""
        self.cut()
        try:
            yield
        finally:
            self.mend()

    async def relay(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Forward one connection in both directions until either side closes it."""
        await first_to_end(_pump(client[0], server[1], self._moves), _pump(server[0], client[1], self._moves))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        both = [writer]
        self._writers.add(writer)
        try:
            if not self._is_cut:
                upstream = await asyncio.open_connection(*self.upstream)
                both.append(upstream[1])
                self._writers.add(upstream[1])
                await self.relay((reader, writer), upstream)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in both:
                self._writers.discard(one)
                one.transport.abort()


async def first_to_end(*works: Coroutine[Any, Any, None]) -> None:
    """Wait until one of the coroutines ends, and cancel the others. Raises its exception."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.result()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moves: asyncio.Event) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        await moves.wait()
        writer.write(chunk)
        await writer.drain()
