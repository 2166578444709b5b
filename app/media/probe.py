"""Examines the content of a stored object in a child process that has no secret and can open no file.

The parent process reads the object; the child process parses the object and answers once
(`app/media/child_process.py`). FFmpeg runs only in the child process.
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

__all__ = ["BLOCK_BYTES", "LIMITS", "Container", "Limits", "MediaInfo", "MediaRefused", "ReadRange", "probe"]

BLOCK_BYTES: Final = 1024 * 1024
_CHILD = Path(__file__).with_name("probe_child.py")


@dataclass(frozen=True)
class MediaInfo:
    """What the probe found in a media file. `duration_seconds` is the duration that the container states, or None
    if it states none, as in a fragmented MP4. `has_video` and `has_audio` say whether there is a stream with an
    accepted codec. `audio_channels` is the number of channels of the first audio stream, or None if there is no
    audio stream.
    """

    container: Container
    duration_seconds: float | None
    has_video: bool
    has_audio: bool
    audio_channels: int | None


@dataclass(frozen=True)
class Limits:
    """The limits of time, memory and data for probing one media file. `seconds` limits the time that the child
    itself needs. A separate limit applies to the time that the store needs for its answers.
    """

    seconds: float = 60
    cpu_seconds: int = 20
    memory_bytes: int = 1024**3
    read_bytes: int = 128 * 1024**2


LIMITS: Final = Limits()


async def probe(
    read_range: ReadRange, size_bytes: int, container: Container, *, limits: Limits = LIMITS
) -> MediaInfo:
    """Open the object as a file of the given container format, and decode one frame. Raises MediaRefused.
    `read_range(start, length)` returns exactly `length` bytes from `start`; the probe passes its exceptions on. The
    probe reads about 1 MB from the beginning of the object, its index, and a few other blocks, in total at most
    `limits.read_bytes`. The probe raises UpstreamFailed (`media_probe_ended`) if the child ended for a reason that
    has nothing to do with the object: the child could not start, or was killed from outside. The child may also
    have missed its deadline without using up its processor time, for example because the machine was suspended. If
    the decoder crashes, the probe refuses the object, because the same bytes would crash the decoder again.
    """
    blocks = Blocks(
        read_range, size_bytes, block_bytes=BLOCK_BYTES, read_bytes=limits.read_bytes, operation="probe"
    )
    await blocks.require(container)
    numbers = (size_bytes, BLOCK_BYTES, limits.cpu_seconds, limits.memory_bytes)
    async with run_child(_CHILD, container, *numbers) as process:
        found = await Conversation(process, blocks, _LINE, _child_ended, seconds=limits.seconds).next()
    return MediaInfo(container, **found.media.model_dump())


class _Media(ChildMessage):
    duration_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    has_video: bool
    has_audio: bool
    audio_channels: Annotated[int, Field(gt=0)] | None


class _Found(ChildMessage):
    media: _Media


_LINE: Final[TypeAdapter[_Found | BlockRequest | Refusal]] = TypeAdapter(_Found | BlockRequest | Refusal)


def _child_ended(**detail: int) -> UpstreamFailed:
    return UpstreamFailed("media_probe_ended", **detail)
