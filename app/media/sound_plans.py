"""Plans, from the loudness measured for each 30 ms, which spans of a file's sound are cut as chunks. Pure.

Times are milliseconds from the beginning of the file's timeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from app.media.turns import LOUDNESS, Interval, find_turns, find_windows, remove_traces, select_channels

MAX_TURN_MS: Final = 30_000
MAX_WINDOW_MS: Final = 800_000
"""16 kHz samples of 16 bits then have 25.6 MB, which is within OpenAI's 26,214,400 bytes (checked 2026-11-21) even
if FLAC saves nothing, and within the 1,400 s that its diarizing model accepts.
"""


class Cut(Enum):
    """How speech is cut into chunks: each turn separately, or several turns together in windows that are as long as
    possible.

    If a file has speech on two channels, the speech is always cut into turns, never into windows. If each person
    has a channel, a window of one channel would also contain the time in which only the person on the other channel
    speaks. While the person on a channel is silent, a speech model invents text, or transcribes the faint voice of
    the other person.
    """

    TURNS = "turns"
    WINDOWS = "windows"


@dataclass(frozen=True)
class Span:
    """A span of time in one channel of a file's sound. The channels of all tracks of a file are numbered from 0. In
    a file with one stereo track, channel 0 is the left one and channel 1 the right one.

    `channel` is the number of the channel and so distinguishes voices, or None if the plan has only one channel.
    `source` is the channel from which the sound is cut. After the chunk has been cut, `speech` lists the stretches
    of speech in it, divided at short pauses, with times from the beginning of the chunk. Before the chunk of a span
    has been cut, the span's `speech` is empty. Two spans that differ only in `speech` count as equal.
    """

    channel: int | None
    start_ms: int
    end_ms: int
    source: int = 0
    speech: tuple[Interval, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Plan:
    """The plan for one file: the spans of speech to cut, in order of start. `duration_ms` is the length of the
    sound. `channels` is the number of channels that the plan keeps apart. `channels` is 1 if all channels except
    one carry the same speech or no speech, and 0 if the file has no sound. `unused_tracks` is the number of audio
    tracks that could not be decoded. If a plan with unused tracks has no span, it is unknown whether anyone spoke.
    Two spans of the same channel do not overlap.
    """

    duration_ms: int
    channels: int
    spans: tuple[Span, ...]
    unused_tracks: int = 0


@dataclass(frozen=True)
class SoundFrames:
    """The measured sound of one file. Each channel has one byte for each 30 ms of sound, in the format that the
    module `turns` describes. All measured channels of a file have the same length. `unused_channels` are the
    channels of tracks that are too damaged to be used. `unused_tracks` has the same meaning as in `Plan`.
    """

    duration_ms: int
    channels: tuple[bytes, ...]
    unused_channels: frozenset[int] = frozenset()
    unused_tracks: int = 0

    @property
    def used(self) -> dict[int, bytes]:
        """Return a dict from the number of each undamaged channel of the file to the frames of the channel."""
        return {n: frames for n, frames in enumerate(self.channels) if n not in self.unused_channels}


_CUTS: Final = {Cut.TURNS: find_turns, Cut.WINDOWS: find_windows}
_LONGEST_MS: Final = {Cut.TURNS: MAX_TURN_MS, Cut.WINDOWS: MAX_WINDOW_MS}


def plan_file(listened: SoundFrames, cut: Cut) -> Plan:
    """Return the plan for a file, such as a video, without a comparison with other recordings of the same
    conversation.
    """
    kept = select_channels(listened.used)
    return _plan(listened, kept, Cut.TURNS if len(kept) > 1 else cut)


def plan_microphone(listened: SoundFrames, others: bytes) -> Plan:
    """Return the plan for the file of one person's microphone, which was recorded beside the microphones of other
    people. The plan for a microphone always consists of turns, never of windows. For each moment of this file,
    `others` contains the loudness of the loudest of the other people's microphones, and whether its sound is
    speech. The plan leaves out speech that is only a faint trace of the speech in another person's microphone.
    """
    kept = {
        number: remove_traces(frames, others) for number, frames in select_channels(listened.used).items()
    }
    return _plan(listened, kept, Cut.TURNS)


def silence_speech(listened: SoundFrames, silenced: bytes) -> SoundFrames:
    """Return a copy of the measured sound that has no speech in the frames whose value in `silenced` is not 0."""
    channels = tuple(
        bytes(frame & LOUDNESS if silent else frame for frame, silent in zip(frames, silenced, strict=True))
        for frames in listened.channels
    )
    return replace(listened, channels=channels)


def _plan(listened: SoundFrames, kept: Mapping[int, bytes], cut: Cut) -> Plan:
    spans = [
        Span(number if len(kept) > 1 else None, *interval, source=number)
        for number, frames in kept.items()
        for interval in _CUTS[cut](frames, longest_ms=_LONGEST_MS[cut], duration_ms=listened.duration_ms)
    ]
    spans.sort(key=lambda span: (span.start_ms, span.source))
    return Plan(listened.duration_ms, len(kept), tuple(spans), listened.unused_tracks)
