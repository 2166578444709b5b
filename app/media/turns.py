"""Finds turns and windows of speech in measured sound, which has one frame for each 30 ms.

Pure. A frame of measured sound is one byte. The lower seven bits of a frame are its loudness, from 0 to 127; eight
steps mean twice the loudness. The highest bit of a frame is set if the frame is speech.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median_high
from typing import Final

FRAME_MS: Final = 30
SPEECH: Final = 0x80
MAX_CHANNELS: Final = 16
"""The maximum for all tracks of a file. The child process mixes the channels of tracks if there would be more."""

LOUDNESS: Final = 0x7F

_PAUSE_FRAMES: Final = 12
"""A longer pause ends a turn. The detector reports some frames too many, so every pause of half a second ends a
turn (with synthetic voices without a pause between words, pauses of 0.4 s do not; measured 2026-11-29).
"""

_LEAST_SPEECH_FRAMES: Final = 5
"""The minimum of speech in a turn; a shorter sound is a click. A short "no" lasts 150 ms, and the detector reports
two frames more.
"""

_PAD_MS: Final = 100
_BREAK_MS: Final = 2_000
"""A longer pause ends a window, because models invent text for silence, omit the speech after it, and give it wrong
times.
"""

_QUIET_FRAMES: Final = 5

_STEADY_STEPS: Final = 8
"""Noise that the detector reports as speech stays less than this, 6 dB, above the softest moment of the surrounding
seconds. Speech has a softer moment at the latest before a consonant.
"""

_STEADY_FRAMES: Final = 167
_ONSET_FRAMES: Final = 3
"""Speech after such a short pause has no start of its own."""

_MOST_TRACE_STEPS: Final = 20
"""15 dB: sound that is softer than the other channel by more than this is always a trace of it."""

_LEAST_TRACE_STEPS: Final = 8
_TRACE_MARGIN_STEPS: Final = 8
_TAIL_FRAMES: Final = 4
"""The time that a room reverberates and sound travels."""

_ALIKE_STEPS: Final = 4
_MAX_UNLIKE: Final = 0.02

Interval = tuple[int, int]
"""Start and end in milliseconds."""


def find_turns(frames: bytes, *, longest_ms: int, duration_ms: int) -> list[Interval]:
    """Return the turns, in order and without overlap. A turn is a stretch of speech, including short pauses, with
    up to a tenth of a second before and after it. If a stretch of speech is longer than `longest_ms`, the function
    cuts it at its quietest pauses, without gaps between the parts. If steady noise fills the pauses of a stretch of
    speech, the stretch is also cut without gaps, so that each part begins with speech.
    """
    found: list[Interval] = []
    voiced = remove_noise(frames)
    for start, end in _find_stretches(frames):
        padded = max(0, start * FRAME_MS - _PAD_MS), min(duration_ms, end * FRAME_MS + _PAD_MS)
        for part in _divide(padded, _find_stretches(voiced[start:end]), start):
            found.extend(_cut_at_quiet(frames, part, longest_ms))
    return found


def remove_noise(frames: bytes) -> bytes:
    """Return the frames, changed so that steady noise no longer counts as speech. A frame is steady noise if it is
    hardly louder than the softest moment of the seconds around it.
    """
    loudness = bytes(frame & LOUDNESS for frame in frames)
    smooth = bytes(map(max, loudness[:1] + loudness[:-1], loudness, loudness[1:] + loudness[-1:]))
    softest = _minimum_around(smooth, _STEADY_FRAMES)
    return bytes(
        frame if loud >= soft + _STEADY_STEPS else loud
        for frame, loud, soft in zip(frames, loudness, softest, strict=True)
    )


def find_speech(frames: bytes) -> tuple[Interval, ...]:
    """Return the stretches of speech, divided at every pause, however short. Steady noise and clicks do not count
    as speech.
    """
    for considered in (remove_noise(frames), frames):
        found = [
            (start, end)
            for start, end in _find_runs(considered, _ONSET_FRAMES)
            if end - start >= _ONSET_FRAMES
        ]
        if found:
            return tuple((start * FRAME_MS, end * FRAME_MS) for start, end in found)
    return ()


def find_windows(frames: bytes, *, longest_ms: int, duration_ms: int) -> list[Interval]:
    """Return the windows. Each window contains as many consecutive turns as fit into `longest_ms`, if there is no
    long pause between them.
    """
    found: list[Interval] = []
    for start, end in find_turns(frames, longest_ms=longest_ms, duration_ms=duration_ms):
        if found and end - found[-1][0] <= longest_ms and start - found[-1][1] <= _BREAK_MS:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def remove_traces(frames: bytes, other: bytes) -> bytes:
    """Return the frames of a channel, changed so that a faint trace of the other channel's speech no longer counts
    as speech.

    Speech leaves a trace in the other channel in two ways. A microphone faintly records the other person's voice,
    and Opus mixes each of two channels into the other, 24 dB softer (measured on a stereo file of libopus,
    2026-11-21). The speech detector reports a trace of the other person's voice as speech, whether the microphone
    or Opus caused the trace. While one person speaks, the other person is usually silent. The median of the
    differences between the two channels' loudness therefore shows how soft a trace is in this recording. Speech
    also counts as a trace if it is at most 6 dB louder than the recording's usual trace, the median of the loudness
    differences. Speech that is at least 15 dB softer than the other channel always counts as a trace of that
    channel. Speech that is less than 6 dB softer than the other channel never counts as a trace of that channel.
    """
    around = _loudest_around(other)
    softer = [near - (frame & LOUDNESS) for frame, near in zip(frames, around, strict=True)]
    while_other = [steps for steps, frame in zip(softer, other, strict=True) if frame & SPEECH and steps > 0]
    usual = median_high(while_other) if while_other else _MOST_TRACE_STEPS
    least = max(_LEAST_TRACE_STEPS, min(_MOST_TRACE_STEPS, usual - _TRACE_MARGIN_STEPS))
    return bytes(
        frame & LOUDNESS if steps > least else frame for frame, steps in zip(frames, softer, strict=True)
    )


def merge_loudest(channels: Sequence[bytes]) -> bytes:
    """For each frame, return the loudness of the loudest channel, and whether any channel has speech."""
    if len(channels) == 1:
        return channels[0]
    return bytes(
        max(frame & LOUDNESS for frame in together)
        | (SPEECH if any(frame & SPEECH for frame in together) else 0)
        for together in zip(*channels, strict=True)
    )


def select_channels(channels: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the channels to transcribe, each without the faint traces of the other channels' speech. The function
    leaves out a channel if the channel has no speech, or if a second channel has the same speech. If two channels
    have the same sound, the function leaves out the second. If only one of two channels is silent, the function
    keeps both channels, because the silent channel shows who is not speaking.
    """
    speaking = {number for number, frames in channels.items() if any(_find_stretches(frames))}
    kept = dict(channels) if len(channels) == 2 else {n: channels[n] for n in channels if n in speaking}
    for number in list(kept):
        if any(
            _carries(kept[other], kept[number])
            and (other < number or not _carries(kept[number], kept[other]))
            for other in kept
            if other != number
        ):
            del kept[number]
    if not kept and channels:
        kept = {min(channels): channels[min(channels)]}
    if len(kept) == 1:
        return kept
    return {number: remove_traces(frames, _others(kept, number)) for number, frames in kept.items()}


def _others(channels: Mapping[int, bytes], number: int) -> bytes:
    """For each frame of a channel, return the loudness of the loudest of the other channels, and whether any of the
    other channels has speech.
    """
    return merge_loudest([frames for other, frames in channels.items() if other != number])


def _carries(frames: bytes, other: bytes) -> bool:
    """Return whether, wherever the other channel has speech, the two channels are equally loud. Two channels count
    as equally loud if their loudness differs by at most half a doubling.
    """
    speech = unlike = 0
    for one, another in zip(frames, other, strict=True):
        if another & SPEECH:
            speech += 1
            unlike += abs((one & LOUDNESS) - (another & LOUDNESS)) > _ALIKE_STEPS
    return speech > 0 and unlike <= speech * _MAX_UNLIKE


def _loudest_around(frames: bytes) -> Iterator[int]:
    """For each frame, yield the maximum loudness of the frame itself, of the frames within the reverberation time
    before it, and of the next frame.
    """
    padded = bytes(_TAIL_FRAMES) + bytes(frame & LOUDNESS for frame in frames) + b"\0"
    return map(max, *(padded[start:] for start in range(_TAIL_FRAMES + 2)))


def _find_stretches(frames: bytes) -> Iterator[Interval]:
    """Yield the stretches of frames that contain enough speech and no long pause. Each stretch of frames is a pair:
    its first frame, and the frame after its last.
    """
    start = last = -1
    speech = 0
    for number in _speech_frames(frames):
        if start >= 0 and number - last > _PAUSE_FRAMES:
            if speech >= _LEAST_SPEECH_FRAMES:
                yield start, last + 1
            start = -1
        if start < 0:
            start, speech = number, 0
        last = number
        speech += 1
    if start >= 0 and speech >= _LEAST_SPEECH_FRAMES:
        yield start, last + 1


def _divide(whole: Interval, speech: Iterable[Interval], offset: int) -> Iterator[Interval]:
    """Cut the interval slightly before each of the given stretches of speech except the first, and yield its parts.
    `offset` is the position, in the whole sound, of the first frame of `speech`.
    """
    start, end = whole
    for first, _ in list(speech)[1:]:
        cut = (offset + first) * FRAME_MS - _PAD_MS
        yield start, cut
        start = cut
    yield start, end


def _find_runs(frames: bytes, longest_pause: int) -> Iterator[Interval]:
    """Yield the runs of speech. A run contains no pause longer than `longest_pause` frames. Each run of speech is a
    pair: its first frame, and the frame after its last.
    """
    start = last = -1
    for number in _speech_frames(frames):
        if start >= 0 and number - last > longest_pause:
            yield start, last + 1
            start = number
        start = number if start < 0 else start
        last = number
    if start >= 0:
        yield start, last + 1


def _minimum_around(values: bytes, reach: int) -> Iterator[int]:
    """For each value, yield the minimum of the value itself, the `reach` values before it and the `reach` values
    after it.
    """
    waiting: deque[int] = deque()
    for number in range(len(values) + reach):
        if number < len(values):
            while waiting and values[waiting[-1]] >= values[number]:
                waiting.pop()
            waiting.append(number)
        if number >= reach:
            while waiting[0] < number - 2 * reach:
                waiting.popleft()
            yield values[waiting[0]]


def _speech_frames(frames: bytes) -> Iterator[int]:
    return (number for number, frame in enumerate(frames) if frame & SPEECH)


def _cut_at_quiet(frames: bytes, whole: Interval, longest_ms: int) -> Iterator[Interval]:
    start, end = whole
    while end - start > longest_ms:
        latest = min(start + longest_ms, end - longest_ms // 4)
        cut = _find_quietest(frames, start + longest_ms // 2, latest)
        yield start, cut
        start = cut
    yield start, end


def _find_quietest(frames: Sequence[int], earliest_ms: int, latest_ms: int) -> int:
    """Return the middle of the quietest moment between two times. If several moments between the two times are
    equally quiet, return the middle of the last of them.
    """
    first, last = -(-earliest_ms // FRAME_MS), latest_ms // FRAME_MS
    half = _QUIET_FRAMES // 2

    def loudness(number: int) -> int:
        return sum(frame & LOUDNESS for frame in frames[max(0, number - half) : number + half + 1])

    return min(range(last, first - 1, -1), key=loudness) * FRAME_MS
