"""Reads a recording's sound: finds speech, and cuts chunks of it as FLAC.

FFmpeg never runs in this process. A child process decodes the sound (`app/media/sound_child.py`). It has no secret
and can open nothing, and its answers are validated as untrusted input. Times are milliseconds from the beginning of
the file's timeline, computed from sample offsets. Neither process ever holds the whole sound in memory.
"""

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
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
from app.media.turns import (
    FRAME_MS,
    LOUDNESS,
    MAX_CHANNELS,
    Interval,
    find_speech,
    find_turns,
    find_windows,
    remove_traces,
    select_channels,
)

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""The size of a block. FFmpeg asks for 32 KB at a time, and the parent reads these blocks from the store: an hour
of video in 64 KB blocks took 200 s.
"""

MAX_TURN_MS: Final = 30_000
MAX_WINDOW_MS: Final = 800_000
"""16 kHz samples of 16 bits then have 25.6 MB, which is within OpenAI's 26,214,400 bytes (checked 2026-11-21) even
if FLAC saves nothing, and within the 1,400 s that its diarizing model accepts.
"""

MAX_CHUNK_BYTES: Final = 26_214_400
_RATE: Final = 16_000
_SAMPLES_PER_MS: Final = _RATE // 1000
_MAX_FRAMES_BYTES: Final = 64 * 1024
_MAX_TRACKS: Final = 16
_FRAMES_PER_HOUR: Final = 3_600_000 // FRAME_MS
_CHILD = Path(__file__).with_name("sound_child.py")


class Cut(Enum):
    """How speech is cut: each turn separately, or in windows that are as long as possible.

    Two channels are always cut in turns. A window of one channel would contain the time of the other, in which a
    model invents text or hears the other person's voice.
    """

    TURNS = "turns"
    WINDOWS = "windows"


@dataclass(frozen=True)
class Span:
    """A stretch of one channel. The channels of all tracks of a file are numbered from 0: 0 and 1 are the left and
    the right channel of a file with one stereo track.

    `channel` distinguishes voices; it is None if the plan has only one channel. `source` is the channel from which
    the sound is cut. `speech` lists the speech within a cut chunk, from the beginning of the chunk, divided at
    short pauses; it is empty before the cut, and does not make two spans differ.
    """

    channel: int | None
    start_ms: int
    end_ms: int
    source: int = 0
    speech: tuple[Interval, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Plan:
    """The stretches of speech, in order of start.

    `duration_ms` is the length of the sound. `channels` is the number of channels that are kept apart: 1 if the
    others carry the same speech or none, and 0 without any sound. `unused_tracks` is the number of audio tracks
    that could not be decoded; if there is no span, it is unknown whether anyone spoke on them. Spans of one channel
    do not overlap.
    """

    duration_ms: int
    channels: int
    spans: tuple[Span, ...]
    unused_tracks: int = 0


@dataclass(frozen=True)
class SoundFrames:
    """The sound of one file: for each channel one byte for each 30 ms, as `turns` reads them, with all channels
    equally long.

    `unused_channels` are those of tracks that are too damaged. `unused_tracks` is as in `Plan`.
    """

    duration_ms: int
    channels: tuple[bytes, ...]
    unused_channels: frozenset[int] = frozenset()
    unused_tracks: int = 0

    @property
    def used(self) -> dict[int, bytes]:
        """Return the channels that are not damaged, by number."""
        return {n: frames for n, frames in enumerate(self.channels) if n not in self.unused_channels}


@dataclass(frozen=True)
class Limits:
    """The limits of reading one recording.

    `cpu_seconds_per_hour` are added to `cpu_seconds` as sound is decoded, up to `hours`; a longer recording is
    refused. `seconds` and `silent_seconds` are the child's own, in total and for one answer. The object may be read
    `read_times` times, plus `read_bytes`.
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


async def plan_sound(
    read_range: ReadRange, size_bytes: int, container: Container, *, cut: Cut, limits: Limits = LIMITS
) -> Plan:
    """Find the speech. A file without sound, or with only silence, has no spans. Raises like `listen`."""
    listened = await measure_sound(read_range, size_bytes, container, limits=limits)
    return await anyio.to_thread.run_sync(plan_file, listened, cut)


async def measure_sound(
    read_range: ReadRange, size_bytes: int, container: Container, *, limits: Limits = LIMITS
) -> SoundFrames:
    """Measure the loudness of each moment, and whether it is speech.

    `read_range(start, length)` returns exactly these bytes, and its exceptions are passed on. Packets that cannot
    be decoded count as silence, up to one in ten. Raises MediaRefused beyond that, and like the probe. Raises
    UpstreamFailed (`media_sound_ended`) if the child ended without a fault of the object.
    """
    async with _decode_in_child("measure", read_range, size_bytes, container, limits, _FRAMES) as child:
        return await _collect_frames(child, limits)


def plan_file(listened: SoundFrames, cut: Cut) -> Plan:
    """Return the plan of one file by itself."""
    kept = select_channels(listened.used)
    return _plan(listened, kept, Cut.TURNS if len(kept) > 1 else cut)


def plan_microphone(listened: SoundFrames, others: bytes) -> Plan:
    """Return the plan of one person's own microphone beside the microphones of others, always in turns.

    `others` contains the loudness of the loudest other microphone at each moment of this file, and whether it is
    speech. Speech that is only a trace of another microphone is left out.
    """
    kept = {
        number: remove_traces(frames, others) for number, frames in select_channels(listened.used).items()
    }
    return _plan(listened, kept, Cut.TURNS)


def silence_speech(listened: SoundFrames, silenced: bytes) -> SoundFrames:
    """Return the same sound without speech at the moments that are not 0 in `silenced`."""
    channels = tuple(
        bytes(frame & LOUDNESS if silent else frame for frame, silent in zip(frames, silenced, strict=True))
        for frames in listened.channels
    )
    return replace(listened, channels=channels)


async def cut_chunks(
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    plan_spans: Sequence[Span],
    *,
    limits: Limits = LIMITS,
) -> AsyncGenerator[tuple[Span, bytes]]:
    """Yield each span of a plan as FLAC (16 kHz, mono, 16 bits, at most 25 MB), in the order of their ends.

    The spans may be any of a plan's spans in its order. Omitted spans cost no encoding, and after the last span the
    object is not read further. A chunk is made after the previous one was taken. Close the generator if you do not
    exhaust it (`aclosing`). Raises like `plan`, also if the sound ends before a span, and ValueError for spans that
    are not from a plan.
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
_CUTS: Final = {Cut.TURNS: find_turns, Cut.WINDOWS: find_windows}
_LONGEST_MS: Final = {Cut.TURNS: MAX_TURN_MS, Cut.WINDOWS: MAX_WINDOW_MS}
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


def _plan(listened: SoundFrames, kept: Mapping[int, bytes], cut: Cut) -> Plan:
    spans = [
        Span(number if len(kept) > 1 else None, *interval, source=number)
        for number, frames in kept.items()
        for interval in _CUTS[cut](frames, longest_ms=_LONGEST_MS[cut], duration_ms=listened.duration_ms)
    ]
    spans.sort(key=lambda span: (span.start_ms, span.source))
    return Plan(listened.duration_ms, len(kept), tuple(spans), listened.unused_tracks)


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
