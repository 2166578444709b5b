"""A recording's sound: where somebody speaks, and those pieces as FLAC.

FFmpeg never runs in this process: a child hears (`app/media/sound_child.py`), which holds no secret and can open
nothing; what it says is checked as a stranger's word. Times are milliseconds from the beginning of the file's timeline,
made of sample offsets: nobody else's clock is asked. The sound is never held as a whole, here or there.
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
from app.media.child import (
    MAGIC,
    Blocks,
    Container,
    Conversation,
    Line,
    MediaRefused,
    ReadRange,
    Refused,
    Wanted,
    running,
)
from app.media.turns import (
    FRAME_MS,
    LOUDNESS,
    MAX_CHANNELS,
    Interval,
    own_speech,
    spoken,
    turns,
    voices,
    windows,
)

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""FFmpeg asks for 32 KB at a time, the store is asked for these: an hour of video in 64 KB blocks took 200 s."""

MAX_TURN_MS: Final = 30_000
MAX_WINDOW_MS: Final = 800_000
"""As 16 kHz samples of 16 bits 25.6 MB: within OpenAI's 26,214,400 bytes (checked 2026-11-21) even where FLAC saves
nothing, and within the 1,400 s that its diarizing model takes."""

MAX_PIECE_BYTES: Final = 26_214_400
_RATE: Final = 16_000
_SAMPLES_PER_MS: Final = _RATE // 1000
_MAX_HEARD_BYTES: Final = 64 * 1024
_MAX_TRACKS: Final = 16
_FRAMES_PER_HOUR: Final = 3_600_000 // FRAME_MS
_CHILD = Path(__file__).with_name("sound_child.py")


class Cut(Enum):
    """How the speech is wanted: each turn apart, or in windows as long as may be.

    Two channels are cut in turns in any case: a window of one would hold the other's time too, where a model makes
    words up, or hears in one microphone what was said into the other.
    """

    TURNS = "turns"
    WINDOWS = "windows"


@dataclass(frozen=True)
class Span:
    """A stretch of one channel. The channels of all tracks of a file are numbered from 0: 0 and 1 are the left and the
    right one of a file with one stereo track.

    `channel` tells voices apart: it is None where the plan has one channel, whichever that is. `source` is the channel
    that the sound is cut from. `speech` is where in a piece that was cut somebody speaks, from the piece's beginning,
    with a stretch for each two short pauses; it is empty before, and does not make two spans differ.
    """

    channel: int | None
    start_ms: int
    end_ms: int
    source: int = 0
    speech: tuple[Interval, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Plan:
    """Where somebody speaks, in order of start.

    `duration_ms` is how long there is sound. `channels` is how many channels are kept apart: 1 where the others carry
    the same speech, or none, and 0 without any sound. `unused_tracks` is how many tracks of sound could not be decoded:
    without a span that does not mean that nobody spoke. Spans of one channel do not overlap.
    """

    duration_ms: int
    channels: int
    spans: tuple[Span, ...]
    unused_tracks: int = 0


@dataclass(frozen=True)
class SoundFrames:
    """One file's sound: for each channel a byte for each 30 ms, as `turns` reads them, all channels equally long.

    `unused_channels` are those of tracks of which too much is damaged. `unused_tracks` is as in `Plan`.
    """

    duration_ms: int
    channels: tuple[bytes, ...]
    unused_channels: frozenset[int] = frozenset()
    unused_tracks: int = 0

    @property
    def used(self) -> dict[int, bytes]:
        """The channels that are not damaged, by number."""
        return {n: frames for n, frames in enumerate(self.channels) if n not in self.unused_channels}


@dataclass(frozen=True)
class Limits:
    """What hearing one recording may cost.

    `cpu_seconds_per_hour` come on top of `cpu_seconds` as sound is heard, up to `hours`: a longer recording is refused.
    `seconds` and `silent_seconds` are the child's own, in all and for one answer. The object may be read
    `read_times`, and `read_bytes` more.
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


async def plan(
    read_range: ReadRange, size_bytes: int, container: Container, *, cut: Cut, limits: Limits = LIMITS
) -> Plan:
    """Finds where somebody speaks; a file without sound, or with silence alone, has no spans. Raises as `listen`."""
    listened = await listen(read_range, size_bytes, container, limits=limits)
    return await anyio.to_thread.run_sync(plan_file, listened, cut)


async def listen(
    read_range: ReadRange, size_bytes: int, container: Container, *, limits: Limits = LIMITS
) -> SoundFrames:
    """Finds out how loud each moment is, and whether somebody speaks.

    `read_range(start, length)` gives exactly these bytes; what it raises is passed on unchanged. Packets that cannot be
    decoded are silence, up to one in ten. Raises MediaRefused beyond that, and as the probe does; UpstreamFailed
    (`media_sound_ended`) if the child ended through no fault of the object.
    """
    async with _hearing("hear", read_range, size_bytes, container, limits, _HEARD) as child:
        return await _all_heard(child, limits)


def plan_file(listened: SoundFrames, cut: Cut) -> Plan:
    """The plan of one file by itself."""
    kept = voices(listened.used)
    return _plan(listened, kept, Cut.TURNS if len(kept) > 1 else cut)


def plan_microphone(listened: SoundFrames, others: bytes) -> Plan:
    """The plan of one person's own microphone, beside the microphones of others, always in turns.

    `others` says how loud the loudest of the other microphones was at each moment of this file, and whether somebody
    spoke into it. What is but a trace of it is left out.
    """
    kept = {number: own_speech(frames, others) for number, frames in voices(listened.used).items()}
    return _plan(listened, kept, Cut.TURNS)


def silence_speech(listened: SoundFrames, silenced: bytes) -> SoundFrames:
    """The same sound, in which nobody speaks at the moments that are not 0 in `silenced`."""
    channels = tuple(
        bytes(frame & LOUDNESS if silent else frame for frame, silent in zip(frames, silenced, strict=True))
        for frames in listened.channels
    )
    return replace(listened, channels=channels)


async def pieces(
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    plan_spans: Sequence[Span],
    *,
    limits: Limits = LIMITS,
) -> AsyncGenerator[tuple[Span, bytes]]:
    """Each span of a plan as FLAC (16 kHz, mono, 16 bits, at most 25 MB), in the order of their ends.

    Any of a plan's spans in its order: what is left out costs no encoding, and after the last one the object is read no
    further. A piece is made when the one before has been taken. Close what you do not exhaust (`aclosing`). Raises as
    `plan`, also where the sound ends before a span does; ValueError for spans of no plan.
    """
    _check(plan_spans)
    if not plan_spans:
        return
    async with _hearing("cut", read_range, size_bytes, container, limits, _PIECE) as child:
        wanted = json.dumps([_in_samples(span) for span in plan_spans]).encode()
        await child.send(b"%d\n%b" % (len(wanted), wanted))
        left = dict(enumerate(plan_spans))
        while left:
            piece = await child.next()
            if piece.piece not in left:
                raise MediaRefused("media_unreadable")
            span = left.pop(piece.piece)
            if piece.heard > (span.end_ms - span.start_ms) // FRAME_MS + 1:
                raise MediaRefused("media_unreadable")
            speech = await anyio.to_thread.run_sync(spoken, await child.content(piece.heard))
            yield replace(span, speech=speech), await child.content(piece.size_bytes)


class _Sound(Line):
    channels: Annotated[int, Field(ge=0, le=MAX_CHANNELS)]
    samples: Annotated[int, Field(ge=0)]
    unused_channels: Annotated[
        list[Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]], Field(max_length=MAX_CHANNELS)
    ]
    unused_tracks: Annotated[int, Field(ge=0, le=_MAX_TRACKS)]


class _Heard(Line):
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]
    heard: Annotated[int, Field(ge=0, le=_MAX_HEARD_BYTES)]
    sound: _Sound | None = None


class _Piece(Line):
    piece: Annotated[int, Field(ge=0)]
    heard: Annotated[int, Field(ge=0, le=MAX_WINDOW_MS // FRAME_MS + 1)]
    size_bytes: Annotated[int, Field(gt=0, le=MAX_PIECE_BYTES)]


_HEARD: Final[TypeAdapter[_Heard | Wanted | Refused]] = TypeAdapter(_Heard | Wanted | Refused)
_PIECE: Final[TypeAdapter[_Piece | Wanted | Refused]] = TypeAdapter(_Piece | Wanted | Refused)
_CUTS: Final = {Cut.TURNS: turns, Cut.WINDOWS: windows}
_LONGEST_MS: Final = {Cut.TURNS: MAX_TURN_MS, Cut.WINDOWS: MAX_WINDOW_MS}
_Said = TypeVar("_Said", bound=Line)


@asynccontextmanager
async def _hearing(
    task: str,
    read_range: ReadRange,
    size_bytes: int,
    container: Container,
    limits: Limits,
    lines: TypeAdapter[_Said | Wanted | Refused],
) -> AsyncIterator[Conversation[_Said]]:
    blocks = Blocks(
        read_range,
        size_bytes,
        block_bytes=BLOCK_BYTES,
        read_bytes=limits.read_times * size_bytes + limits.read_bytes,
        operation="sound",
    )
    start, magic = MAGIC[container]
    if not (await blocks.first()).startswith(magic, start):
        raise MediaRefused("media_unreadable")
    allowance = (limits.cpu_seconds, limits.cpu_seconds_per_hour, limits.hours)
    async with running(
        _CHILD, task, container, size_bytes, BLOCK_BYTES, limits.memory_bytes, *allowance
    ) as process:
        yield Conversation(
            process, blocks, lines, _ended, seconds=limits.seconds, silent_seconds=limits.silent_seconds
        )


async def _all_heard(child: Conversation[_Heard], limits: Limits) -> SoundFrames:
    frames: dict[int, bytearray] = defaultdict(bytearray)
    sound = None
    while sound is None:
        said = await child.next()
        frames[said.channel] += await child.content(said.heard)
        sound = said.sound
        if not said.heard and sound is None:
            raise MediaRefused("media_unreadable")
        if len(frames[said.channel]) > limits.hours * _FRAMES_PER_HOUR + 1:
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


def _check(spans: Sequence[Span]) -> None:
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


def _ended(**detail: int) -> UpstreamFailed:
    return UpstreamFailed("media_sound_ended", **detail)
