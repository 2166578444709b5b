"""Finds at which offset one file's sound begins in a second file that contains the same sound. To find the offset,
the module compares the loudness of both files at each moment.

Pure. The compared sound is given as frames of the module `turns`, with one byte for each 30 ms. To bound its cost,
the alignment compares at most 90 s of speech of each ten minutes, and only at offsets within three seconds of the
expected offset.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, compress, pairwise
from operator import mul
from statistics import median
from typing import Final

from app.media.turns import FRAME_MS, LOUDNESS, SPEECH

_MAX_LAG: Final = 100
"""Three seconds. LiveKit's start of a video is wrong by up to one second."""

_BLOCK_FRAMES: Final = 20_000
_MAX_FRAMES: Final = 3_000
_MIN_FRAMES: Final = 100
_MARGIN_FRAMES: Final = 10
"""The number of frames before and after speech that are compared too, because they contain its beginning and end."""

_MIN_LIKENESS: Final = 0.65
_MIN_LEAD: Final = 0.15
"""The minimum difference between the correlation at the best offset and at any offset that is not next to it."""

_FEW_LIKENESS: Final = 20
_FEW_LEAD: Final = 15
"""An additional requirement, divided by the number of frames: a few frames resemble many others by chance."""

_PEAK_FRAMES: Final = 10
_TO_LOUDNESS: Final = bytes(frame & LOUDNESS for frame in range(256))


@dataclass(frozen=True)
class Alignment:
    """The measured delay of a part (a microphone's sound) after the beginning of the whole (the video's sound), in
    milliseconds, at some moments of the part. `measured` contains pairs of a moment and the delay measured at this
    moment, in order of time. The clocks with which two files were recorded may drift apart, so the delay may change
    during the recording.
    """

    measured: tuple[tuple[int, int], ...]

    @property
    def late_ms(self) -> int:
        """Return one delay for the whole part, in milliseconds: the median of the measured delays."""
        return round(median(late_ms for _, late_ms in self.measured))

    def late_ms_at(self, moment_ms: int) -> int:
        """Return the delay of the part at one moment, interpolated between two measurements."""
        first, last = self.measured[0], self.measured[-1]
        if moment_ms <= first[0]:
            return first[1]
        for (start, late_ms), (end, late_ms_after) in pairwise(self.measured):
            if moment_ms <= end:
                return round(late_ms + (late_ms_after - late_ms) * (moment_ms - start) / (end - start))
        return last[1]


def align(part: bytes, whole: bytes, expected_ms: int) -> Alignment | None:
    """Measure how much later than `whole` the sound `part` begins, if the delay differs from the expected delay by
    less than three seconds. Return None if the delay cannot be measured: the part has too little speech, the whole
    does not contain the part, or the part fits equally well at several offsets, as repeating sound does.
    """
    margin = bytes(_MAX_LAG)
    padded = margin + whole.translate(_TO_LOUDNESS) + margin
    expected = round(expected_ms / FRAME_MS)
    measured = []
    for start in range(0, len(part), _BLOCK_FRAMES):
        block = part[start : start + _BLOCK_FRAMES]
        lag = _find_best_lag(block, padded, start + expected + _MAX_LAG)
        if lag is not None:
            middle = start + len(block) // 2
            measured.append((middle * FRAME_MS, round((expected + lag) * FRAME_MS)))
    if not measured:
        return None
    return Alignment(tuple(measured))


def _find_best_lag(block: bytes, whole: bytes, at: int) -> float | None:
    """Return how many frames after the position `at` of the whole sound the block begins. The whole sound has a
    margin of silence at both ends.
    """
    compared, likeness = _correlate(block, whole, at)
    if compared < _MIN_FRAMES:
        return None
    best = max(range(len(likeness)), key=likeness.__getitem__)
    others = (*likeness[: max(0, best - _PEAK_FRAMES)], *likeness[best + _PEAK_FRAMES + 1 :])
    if (
        not 0 < best < len(likeness) - 1
        or likeness[best] < _MIN_LIKENESS + _FEW_LIKENESS / compared
        or likeness[best] - max(others) < _MIN_LEAD + _FEW_LEAD / compared
    ):
        return None
    before, peak, after = likeness[best - 1 : best + 2]
    bend = before - 2 * peak + after
    return best - _MAX_LAG + ((before - after) / (2 * bend) if bend < 0 else 0.0)


def _correlate(block: bytes, whole: bytes, at: int) -> tuple[int, list[float]]:
    """Compare the block with the whole sound, moved by each possible lag. Return the number of compared frames, and
    the Pearson correlation at each lag.
    """
    chosen = _choose_frames(block)
    first, last = max(0, _MAX_LAG - at), max(0, len(whole) - _MAX_LAG - at)
    stretches = [
        (start, chosen[start:end])
        for stretch in _find_stretches(chosen)
        for start, end in ((max(first, stretch[0]), min(last, stretch[1])),)
        if start < end
    ]
    frames = b"".join(
        bytes(compress(block[start : start + len(mask)], mask)) for start, mask in stretches
    ).translate(_TO_LOUDNESS)
    count, total = len(frames), sum(frames)
    spread = count * sum(map(mul, frames, frames)) - total * total
    if count < _MIN_FRAMES or not spread:
        return 0, []
    found = []
    for lag in range(-_MAX_LAG, _MAX_LAG + 1):
        others = b"".join(
            bytes(compress(whole[at + start + lag : at + start + lag + len(mask)], mask))
            for start, mask in stretches
        )
        other_total = sum(others)
        other_spread = count * sum(map(mul, others, others)) - other_total * other_total
        together = count * sum(map(mul, frames, others)) - total * other_total
        found.append(together / (spread * other_spread) ** 0.5 if other_spread else 0.0)
    return count, found


def _choose_frames(block: bytes) -> bytes:
    """Return a 1 for each frame of the block that the alignment compares, and a 0 for each frame that it does not
    compare. The alignment compares frames with speech and the frames around them. If these frames are too many, the
    alignment compares only ten stretches of them, spread over the block.
    """
    chosen = bytearray(len(block))
    for number, frame in enumerate(block):
        if frame & SPEECH:
            start = max(0, number - _MARGIN_FRAMES)
            end = min(len(block), number + _MARGIN_FRAMES + 1)
            chosen[start:end] = b"\1" * (end - start)
    counts = list(accumulate(chosen))
    if not counts or counts[-1] <= _MAX_FRAMES:
        return bytes(chosen)
    return _thin_out(chosen, counts[-1])


def _thin_out(chosen: bytearray, count: int) -> bytes:
    """Reduce the chosen frames of a block to ten stretches that are far from each other, and return them."""
    stretches = 10
    length = _MAX_FRAMES // stretches
    thinned = bytearray(len(chosen))
    seen = 0
    for number, is_chosen in enumerate(chosen):
        if is_chosen and seen * stretches % count < length * stretches:
            thinned[number] = 1
        seen += is_chosen
    return bytes(thinned)


def _find_stretches(chosen: bytes) -> Iterator[tuple[int, int]]:
    end = 0
    while (start := chosen.find(1, end)) >= 0:
        end = chosen.find(0, start)
        if end < 0:
            end = len(chosen)
        yield start, end


def mark_covered(covered: bytearray, part: bytes, alignment: Alignment, error_ms: int) -> None:
    """Set `covered` to 1 for each frame of the whole sound in which the part may have speech. The part's position
    may be wrong by up to `error_ms`.
    """
    error = -(-error_ms // FRAME_MS)
    for start, end in _find_stretches(bytes(frame >> 7 for frame in part)):
        late = round(alignment.late_ms_at(start * FRAME_MS) / FRAME_MS)
        first = min(len(covered), max(0, start + late - error))
        last = min(len(covered), max(first, end + late + error))
        covered[first:last] = b"\1" * (last - first)


def shift_frames(part: bytes, late_ms: int, frames: int) -> bytes:
    """Return the part moved to its position on the timeline of the whole sound: `frames` frames, with silence
    before and after the part.
    """
    late = round(late_ms / FRAME_MS)
    return (bytes(max(0, late)) + part[max(0, -late) :])[:frames].ljust(frames, b"\0")
