"""Runs a child process that has no secret and can open no file, and exchanges messages with it.

The parent reads an object for the child, and validates the child's answers as untrusted input. The child may ask
for a limited number of blocks of the object. The parent process always kills and reaps the child process, and never
passes a file name or a URL to the child. On Linux the parent protects its memory from all processes of its user,
including a child that an attacker has taken over.
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

_MAGIC: Final[dict[Container, tuple[int, bytes]]] = {"mp4": (4, b"ftyp"), "ogg": (0, b"OggS")}
"""The offset and the value of the bytes that identify a container format."""

_MAX_LINE_BYTES: Final = 1000
_PART_BYTES: Final = 1024 * 1024
_PR_SET_DUMPABLE: Final = 4
_SIGNALS_OF_BAD_MEDIA: Final = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class MediaRefused(InvalidInput):
    """The media reader refuses the object. `media_unreadable` means that the file is not in the expected container
    format, that no stream can be decoded, or that the file crashed the reader. `media_too_slow` means that the
    reader needed more processor time, memory or blocks for this file than for any real recording.
    """


class Blocks:
    """The blocks of the object. The parent process reads blocks of the media file on behalf of the child process,
    and refuses after a maximum number of reads.

    The parent reads the object's first block from the store only once.
    """

    def __init__(
        self, read_range: ReadRange, size_bytes: int, *, block_bytes: int, read_bytes: int, operation: str
    ) -> None:
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._left = read_bytes // block_bytes
        self._operation = operation
        self._first: bytes | None = None

    async def require(self, container: Container) -> None:
        """Raise MediaRefused if the object does not begin like a file of the given container format."""
        start, magic = _MAGIC[container]
        if not (await self._beginning()).startswith(magic, start):
            raise MediaRefused("media_unreadable")

    async def block(self, number: int) -> bytes:
        """Return one block of the object; the last block may be shorter. Raises MediaRefused if the child requests
        a block that does not exist, or too many blocks.
        """
        if self._left < 1:
            raise MediaRefused("media_too_slow")
        self._left -= 1
        return await self._beginning() if number == 0 else await self._read(number)

    async def _beginning(self) -> bytes:
        if self._first is None:
            self._first = await self._read(0)
        return self._first

    async def _read(self, number: int) -> bytes:
        start = number * self._block_bytes
        length = min(self._block_bytes, self._size_bytes - start)
        if length < 1:
            raise MediaRefused("media_unreadable")
        block = await self._read_range(start, length)
        if len(block) != length:
            raise UpstreamFailed("storage_failed", operation=self._operation)
        return block


class ChildMessage(BaseModel):
    """A message that a child may write: one line of JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BlockRequest(ChildMessage):
    """The message with which the child process asks for a block of the object."""

    block: Annotated[int, Field(ge=0)]


class Refusal(ChildMessage):
    """The message with which the child process refuses the object. A refusal is the last line that the child
    writes.
    """

    refused: Literal["media_unreadable", "media_too_slow"]


Reply = TypeVar("Reply", bound=ChildMessage)


class Conversation(Generic[Reply]):
    """Reads the messages of the child, and answers its requests for blocks.

    `ended` creates the error for a child process that ended for a reason that has nothing to do with the object.
    `seconds` limits the child's total time, and `silent_seconds` limits the time until the child's next line. The
    time that the store needs for its answers does not count toward these limits of the child's time.
    """

    def __init__(
        self,
        process: Process,
        blocks: Blocks,
        lines: TypeAdapter[Reply | BlockRequest | Refusal],
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

    async def next(self) -> Reply:
        """Return the child's next message that is not a request for a block.

        Raises MediaRefused if the child refuses the object, crashes or writes an invalid line.
        """
        while True:
            line = await self._line()
            if isinstance(line, Refusal):
                raise MediaRefused(line.refused)
            if not isinstance(line, BlockRequest):
                return line
            await self.send(await self._blocks.block(line.block))

    async def content(self, size_bytes: int) -> bytes:
        """Read as many bytes from the child as its last message stated, and return the bytes."""
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
        """Write to the child's standard input. The method ignores a closed pipe, because the child may have
        answered before it ended.
        """
        with suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError), self._in_time():
            await self._answers.send(content)

    async def _line(self) -> Reply | BlockRequest | Refusal:
        try:
            with self._in_time():
                return self._lines.validate_json(await self._said.receive_until(b"\n", _MAX_LINE_BYTES))
        except anyio.IncompleteRead as error:
            raise await self._ended() from error
        except (anyio.DelimiterNotFound, ValidationError) as error:
            raise MediaRefused("media_unreadable") from error

    async def _ended(self) -> MediaRefused | UpstreamFailed:
        """Return the error for a child that ended without an answer. The error depends on the signal that ended the
        child.
        """
        with self._in_time():
            status = await self._process.wait()
        if -status == signal.SIGXCPU:
            return MediaRefused("media_too_slow")
        if -status in _SIGNALS_OF_BAD_MEDIA:
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
async def run_child(program: Path, *arguments: str | int) -> AsyncIterator[Process]:
    """Run a Python file, given by its path, as a child process. The child's interpreter is isolated (`-I`), so it
    loads nothing from the environment or the working directory.

    After the first call of `run_child`, no process of the same user can trace the parent process or read its
    `/proc` directory (prctl(2), tried 2026-11-22).
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
        # If asyncio were cancelled while it opens the child, it would wait for its end for ever (CPython 3.11, read
        # 2026-11-21).
        yield await asyncio.shield(opening)
    finally:
        with anyio.CancelScope(shield=True):
            process = await opening
            with suppress(ProcessLookupError):
                process.kill()
            await process.aclose()
