"""Corrects the times of the segments in a speech service's answer. Pure.

A segment begins where our own speech detector found that speech begins. If the speech service's times are
plausible, they decide at which start of speech a segment begins. After a pause, the times that Whisper reports are
wrong by seconds, and some speech services report no times. If the speech service's times are not plausible, the
order of the segments and the length of their text select the place where each segment begins. A segment may also
begin within speech without a pause. If a segment begins within speech without a pause, its start is the time that
the speech service reported, or is derived from the length of the text before it.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Final

from app.integrations.speech.answers import SpeechAnswer, SpeechSegment
from app.media.turns import Interval

_TURN_PAUSE_MS: Final = 350
"""Speech after a longer pause is probably a segment of its own."""

_EARLY_MS, _LATE_MS = 200, 400
"""A plausible start lies in the pause before speech, or differs by at most this much from the ends of the pause."""

_PLAUSIBLE_SHARE: Final = 0.5
_REACH_MS: Final = 10_000
_IMPLAUSIBLE_REACH_MS: Final = 40_000
"""The longest distance between a segment's place and its time by the service, or its time by the length of the
text.
"""

_MAX_DISTANCE: Final = 2.0
_NO_PAUSE: Final = 0.3
_SHORT_PAUSE: Final = 0.25
_UNUSED_TURN: Final = 0.5
"""The costs of a segment that begins without a pause or after a short one, and of a turn in which no segment
begins. A difference of one second between the service's time and ours costs 1.
"""


_CUT_PAUSE_MS, _LONG_PAUSE_MS = 400, 800
_MARGIN_CHARACTERS, _MARGIN_SHARE = 12, 0.15
_SENTENCE: Final = re.compile(r"[.!?…]+[\"')\u201d\u2019]*\s+(?=\S)")
_WORD: Final = re.compile(r"\S\s+(?=\S)")


@dataclass(frozen=True)
class _Place:
    """A time at which a segment may begin, the cost of beginning it there, and the amount of speech before that
    time.
    """

    at_ms: int
    cost: float
    spoken_ms: int


@dataclass(frozen=True)
class _Speech:
    """The runs of a chunk: the stretches of the chunk that contain speech."""

    runs: tuple[Interval, ...]

    @cached_property
    def starts(self) -> list[int]:
        return [start for start, _ in self.runs]

    @cached_property
    def _before(self) -> list[int]:
        return list(accumulate((end - start for start, end in self.runs), initial=0))

    @cached_property
    def turns(self) -> list[int]:
        """Return the times at which speech starts after a long pause."""
        return [start for number, start in enumerate(self.starts) if self.pause_ms(number) >= _TURN_PAUSE_MS]

    @property
    def total_ms(self) -> int:
        return self._before[-1]

    def pause_ms(self, number: int) -> int:
        """Return the length of the pause before a run of speech."""
        return self.runs[number][0] - self.runs[number - 1][1] if number else _TURN_PAUSE_MS

    def until(self, at_ms: int) -> int:
        """Return how many milliseconds of speech the chunk contains before the given time."""
        number = bisect_right(self.starts, at_ms) - 1
        if number < 0:
            return 0
        start, end = self.runs[number]
        return self._before[number] + min(at_ms, end) - start

    def at(self, spoken_ms: float) -> int:
        """Return the time before which the chunk contains the given number of milliseconds of speech."""
        number = max(0, min(len(self.runs), bisect_right(self._before, spoken_ms)) - 1)
        return round(min(self.runs[number][1], self.runs[number][0] + spoken_ms - self._before[number]))

    def distance(self, said_ms: int, number: int) -> float:
        """Return the distance in seconds from a reported time to a run of speech, including the pause before the
        run. If the reported time is in the pause before the run of speech, the distance is 0.
        """
        start = self.runs[number][0]
        end_before = self.runs[number - 1][1] if number else 0
        return max(0, end_before - said_ms, said_ms - start) / 1000


def correct_times(answer: SpeechAnswer, speech: Sequence[Interval]) -> SpeechAnswer:
    """Return the answer with corrected times, or unchanged if `speech`, the list of speech in the chunk, is empty."""
    if not answer.segments or not speech:
        return answer
    found = _Speech(tuple(speech))
    lengths = _estimate_lengths(answer.segments, found)
    starts = _choose_starts(answer.segments, lengths, found)
    segments: list[SpeechSegment] = []
    for number, segment in enumerate(answer.segments):
        following = starts[number + 1] if number + 1 < len(starts) else None
        end_ms = _choose_end(starts[number], following, lengths[number], found)
        segments += _divide_at_pauses(replace(segment, start_ms=starts[number], end_ms=end_ms), found)
    return replace(answer, segments=tuple(segments))


def _divide_at_pauses(segment: SpeechSegment, speech: _Speech) -> list[SpeechSegment]:
    """Cut a segment wherever speech begins after a pause and the text can be cut, and return its parts. The length
    of the text shows at which characters the speaker made a pause. The function cuts the text at the end of a
    sentence near the pause. If the pause is long, the function also cuts the text at the end of a word. If the
    segment's text has no place where it can be cut, the pause stays inside the segment.
    """
    first = bisect_right(speech.starts, segment.start_ms)
    pauses = [
        number
        for number in range(first, bisect_left(speech.starts, segment.end_ms))
        if speech.pause_ms(number) >= _CUT_PAUSE_MS
    ]
    spoken = speech.until(segment.start_ms)
    whole = speech.until(segment.end_ms) - spoken
    parts, text, begin = [segment], segment.text, 0
    for number in pauses:
        wanted = len(text) * (speech.until(speech.starts[number]) - spoken) / whole
        cut = _find_cut(text, begin, wanted, is_long=speech.pause_ms(number) >= _LONG_PAUSE_MS)
        if cut is None:
            continue
        last = parts.pop()
        ended_ms = speech.runs[number - 1][1]
        parts.append(replace(last, text=text[begin:cut].strip(), end_ms=max(last.start_ms, ended_ms)))
        parts.append(replace(segment, text=text[cut:].strip(), start_ms=speech.starts[number]))
        begin = cut
    return parts


def _find_cut(text: str, begin: int, wanted: float, *, is_long: bool) -> int | None:
    """Return the position at which to cut the text so that both parts have words, or None if there is no such
    position.
    """
    margin = _MARGIN_CHARACTERS + _MARGIN_SHARE * len(text)
    for pattern, reach in ((_SENTENCE, margin), (_WORD, margin if is_long else 0)):
        ends = [one.end() for one in pattern.finditer(text, begin) if begin < one.end() < len(text)]
        found = min(ends, key=lambda end: abs(end - wanted), default=None)
        if found is not None and abs(found - wanted) <= reach and text[begin:found].strip():
            return found
    return None


def _estimate_lengths(segments: Sequence[SpeechSegment], speech: _Speech) -> list[float]:
    """Return the duration of each segment's text at a constant speaking rate. If no segment has text, return the
    durations that the speech service reported.
    """
    characters = sum(len(segment.text) for segment in segments)
    if not characters:
        return [max(1, segment.end_ms - segment.start_ms) for segment in segments]
    return [max(1, len(segment.text)) * speech.total_ms / characters for segment in segments]


def _choose_starts(segments: Sequence[SpeechSegment], lengths: Sequence[float], speech: _Speech) -> list[int]:
    """Return the place where each segment begins, in order. The function chooses the places with the lowest total
    cost by dynamic programming.
    """
    trust = 1.0 if _is_plausible(segments, speech) else 0.05
    rows: list[list[_Place]] = []
    before = list(accumulate(lengths, initial=0.0))
    for number, segment in enumerate(segments):
        rows.append(_possible_starts(segment, speech, before[number], is_first=number == 0, trust=trust))
    costs = [place.cost + _mismatch_cost(0, place, 0.0, speech, trust) for place in rows[0]]
    chosen: list[list[int]] = []
    for number in range(1, len(rows)):
        new, origins = [], []
        for place in rows[number]:
            best, origin = min(
                (
                    (
                        cost
                        + _mismatch_cost(earlier.at_ms, place, lengths[number - 1], speech, trust, earlier),
                        at,
                    )
                    for at, (earlier, cost) in enumerate(zip(rows[number - 1], costs, strict=True))
                    if earlier.at_ms <= place.at_ms
                ),
                default=(float("inf"), 0),
            )
            new.append(best + place.cost)
            origins.append(origin)
        costs = new
        chosen.append(origins)
    end = _Place(speech.runs[-1][1], 0.0, speech.total_ms)
    totals = [
        cost + _mismatch_cost(place.at_ms, end, lengths[-1], speech, trust, place)
        for place, cost in zip(rows[-1], costs, strict=True)
    ]
    at = totals.index(min(totals))
    starts = [rows[-1][at].at_ms]
    for number in range(len(rows) - 2, -1, -1):
        at = chosen[number][at]
        starts.append(rows[number][at].at_ms)
    return list(accumulate(reversed(starts), max))


def _is_plausible(segments: Sequence[SpeechSegment], speech: _Speech) -> bool:
    """Return whether the speech service's times are plausible: the first segment must begin where speech begins,
    and most of the other segments must begin after a pause.
    """
    if segments[0].start_ms > speech.starts[0] + _LATE_MS:
        return False
    near = set()
    for segment in segments:
        number = min(bisect_left(speech.starts, segment.start_ms - _LATE_MS), len(speech.runs) - 1)
        end_before = speech.runs[number - 1][1] if number else 0
        if end_before - _EARLY_MS <= segment.start_ms <= speech.runs[number][0] + _LATE_MS:
            near.add(number)
    return len(near) >= _PLAUSIBLE_SHARE * len(segments)


def _possible_starts(
    segment: SpeechSegment, speech: _Speech, spoken_before: float, *, is_first: bool, trust: float
) -> list[_Place]:
    """Return the times at which a segment may begin: the starts of speech near the reported time. All segments
    except the first may also begin at the reported time itself. If the times that the speech service reported are
    not plausible, the function uses a time derived from the length of the text instead.
    """
    is_trusted = trust == 1.0
    told_ms = segment.start_ms if is_trusted else speech.at(spoken_before)
    reach = _REACH_MS if is_trusted else _IMPLAUSIBLE_REACH_MS
    first = bisect_left(speech.starts, told_ms - reach)
    last = bisect_right(speech.starts, told_ms + reach)
    places = []
    for number in range(first, last) or range(max(0, first - 1), min(first + 1, len(speech.runs))):
        short = max(0.0, 1 - speech.pause_ms(number) / _TURN_PAUSE_MS) * _SHORT_PAUSE
        distance = min(_MAX_DISTANCE, speech.distance(segment.start_ms, number))
        at_ms = speech.starts[number]
        places.append(_Place(at_ms, short + trust * distance, speech.until(at_ms)))
    if not is_first:
        inside = min(max(told_ms, speech.starts[0]), speech.runs[-1][1])
        places.append(_Place(inside, _NO_PAUSE, speech.until(inside)))
    return sorted(places, key=lambda place: place.at_ms)


def _mismatch_cost(
    since_ms: int, place: _Place, length: float, speech: _Speech, trust: float, earlier: _Place | None = None
) -> float:
    """Return a cost that is higher the worse a text of this length fits the amount of speech before a possible
    start.
    """
    spoken = (place.spoken_ms - (earlier.spoken_ms if earlier else 0)) / 1000
    seconds = length / 1000
    unlike = ((spoken - seconds) / (0.4 + 0.2 * seconds)) ** 2
    passed = bisect_left(speech.turns, place.at_ms) - bisect_right(
        speech.turns, since_ms if earlier else since_ms - 1
    )
    weight = 0.05 if trust == 1.0 else 0.3
    return weight * unlike + _UNUSED_TURN * max(0, passed)


def _choose_end(start_ms: int, following_ms: int | None, length: float, speech: _Speech) -> int:
    """Return the time at which a segment ends. The segment ends at a pause before the next segment, chosen so that
    the segment's duration suits its text.
    """
    last = len(speech.runs) if following_ms is None else bisect_left(speech.starts, following_ms)
    first = max(0, bisect_right(speech.starts, start_ms) - 1)
    ends = [
        speech.runs[number][1]
        for number in range(first, last)
        if number + 1 == last or speech.pause_ms(number + 1) >= _TURN_PAUSE_MS
    ]
    if not ends:
        return start_ms
    spoken = speech.until(start_ms)
    end_ms = min(ends, key=lambda end: abs(speech.until(end) - spoken - length))
    return max(start_ms, end_ms if following_ms is None else min(end_ms, following_ms))
