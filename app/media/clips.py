"""Cuts a clip out of a recording in a child process. FFmpeg runs only in the child process, which has no secret and
can open no file or socket (`app/media/child_process.py`).

A clip is always encoded anew (`app/media/clip_child.py`), because a copied clip would begin at the key frame before its
start and would show what the doctor left out.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from app.errors import UpstreamFailed
from app.media.child_process import (
    BlockRequest,
    Blocks,
    ChildMessage,
    Container,
    Conversation,
    MediaRefused,
    ReadRange,
    Refusal,
    run_child,
)

BLOCK_BYTES: Final = 1024 * 1024
CONTENT_TYPE: Final = "video/webm"
_PART_BYTES: Final = 1024 * 1024
_CHILD = Path(__file__).with_name("clip_child.py")


@dataclass(frozen=True)
class Limits:
    """The limits of time, memory and data for one clip. The limit of processor time is `cpu_seconds`, plus
    `cpu_seconds_per_second` for each second of the clip. `read_bytes` and the size of the object together limit what
    the child may read.
    """

    cpu_seconds: int = 60
    cpu_seconds_per_second: int = 6
    silent_seconds: float = 300
    memory_bytes: int = 2 * 1024**3
    read_bytes: int = 64 * 1024**2
    clip_bytes: int = 512 * 1024**2


LIMITS: Final = Limits()


class _Cut(ChildMessage):
    pictures: Annotated[int, Field(ge=0)]
    samples: Annotated[int, Field(ge=0)]
    last_ms: Annotated[int, Field(ge=0)]


class _Progress(ChildMessage):
    percent: Annotated[int, Field(ge=0, le=100)]


class _Finished(ChildMessage):
    clip: _Cut
    size_bytes: Annotated[int, Field(ge=0)]


_LINE: Final[TypeAdapter[_Progress | _Finished | BlockRequest | Refusal]] = TypeAdapter(
    _Progress | _Finished | BlockRequest | Refusal
)


@dataclass(frozen=True)
class CutClip:
    """What a finished clip contains. `last_ms` is the end of the file or of the clip, whichever is earlier. It is
    counted from the start of the clip.
    """

    has_pictures: bool
    has_sound: bool
    last_ms: int
    size_bytes: int


class ClipCut:
    """One clip that a child process cuts. First exhaust `progress`, then read `content`."""

    def __init__(self, child: "Conversation[_Progress | _Finished]", limits: Limits) -> None:
        self._child = child
        self._limits = limits
        self.found: CutClip | None = None

    async def progress(self) -> AsyncIterator[int]:
        """Yield the percentage that is encoded, until the clip is complete. Raises MediaRefused."""
        while self.found is None:
            line = await self._child.next()
            if isinstance(line, _Progress):
                yield line.percent
                continue
            if line.size_bytes > self._limits.clip_bytes:
                raise MediaRefused("media_unreadable")
            cut = line.clip
            self.found = CutClip(cut.pictures > 0, cut.samples > 0, cut.last_ms, line.size_bytes)

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the clip."""
        left = self.found.size_bytes if self.found is not None else 0
        while left:
            part = await self._child.content(min(left, _PART_BYTES))
            left -= len(part)
            yield part


@asynccontextmanager
async def cut_clip(
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    start_ms: int,
    end_ms: int,
    *,
    limits: Limits = LIMITS,
) -> AsyncIterator[ClipCut]:
    """Cut the clip between two times of the file's timeline. `read_range(start, length)` returns exactly `length` bytes
    from `start`; this function passes its exceptions on. Raises MediaRefused. Raises UpstreamFailed
    (`media_clip_ended`) if the child ended for a reason that has nothing to do with the object.
    """
    blocks = Blocks(
        read_range,
        size_bytes,
        block_bytes=BLOCK_BYTES,
        read_bytes=2 * size_bytes + limits.read_bytes,
        operation="clip",
    )
    await blocks.require(container)
    cpu_seconds = limits.cpu_seconds + limits.cpu_seconds_per_second * (end_ms - start_ms) // 1000
    numbers = (start_ms, end_ms, size_bytes, BLOCK_BYTES, cpu_seconds, limits.memory_bytes, limits.clip_bytes)
    async with run_child(_CHILD, container, *numbers) as process:
        child: Conversation[_Progress | _Finished] = Conversation(
            process,
            blocks,
            _LINE,
            _child_ended,
            seconds=4 * cpu_seconds,
            silent_seconds=limits.silent_seconds,
        )
        yield ClipCut(child, limits)


def _child_ended(**detail: int) -> UpstreamFailed:
    return UpstreamFailed("media_clip_ended", **detail)
