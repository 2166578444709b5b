"""Where speech is, made of what was heard in each 30 ms: turns, and the windows that hold them.

Pure. A frame is a byte: how loud (0 to 127, eight steps to a doubling), and the highest bit where it is speech.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median_high
from typing import Final

FRAME_MS: Final = 30
SPEECH: Final = 0x80
MAX_CHANNELS: Final = 16
"""Of all tracks of a file: the child process mixes the channels of tracks where there would be more."""

LOUDNESS: Final = 0x7F

_PAUSE_FRAMES: Final = 12
"""A longer pause ends a turn. The detector holds on for some frames, so that every pause of half a second is one (of
synthetic voices without a pause between words, those of 0.4 s are not; measured 2026-11-29)."""

_LEAST_SPEECH_FRAMES: Final = 5
"""In all of a turn: less is a click. A short "no" is 150 ms, and the detector holds on for two frames more."""

_PAD_MS: Final = 100
_BREAK_MS: Final = 2_000
"""A window ends at a longer pause: models make up words for silence, leave out what follows it, and time it wrongly."""

_QUIET_FRAMES: Final = 5

_STEADY_STEPS: Final = 8
"""Noise that the detector takes for speech is softer than this, 6 dB, above the softest moment of the seconds around
it. Speech has a soft moment as often, before a consonant at the latest."""

_STEADY_FRAMES: Final = 167
_ONSET_FRAMES: Final = 3
"""Speech after so short a pause has no start of its own."""

_MOST_TRACE_STEPS: Final = 20
"""15 dB: what is softer than the other channel by more is a trace of it, whatever the rest sounds like."""

_LEAST_TRACE_STEPS: Final = 8
_TRACE_MARGIN_STEPS: Final = 8
_TAIL_FRAMES: Final = 4
"""As long as a room rings, and sound travels."""

_ALIKE_STEPS: Final = 4
_MAX_UNLIKE: Final = 0.02

Interval = tuple[int, int]
"""Start and end in milliseconds."""


def turns(frames: bytes, *, longest_ms: int, duration_ms: int) -> list[Interval]:
    """Speech with its short pauses and a tenth of a second around, in order and apart.

    What is longer than `longest_ms` is cut at its quietest pauses; the parts touch. So do the parts of a stretch in
    which a steady noise fills the pauses: each begins with speech, and nothing is left out.
    """
    found: list[Interval] = []
    voiced = without_noise(frames)
    for start, end in _stretches(frames):
        padded = max(0, start * FRAME_MS - _PAD_MS), min(duration_ms, end * FRAME_MS + _PAD_MS)
        for part in _divided(padded, _stretches(voiced[start:end]), start):
            found.extend(_parts(frames, part, longest_ms))
    return found


def without_noise(frames: bytes) -> bytes:
    """The frames, where what is hardly louder than the softest moment of the seconds around it is no speech."""
    loudness = bytes(frame & LOUDNESS for frame in frames)
    smooth = bytes(map(max, loudness[:1] + loudness[:-1], loudness, loudness[1:] + loudness[-1:]))
    softest = _least_around(smooth, _STEADY_FRAMES)
    return bytes(
        frame if loud >= soft + _STEADY_STEPS else loud
        for frame, loud, soft in zip(frames, loudness, softest, strict=True)
    )


def spoken(frames: bytes) -> tuple[Interval, ...]:
    """The stretches of speech between pauses, however short, without steady noise. Clicks are left out."""
    for heard in (without_noise(frames), frames):
        found = [(start, end) for start, end in _runs(heard, _ONSET_FRAMES) if end - start >= _ONSET_FRAMES]
        if found:
            return tuple((start * FRAME_MS, end * FRAME_MS) for start, end in found)
    return ()


def windows(frames: bytes, *, longest_ms: int, duration_ms: int) -> list[Interval]:
    """Stretches of turns, each as long as may be, without the long pauses between them."""
    found: list[Interval] = []
    for start, end in turns(frames, longest_ms=longest_ms, duration_ms=duration_ms):
        if found and end - found[-1][0] <= longest_ms and start - found[-1][1] <= _BREAK_MS:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def own_speech(frames: bytes, other: bytes) -> bytes:
    """The frames of a channel, its speech taken for silence where it is but a trace of the other's.

    A microphone hears some of the other's voice, and Opus lets some of each channel into the other, 24 dB less
    (measured on a stereo file of libopus, 2026-11-21): that is speech to the detector. While one speaks the other
    mostly does not, so the median says how soft a trace is in this recording: what is less than 6 dB louder than that
    is one, too. What is 15 dB softer than the other always is, what is not even 6 dB softer never.
    """
    around = _loudest_around(other)
    softer = [loudest - (frame & LOUDNESS) for frame, loudest in zip(frames, around, strict=True)]
    while_other = [steps for steps, frame in zip(softer, other, strict=True) if frame & SPEECH and steps > 0]
    usual = median_high(while_other) if while_other else _MOST_TRACE_STEPS
    least = max(_LEAST_TRACE_STEPS, min(_MOST_TRACE_STEPS, usual - _TRACE_MARGIN_STEPS))
    return bytes(
        frame & LOUDNESS if steps > least else frame for frame, steps in zip(frames, softer, strict=True)
    )


def loudest(channels: Sequence[bytes]) -> bytes:
    """For each frame how loud the loudest of the channels is, and whether somebody speaks on one of them."""
    if len(channels) == 1:
        return channels[0]
    return bytes(
        max(frame & LOUDNESS for frame in together)
        | (SPEECH if any(frame & SPEECH for frame in together) else 0)
        for together in zip(*channels, strict=True)
    )


def voices(channels: Mapping[int, bytes]) -> dict[int, bytes]:
    """The channels that have to be transcribed, each without the speech that is a trace of another channel's.

    A channel is left out if another one carries its speech, and if nobody speaks on it. Of two that carry the same, the
    second is left out. A pair stays a pair if one of the two is silent: the pair tells who does not speak.
    """
    spoken = {number for number, frames in channels.items() if any(_stretches(frames))}
    kept = dict(channels) if len(channels) == 2 else {n: channels[n] for n in channels if n in spoken}
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
    return {number: own_speech(frames, _others(kept, number)) for number, frames in kept.items()}


def _others(channels: Mapping[int, bytes], number: int) -> bytes:
    """For each frame how loud the loudest of the other channels is, and whether somebody speaks on one of them."""
    return loudest([frames for other, frames in channels.items() if other != number])


def _carries(frames: bytes, other: bytes) -> bool:
    """Whether the frames are as loud as the other ones, within half a doubling, wherever those are speech."""
    spoken = unlike = 0
    for one, another in zip(frames, other, strict=True):
        if another & SPEECH:
            spoken += 1
            unlike += abs((one & LOUDNESS) - (another & LOUDNESS)) > _ALIKE_STEPS
    return spoken > 0 and unlike <= spoken * _MAX_UNLIKE


def _loudest_around(frames: bytes) -> Iterator[int]:
    """For each frame the loudest of it, those before while a room rings, and the one after."""
    padded = bytes(_TAIL_FRAMES) + bytes(frame & LOUDNESS for frame in frames) + b"\0"
    return map(max, *(padded[start:] for start in range(_TAIL_FRAMES + 2)))


def _stretches(frames: bytes) -> Iterator[Interval]:
    """Of frames with enough speech and no long pause: the first and the one after the last."""
    start = last = -1
    speech = 0
    for number in _speaking(frames):
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


def _divided(whole: Interval, spoken: Iterable[Interval], offset: int) -> Iterator[Interval]:
    """The interval, cut a little before each of these stretches but the first; `offset` is the number of frame 0."""
    start, end = whole
    for first, _ in list(spoken)[1:]:
        cut = (offset + first) * FRAME_MS - _PAD_MS
        yield start, cut
        start = cut
    yield start, end


def _runs(frames: bytes, longest_pause: int) -> Iterator[Interval]:
    """The first and the one after the last of frames with speech and no longer pause."""
    start = last = -1
    for number in _speaking(frames):
        if start >= 0 and number - last > longest_pause:
            yield start, last + 1
            start = number
        start = number if start < 0 else start
        last = number
    if start >= 0:
        yield start, last + 1


def _least_around(values: bytes, reach: int) -> Iterator[int]:
    """For each value the least of it and of so many before and after it."""
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


def _speaking(frames: bytes) -> Iterator[int]:
    return (number for number, frame in enumerate(frames) if frame & SPEECH)


def _parts(frames: bytes, whole: Interval, longest_ms: int) -> Iterator[Interval]:
    start, end = whole
    while end - start > longest_ms:
        latest = min(start + longest_ms, end - longest_ms // 4)
        cut = _quietest(frames, start + longest_ms // 2, latest)
        yield start, cut
        start = cut
    yield start, end


def _quietest(frames: Sequence[int], earliest_ms: int, latest_ms: int) -> int:
    """The middle of the quietest moment between the two, the last of several."""
    first, last = -(-earliest_ms // FRAME_MS), latest_ms // FRAME_MS
    half = _QUIET_FRAMES // 2

    def loudness(number: int) -> int:
        return sum(frame & LOUDNESS for frame in frames[max(0, number - half) : number + half + 1])

    return min(range(last, first - 1, -1), key=loudness) * FRAME_MS
