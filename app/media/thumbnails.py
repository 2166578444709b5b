"""Makes the thumbnail of a video in a child process. FFmpeg runs only in the child process, which has no secret and
can open no file or socket (`app/media/child_process.py`).

The child reads the index of the file and a second of video at some ten times (`app/media/thumbnail_child.py`), so only
a few percent of a long file are read.
"""

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
MOST_BYTES: Final = 64 * 1024
_JPEG_START: Final = b"\xff\xd8\xff"
_CHILD = Path(__file__).with_name("thumbnail_child.py")


@dataclass(frozen=True)
class Limits:
    """The limits of time, memory and data for one thumbnail. `seconds` limits the time that the child itself needs."""

    seconds: float = 180
    cpu_seconds: int = 60
    memory_bytes: int = 1024**3
    read_bytes: int = 128 * 1024**2


LIMITS: Final = Limits()


class _Made(ChildMessage):
    size_bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)]


_LINE: Final[TypeAdapter[_Made | BlockRequest | Refusal]] = TypeAdapter(_Made | BlockRequest | Refusal)


async def make_thumbnail(
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    duration_seconds: float,
    *,
    limits: Limits = LIMITS,
) -> bytes | None:
    """Return a JPEG of at most 320 x 180 pixels, or None if every examined picture is black, white, of one colour or
    part of a fade. `read_range(start, length)` returns exactly `length` bytes from `start`; this function passes its
    exceptions on. Raises MediaRefused. Raises UpstreamFailed (`media_thumbnail_ended`) if the child ended for a reason
    that has nothing to do with the object.
    """
    blocks = Blocks(
        read_range, size_bytes, block_bytes=BLOCK_BYTES, read_bytes=limits.read_bytes, operation="thumbnail"
    )
    await blocks.require(container)
    duration_ms = max(0, int(duration_seconds * 1000))
    numbers = (duration_ms, size_bytes, BLOCK_BYTES, limits.cpu_seconds, limits.memory_bytes)
    async with run_child(_CHILD, container, *numbers) as process:
        child: Conversation[_Made] = Conversation(
            process, blocks, _LINE, _child_ended, seconds=limits.seconds
        )
        made = await child.next()
        jpeg = await child.content(made.size_bytes)
    if jpeg and not jpeg.startswith(_JPEG_START):
        raise MediaRefused("media_unreadable")
    return jpeg or None


def _child_ended(**detail: int) -> UpstreamFailed:
    return UpstreamFailed("media_thumbnail_ended", **detail)
