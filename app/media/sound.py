"""Reads the sound of a recording in a child process: measures its loudness, finds speech, and cuts chunks as FLAC.

FFmpeg runs only in the child process. A child process decodes the sound (`app/media/sound_child.py`). The child
process has no secret and can open no file or socket. This module validates the child's answers as untrusted input.
Times are milliseconds from the beginning of the file's timeline, computed from sample offsets. Neither the parent
process nor the child process ever holds the whole sound in memory.
"""

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, TypeVar

import anyio.to_thread
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
from app.media.sound_plans import MAX_WINDOW_MS, SoundFrames, Span
from app.media.turns import (
    FRAME_MS,
    MAX_CHANNELS,
    find_speech,
)

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""The size of a block. FFmpeg asks for 32 KB at a time, and the parent reads these blocks from the store: an hour
of video in 64 KB blocks took 200 s.
"""

MAX_CHUNK_BYTES: Final = 26_214_400
_RATE: Final = 16_000
_SAMPLES_PER_MS: Final = _RATE // 1000
_MAX_FRAMES_BYTES: Final = 64 * 1024
_MAX_TRACKS: Final = 16
_FRAMES_PER_HOUR: Final = 3_600_000 // FRAME_MS
_CHILD = Path(__file__).with_name("sound_child.py")


@dataclass(frozen=True)
class Limits:
    """The limits of time, memory and data for reading the sound of one recording.

    The limit of processor time is `cpu_seconds`, plus `cpu_seconds_per_hour` for each hour of decoded sound. The
    child refuses a recording longer than `hours`. `seconds` limits the total time that the child itself needs, and
    `silent_seconds` limits its time for one answer. The child may read as many bytes as the object has, multiplied
    by `read_times`, plus `read_bytes`.
    """

    seconds: float = 7200
    silent_seconds: float = 60
    cpu_seconds: int = 20
    cpu_seconds_per_hour: int = 120
    hours: int = 6
    memory_bytes: int = 1024**3
    read_times: int = 2
    read_bytes: int = 64 * 1024**2


LIMITS: Final = Limits()


async def measure_sound(
    read_range: ReadRange, size_bytes: int, container: Container, *, limits: Limits = LIMITS
) -> SoundFrames:
    """Measure the loudness of the sound at each moment, and detect whether the sound is speech. `read_range(start,
    length)` returns exactly `length` bytes from `start`; this function passes its exceptions on. If at most one
    packet in ten cannot be decoded, these packets count as silence. Raises MediaRefused if more than one packet in
    ten cannot be decoded, and in the cases in which the media probe raises it. Raises UpstreamFailed
    (`media_sound_ended`) if the child ended for a reason that has nothing to do with the object.
    """
    async with _decode_in_child("measure", read_range, size_bytes, container, limits, _FRAMES) as child:
        return await _collect_frames(child, limits)


async def cut_chunks(
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    plan_spans: Sequence[Span],
    *,
    limits: Limits = LIMITS,
) -> AsyncGenerator[tuple[Span, bytes]]:
    """Yield the sound of each given span as a FLAC chunk (16 kHz, mono, 16 bits, at most 25 MB), in the order of
    the spans' ends.

    The given spans may be any selection of a plan's spans, in the order of the plan. The generator does not read
    the object after the last span. The generator cuts the next chunk only when the caller requests it. Close the
    generator (`aclosing`) if you do not exhaust it. Raises the errors of `measure_sound`. If the sound ends before
    a span does, the function raises MediaRefused, and for spans that are not from a plan, it raises ValueError.
    """
    _require_plan(plan_spans)
    if not plan_spans:
        return
    async with _decode_in_child("cut", read_range, size_bytes, container, limits, _CHUNK) as child:
        wanted = json.dumps([_in_samples(span) for span in plan_spans]).encode()
        await child.send(b"%d\n%b" % (len(wanted), wanted))
        left = dict(enumerate(plan_spans))
        while left:
            chunk = await child.next()
            if chunk.chunk not in left:
                raise MediaRefused("media_unreadable")
            span = left.pop(chunk.chunk)
            if chunk.frame_bytes > (span.end_ms - span.start_ms) // FRAME_MS + 1:
                raise MediaRefused("media_unreadable")
            speech = await anyio.to_thread.run_sync(find_speech, await child.content(chunk.frame_bytes))
            yield replace(span, speech=speech), await child.content(chunk.size_bytes)


class _Sound(ChildMessage):
    channels: Annotated[int, Field(ge=0, le=MAX_CHANNELS)]
    samples: Annotated[int, Field(ge=0)]
    unused_channels: Annotated[
        list[Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]], Field(max_length=MAX_CHANNELS)
    ]
    unused_tracks: Annotated[int, Field(ge=0, le=_MAX_TRACKS)]


class _Frames(ChildMessage):
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]
    frame_bytes: Annotated[int, Field(ge=0, le=_MAX_FRAMES_BYTES)]
    sound: _Sound | None = None


class _Chunk(ChildMessage):
    chunk: Annotated[int, Field(ge=0)]
    frame_bytes: Annotated[int, Field(ge=0, le=MAX_WINDOW_MS // FRAME_MS + 1)]
    size_bytes: Annotated[int, Field(gt=0, le=MAX_CHUNK_BYTES)]


_FRAMES: Final[TypeAdapter[_Frames | BlockRequest | Refusal]] = TypeAdapter(_Frames | BlockRequest | Refusal)
_CHUNK: Final[TypeAdapter[_Chunk | BlockRequest | Refusal]] = TypeAdapter(_Chunk | BlockRequest | Refusal)
_Reply = TypeVar("_Reply", bound=ChildMessage)


@asynccontextmanager
async def _decode_in_child(
    task: str,
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    limits: Limits,
    lines: TypeAdapter[_Reply | BlockRequest | Refusal],
) -> AsyncIterator[Conversation[_Reply]]:
    blocks = Blocks(
        read_range,
        size_bytes,
        block_bytes=BLOCK_BYTES,
        read_bytes=limits.read_times * size_bytes + limits.read_bytes,
        operation="sound",
    )
    await blocks.require(container)
    allowance = (limits.cpu_seconds, limits.cpu_seconds_per_hour, limits.hours)
    async with run_child(
        _CHILD, task, container, size_bytes, BLOCK_BYTES, limits.memory_bytes, *allowance
    ) as process:
        yield Conversation(
            process, blocks, lines, _child_ended, seconds=limits.seconds, silent_seconds=limits.silent_seconds
        )


async def _collect_frames(child: Conversation[_Frames], limits: Limits) -> SoundFrames:
    frames: dict[int, bytearray] = defaultdict(bytearray)
    sound = None
    while sound is None:
        message = await child.next()
        frames[message.channel] += await child.content(message.frame_bytes)
        sound = message.sound
        if not message.frame_bytes and sound is None:
            raise MediaRefused("media_unreadable")
        if len(frames[message.channel]) > limits.hours * _FRAMES_PER_HOUR + 1:
            raise MediaRefused("media_too_slow")
    length = -(-sound.samples // (_SAMPLES_PER_MS * FRAME_MS))
    channels = [bytes(frames[number]) for number in range(sound.channels)]
    if max(map(len, frames.values())) != length or any(
        frames[number] for number in frames if number >= sound.channels
    ):
        raise MediaRefused("media_unreadable")
    return SoundFrames(
        sound.samples // _SAMPLES_PER_MS,
        tuple(channel.ljust(length, b"\0") for channel in channels),
        frozenset(sound.unused_channels),
        sound.unused_tracks,
    )


def _require_plan(spans: Sequence[Span]) -> None:
    if len({span.channel is None for span in spans}) > 1:
        raise ValueError("one channel and several at once")
    for one in spans:
        if (
            one.channel not in (None, one.source)
            or not 0 <= one.source < MAX_CHANNELS
            or not 0 <= one.start_ms < one.end_ms <= one.start_ms + MAX_WINDOW_MS
        ):
            raise ValueError("no span of a plan")
    for source in {span.source for span in spans}:
        for one, other in pairwise(span for span in spans if span.source == source):
            if other.start_ms < one.end_ms:
                raise ValueError("spans overlap")
    if any(other.start_ms < one.start_ms for one, other in pairwise(spans)):
        raise ValueError("not in order")


def _in_samples(span: Span) -> tuple[int, int, int]:
    return span.source, span.start_ms * _SAMPLES_PER_MS, span.end_ms * _SAMPLES_PER_MS


def _child_ended(**detail: int) -> UpstreamFailed:
    return UpstreamFailed("media_sound_ended", **detail)
