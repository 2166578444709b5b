"""What a stored object is, asked of a child process that holds no secret and can open nothing.

The parent reads the object, the child understands it. What the child says is checked as a stranger's word: it may
ask for blocks of this one object, so many of them, and answer once. It is killed and reaped whatever happens. FFmpeg
never runs in this process, and no file name or URL is ever handed to it.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Annotated, Final, Literal, cast

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import InvalidInput, UpstreamFailed

Container = Literal["mp4", "ogg"]
ReadRange = Callable[[int, int], Awaitable[bytes]]

BLOCK_BYTES: Final = 1024 * 1024
_CHILD = Path(__file__).with_name("probe_child.py")
_MAX_LINE_BYTES: Final = 1000
_MAGIC: Final[dict[Container, tuple[int, bytes]]] = {"mp4": (4, b"ftyp"), "ogg": (0, b"OggS")}
_OF_THE_MEDIA: Final = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


@dataclass(frozen=True)
class MediaInfo:
    """What an object holds.

    `duration_seconds` is what the container states, None where it does not (a fragmented MP4); `has_video` and
    `has_audio`: in a codec that we take; `audio_channels` are the first audio stream's, None without one.
    """

    container: Container
    duration_seconds: float | None
    has_video: bool
    has_audio: bool
    audio_channels: int | None


@dataclass(frozen=True)
class Limits:
    """What one probe may cost. `seconds` are the child's own; the store's answers have their own time limit."""

    seconds: float = 60
    cpu_seconds: int = 20
    memory_bytes: int = 1024**3
    read_bytes: int = 128 * 1024**2


LIMITS: Final = Limits()


class MediaRefused(InvalidInput):
    """The object is not what we take.

    `media_unreadable`: not that container, no stream that we can decode, or it broke the reader; `media_too_slow`:
    it took more of the processor, memory or reading than any recording needs.
    """


async def probe(
    read_range: ReadRange, size_bytes: int, container: Container, *, limits: Limits = LIMITS
) -> MediaInfo:
    """Opens the object as that container and decodes one frame of it; raises MediaRefused.

    `read_range(start, length)` gives exactly these bytes; what it raises is passed on unchanged. Reads about 1 MB
    from the beginning, the index, wherever it is, and a few blocks more: at most `limits.read_bytes`. Raises
    UpstreamFailed (`media_probe_ended`) if the child ended through no fault of the object: it could not start,
    somebody killed it, or it did not answer in time and was not at its own limits, as where the machine stood still.
    What a crash of the decoder ends is refused: the same bytes would crash it again.
    """
    blocks = _Blocks(read_range, size_bytes, limits.read_bytes)
    start, magic = _MAGIC[container]
    if not (await blocks.first()).startswith(magic, start):
        raise MediaRefused("media_unreadable")
    async with _child(container, size_bytes, limits) as process:
        return await _Conversation(process, blocks, limits.seconds).media(container)


class _Blocks:
    """The object's blocks, a bounded number of them; the first is read once."""

    def __init__(self, read_range: ReadRange, size_bytes: int, read_bytes: int) -> None:
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._left = read_bytes // BLOCK_BYTES
        self._first: bytes | None = None

    async def first(self) -> bytes:
        if self._first is None:
            self._first = await self._read(0)
        return self._first

    async def block(self, number: int) -> bytes:
        return await self.first() if number == 0 else await self._read(number)

    async def _read(self, number: int) -> bytes:
        start = number * BLOCK_BYTES
        length = min(BLOCK_BYTES, self._size_bytes - start)
        if length < 1:
            raise MediaRefused("media_unreadable")
        if self._left < 1:
            raise MediaRefused("media_too_slow")
        self._left -= 1
        block = await self._read_range(start, length)
        if len(block) != length:
            raise UpstreamFailed("storage_failed", operation="probe")
        return block


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Wanted(_Line):
    block: Annotated[int, Field(ge=0)]


class _Media(_Line):
    duration_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    has_video: bool
    has_audio: bool
    audio_channels: Annotated[int, Field(gt=0)] | None


class _Found(_Line):
    media: _Media


class _Refused(_Line):
    refused: Literal["media_unreadable", "media_too_slow"]


_LINE: Final[TypeAdapter[_Wanted | _Found | _Refused]] = TypeAdapter(_Wanted | _Found | _Refused)


class _Conversation:
    """The child's questions and its one answer, within the child's time."""

    def __init__(self, process: Process, blocks: _Blocks, seconds: float) -> None:
        self._process = process
        self._blocks = blocks
        self._seconds_left = seconds
        self._said = BufferedByteReceiveStream(cast("ByteReceiveStream", process.stdout))  # both are pipes
        self._answers = cast("ByteSendStream", process.stdin)

    async def media(self, container: Container) -> MediaInfo:
        while True:
            line = await self._line()
            if isinstance(line, _Found):
                return MediaInfo(container, **line.media.model_dump())
            if isinstance(line, _Refused):
                raise MediaRefused(line.refused)
            await self._send(await self._blocks.block(line.block))

    async def _line(self) -> _Wanted | _Found | _Refused:
        try:
            with self._in_time():
                return _LINE.validate_json(await self._said.receive_until(b"\n", _MAX_LINE_BYTES))
        except anyio.IncompleteRead as error:
            raise await self._ended() from error
        except (anyio.DelimiterNotFound, ValidationError) as error:
            raise MediaRefused("media_unreadable") from error

    async def _send(self, block: bytes) -> None:
        # One that ended meanwhile may have answered before.
        with suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError), self._in_time():
            await self._answers.send(block)

    async def _ended(self) -> MediaRefused | UpstreamFailed:
        """Why the child ended without an answer: killed by the media or at its limit, or by something else."""
        with self._in_time():
            status = await self._process.wait()
        if -status == signal.SIGXCPU:
            return MediaRefused("media_too_slow")
        if -status in _OF_THE_MEDIA:
            return MediaRefused("media_unreadable")
        return UpstreamFailed("media_probe_ended", status=status)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        began = anyio.current_time()
        try:
            with anyio.fail_after(self._seconds_left):
                yield
        except TimeoutError as error:
            raise UpstreamFailed("media_probe_ended") from error
        finally:
            self._seconds_left -= anyio.current_time() - began


@asynccontextmanager
async def _child(container: Container, size_bytes: int, limits: Limits) -> AsyncIterator[Process]:
    """By path and isolated (`-I`): nothing of the environment, the working directory or the project is loaded."""
    numbers = (size_bytes, BLOCK_BYTES, limits.cpu_seconds, limits.memory_bytes)
    opening = asyncio.ensure_future(
        anyio.open_process(
            [sys.executable, "-I", "-B", str(_CHILD), container, *map(str, numbers)],
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
