"""Plans which stretches of a file's sound are cut as chunks, from the loudness that was measured for each 30 ms.
Pure.

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
    """How speech is cut: each turn separately, or in windows that are as long as possible.

    The speech of two channels is always cut in turns, never in windows. A window of one channel would also contain
    the time in which only the other person speaks. A speech model invents text for such a time, or transcribes the
    other person's voice.
    """

    TURNS = "turns"
    WINDOWS = "windows"


@dataclass(frozen=True)
class Span:
    """A stretch of one channel of a file's sound. The channels of all tracks of a file are numbered from 0: 0 and 1
    are the left and the right channel of a file with one stereo track.

    `channel` distinguishes voices; `channel` is None if the plan has only one channel. `source` is the channel from
    which the sound is cut. `speech` lists the speech within a chunk that has been cut, divided at short pauses,
    with times from the beginning of the chunk. Before the cut, `speech` is empty. The comparison of two spans
    ignores `speech`.
    """

    channel: int | None
    start_ms: int
    end_ms: int
    source: int = 0
    speech: tuple[Interval, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Plan:
    """The plan of one file: its stretches of speech, in order of start. `duration_ms` is the length of the sound.
    `channels` is the number of channels that the plan keeps apart: 1 if the other channels carry the same speech or
    none, and 0 without any sound. `unused_tracks` is the number of audio tracks that could not be decoded. If a
    plan with unused tracks has no span, it is unknown whether anyone spoke. Spans of one channel do not overlap.
    """

    duration_ms: int
    channels: int
    spans: tuple[Span, ...]
    unused_tracks: int = 0


@dataclass(frozen=True)
class SoundFrames:
    """The measured sound of one file: for each channel one byte for each 30 ms, in the format of `turns`. All
    channels are equally long. `unused_channels` are the channels of tracks that are too damaged. `unused_tracks`
    has the same meaning as in `Plan`.
    """

    duration_ms: int
    channels: tuple[bytes, ...]
    unused_channels: frozenset[int] = frozenset()
    unused_tracks: int = 0

    @property
    def used(self) -> dict[int, bytes]:
        """Return the channels of the file that are not damaged, by their number."""
        return {n: frames for n, frames in enumerate(self.channels) if n not in self.unused_channels}


_CUTS: Final = {Cut.TURNS: find_turns, Cut.WINDOWS: find_windows}
_LONGEST_MS: Final = {Cut.TURNS: MAX_TURN_MS, Cut.WINDOWS: MAX_WINDOW_MS}


def plan_file(listened: SoundFrames, cut: Cut) -> Plan:
    """Return the plan of a file that was not recorded beside others."""
    kept = select_channels(listened.used)
    return _plan(listened, kept, Cut.TURNS if len(kept) > 1 else cut)


def plan_microphone(listened: SoundFrames, others: bytes) -> Plan:
    """Return the plan of one person's own microphone that was recorded beside the microphones of other people. This
    plan always consists of turns, never of windows. `others` contains the loudness of the loudest other microphone
    at each moment of this file, and whether it is speech. The plan leaves out speech that is only a trace of what
    another microphone recorded.
    """
    kept = {
        number: remove_traces(frames, others) for number, frames in select_channels(listened.used).items()
    }
    return _plan(listened, kept, Cut.TURNS)


def silence_speech(listened: SoundFrames, silenced: bytes) -> SoundFrames:
    """Return the same sound, with no speech at the moments whose value in `silenced` is not 0."""
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
