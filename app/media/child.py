"""A conversation with a child process that holds no secret and can open nothing.

The parent reads an object for the child and checks what it says as a stranger's word. The child may ask for blocks of
this one object, so many of them. It is killed and reaped whatever happens; no file name or URL is ever handed to it.
On Linux the parent keeps its memory from every process of its user, so also from a child that was taken over.
"""

import asyncio
import ctypes
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Annotated, Final, Generic, Literal, TypeVar, cast

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import InvalidInput, UpstreamFailed

Container = Literal["mp4", "ogg"]
ReadRange = Callable[[int, int], Awaitable[bytes]]

MAGIC: Final[dict[Container, tuple[int, bytes]]] = {"mp4": (4, b"ftyp"), "ogg": (0, b"OggS")}
"""Where an object's first bytes say what it is, and what they say."""

_MAX_LINE_BYTES: Final = 1000
_PART_BYTES: Final = 1024 * 1024
_PR_SET_DUMPABLE: Final = 4
_OF_THE_MEDIA: Final = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class MediaRefused(InvalidInput):
    """The object is not what we take.

    `media_unreadable`: not that container, no stream that we can decode, or it broke the reader; `media_too_slow`:
    it took more of the processor, memory or reading than any recording needs.
    """


class Blocks:
    """The object's blocks, given a bounded number of times; the first is read once."""

    def __init__(
        self, read_range: ReadRange, size_bytes: int, *, block_bytes: int, read_bytes: int, operation: str
    ) -> None:
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._left = read_bytes // block_bytes
        self._operation = operation
        self._first: bytes | None = None

    async def first(self) -> bytes:
        """The object's beginning."""
        if self._first is None:
            self._first = await self._read(0)
        return self._first

    async def block(self, number: int) -> bytes:
        """One block, the last one shorter; raises MediaRefused where there is none, or for one too many."""
        if self._left < 1:
            raise MediaRefused("media_too_slow")
        self._left -= 1
        return await self.first() if number == 0 else await self._read(number)

    async def _read(self, number: int) -> bytes:
        start = number * self._block_bytes
        length = min(self._block_bytes, self._size_bytes - start)
        if length < 1:
            raise MediaRefused("media_unreadable")
        block = await self._read_range(start, length)
        if len(block) != length:
            raise UpstreamFailed("storage_failed", operation=self._operation)
        return block


class Line(BaseModel):
    """A line that a child may say."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Wanted(Line):
    """It asks for a block."""

    block: Annotated[int, Field(ge=0)]


class Refused(Line):
    """It will not take the object; its last line."""

    refused: Literal["media_unreadable", "media_too_slow"]


Said = TypeVar("Said", bound=Line)


class Conversation(Generic[Said]):
    """What the child says beside asking for blocks, which it is given.

    `ended` makes the error of a child that ended through no fault of the object; `seconds` is how long the child may
    take in all, `silent_seconds` how long for one line. What the store takes does not count.
    """

    def __init__(
        self,
        process: Process,
        blocks: Blocks,
        lines: TypeAdapter[Said | Wanted | Refused],
        ended: Callable[..., UpstreamFailed],
        *,
        seconds: float,
        silent_seconds: float = float("inf"),
    ) -> None:
        self._process = process
        self._blocks = blocks
        self._lines = lines
        self._error = ended
        self._seconds_left = seconds
        self._silent_seconds = silent_seconds
        self._said = BufferedByteReceiveStream(cast("ByteReceiveStream", process.stdout))  # both are pipes
        self._answers = cast("ByteSendStream", process.stdin)

    async def next(self) -> Said:
        """Its next line that is no question; raises MediaRefused where it refuses, breaks or lies."""
        while True:
            line = await self._line()
            if isinstance(line, Refused):
                raise MediaRefused(line.refused)
            if not isinstance(line, Wanted):
                return line
            await self.send(await self._blocks.block(line.block))

    async def content(self, size_bytes: int) -> bytes:
        """The bytes that its last line announced."""
        parts: list[bytes] = []
        try:
            while size_bytes:
                with self._in_time():
                    parts.append(await self._said.receive_exactly(min(size_bytes, _PART_BYTES)))
                size_bytes -= len(parts[-1])
        except anyio.IncompleteRead as error:
            raise await self._ended() from error
        return b"".join(parts)

    async def send(self, content: bytes) -> None:
        """Writes to its standard input. One that ended meanwhile may have answered before."""
        with suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError), self._in_time():
            await self._answers.send(content)

    async def _line(self) -> Said | Wanted | Refused:
        try:
            with self._in_time():
                return self._lines.validate_json(await self._said.receive_until(b"\n", _MAX_LINE_BYTES))
        except anyio.IncompleteRead as error:
            raise await self._ended() from error
        except (anyio.DelimiterNotFound, ValidationError) as error:
            raise MediaRefused("media_unreadable") from error

    async def _ended(self) -> MediaRefused | UpstreamFailed:
        """Why the child ended without an answer: killed by the media or at its limit, or by something else."""
        with self._in_time():
            status = await self._process.wait()
        if -status == signal.SIGXCPU:
            return MediaRefused("media_too_slow")
        if -status in _OF_THE_MEDIA:
            return MediaRefused("media_unreadable")
        return self._error(status=status)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        began = anyio.current_time()
        try:
            with anyio.fail_after(min(self._seconds_left, self._silent_seconds)):
                yield
        except TimeoutError as error:
            raise self._error() from error
        finally:
            self._seconds_left -= anyio.current_time() - began


@asynccontextmanager
async def running(program: Path, *arguments: str | int) -> AsyncIterator[Process]:
    """A child, by path and isolated (`-I`): nothing of the environment or the working directory is loaded.

    This process cannot be traced, nor its `/proc` read, by its own user from now on (prctl(2), tried 2026-11-22).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    opening = asyncio.ensure_future(
        anyio.open_process(
            [sys.executable, "-I", "-B", str(program), *map(str, arguments)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
    )
    try:
        # Cancelled amid its opening, asyncio would wait for its end for ever (CPython 3.11, read 2026-11-21).
        yield await asyncio.shield(opening)
    finally:
        with anyio.CancelScope(shield=True):
            process = await opening
            with suppress(ProcessLookupError):
                process.kill()
            await process.aclose()
