"""Checks a speech service's answer for a chunk of sound, and repairs its times.

The module refuses an answer of an unknown structure, and an answer with text that is in no segment. The module also
refuses more segments or characters than anybody can speak in the duration of the chunk. The module does not refuse
an answer for one implausible time, because the request would then be paid for again. The module replaces an
implausible time of a segment by a time between the neighbouring segments. A marker such as `[BLANK_AUDIO]` is not
text. A marker such as `[inaudible]` means that the model did not understand what somebody said. No error, log or
`repr` contains text of an answer. The module does not check whether the recognized text is correct.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import isnan
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import UpstreamFailed
from app.settings import SpeechApi
from app.texts.unsafe_characters import remove_unsafe_characters

UNCERTAIN_LOGPROB: Final = -0.95
"""All 19 sentences that whisper tiny.en invented were below it, and so were 9 of 92 others, each of them wrong."""

UNCERTAIN_NO_SPEECH: Final = 0.9
"""Whisper writes "You" for silence, with an `avg_logprob` of -0.7 and a `no_speech_prob` of 0.95. No turn of the test
fixture has more than 0.06 (tiny.en, measured 2026-11-29).
"""

TOLERANCE_MS: Final = 1000
"""A segment may start at most this much before the chunk, after its end, or before the start of the previous segment.
Other starts are implausible. A segment may end later, because Whisper reads windows of 30 s, padded with silence, and
its last segment may end with the window (openai/whisper, `audio.py` and `transcribe.py`, checked 2026-11-21).
"""

CHARACTERS_PER_MINUTE: Final = 3000
"""The fastest speakers reach about 2,000."""
SPARE_CHARACTERS: Final = 200
SEGMENTS_PER_MINUTE: Final = 120
SPARE_SEGMENTS: Final = 10

MARKS_AT_ONCE: Final = 30
"""The maximum number of combining marks after a letter, as in Unicode's Stream-Safe Text Format (UAX #15). The time of
Unicode normalization grows with the square of their number: 40,000 marks block the process for 2 s.
"""

_MOST_LISTED: Final = 3000
"""The maximum length of a list, above that of any real answer. Validation stops at the first wrong item: for 4 MB of
empty objects, pydantic took 4 s and 2 GB to report every error.
"""
_MAX_SPEAKER_CHARACTERS: Final = 64
_MAX_NUMBER: Final = 1e6
_LOWEST_LOGPROB: Final = -9999.0
"""The value that OpenAI returns for a nearly impossible token."""
_MARKER: Final = re.compile(
    r"\[[^\[\]]{0,80}\]|\([^()]{0,80}\)|\*[^*]{1,80}\*|<\|[^|<>]{0,80}\|>|[\u2669-\u266c\U0001f3b5\U0001f3b6]"
)
_TOKEN: Final = re.compile(r"\[[^\[\]]{2,80}\]|<\|[^|<>]{0,80}\|>")
_UNINTELLIGIBLE: Final = re.compile(
    r"inaudible|unintelligible|ininteligible|indistinct|indistinguible|indiscernible|incomprehensible|incomprensible"
    r"|undecipherable|indescifrable|inintelligible|unverst[aä]ndlich|unclear|garbled|mumbl|murmull|balbuce"
    r"|foreign|extranjer|not in english|otro idioma|otra lengua|no se (?:oye|entiende)|crosstalk|cross talk|overlapping"
    r"|(?:speak(?:s|ing)?|spoken|talking|habla(?:ndo|n)?) (?:in |en )?[^\W\d_]+$"
)
"""Matches the content of a marker, in lower case, if somebody spoke and the model did not understand the speech."""

FASTEST_LOOP_CHARACTERS_A_SECOND: Final = 30
SPARE_LOOP_CHARACTERS: Final = 20
_LOOP_TIMES: Final = 4
_MOST_LOOPED_WORDS: Final = 40
_ANSWERS: Final = frozenset(
    ("yes", "no", "yeah", "yep", "nope", "ok", "okay", "right", "sí", "si", "vale", "claro", "bueno")
)
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Co")
_NAMES: Final = {"english": "en", "spanish": "es"}
"""`verbose_json` states the language by its English name (openai/whisper, `tokenizer.py`), or by its code."""


@dataclass(frozen=True)
class Figures:
    """The speech service's confidence values for a segment. A confidence value is None if the service does not
    return it. `avg_logprob` is the mean natural logarithm of the tokens' probabilities: 0 is certain.
    """

    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None


NO_FIGURES: Final = Figures()


@dataclass(frozen=True)
class SpeechSegment:
    """A segment of a speech service's answer: the start, the end and the text of some speech. A segment's start and
    end times count from the beginning of the chunk. `speaker` is the speech service's label of the voice, or None.
    An unintelligible segment has no text, because the model did not understand the speech.
    """

    start_ms: int
    end_ms: int
    text: str = field(repr=False)
    speaker: str | None = field(default=None, repr=False)
    is_unintelligible: bool = False
    figures: Figures = NO_FIGURES
    is_uncertain: bool = False


@dataclass(frozen=True)
class SpeechAnswer:
    """The recognized segments of one chunk in order of start; no segment if nobody spoke. `language` is a code of
    ISO 639-1 or 639-3, or None if the speech service states no language.
    """

    segments: tuple[SpeechSegment, ...]
    language: str | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)


class _Language(_Answer):
    code: str


class _Text(_Answer):
    text: str
    logprobs: Any = None
    languages: Annotated[tuple[_Language, ...], Field(fail_fast=True, max_length=_MOST_LISTED)] | None = None


class _Segment(_Answer):
    start: Any = None
    end: Any = None
    text: Any = None
    speaker: Any = None
    avg_logprob: Any = None
    no_speech_prob: Any = None
    compression_ratio: Any = None


class _Timed(_Answer):
    text: str
    segments: Annotated[tuple[_Segment, ...], Field(fail_fast=True, max_length=_MOST_LISTED)] | None = None
    language: str | None = None


def parse_answer(
    body: bytes, api: SpeechApi, duration_ms: int, *, uncertain_logprob: float = UNCERTAIN_LOGPROB
) -> SpeechAnswer:
    """Parse and check the speech service's answer for a chunk of the given duration. Raises UpstreamFailed
    (speech_nonsense).

    A segment is uncertain if its `avg_logprob` is below `uncertain_logprob`, or if the model reports that nobody
    speaks in it. A segment without confidence values is not uncertain.

    If the answer has text without times, the text becomes one segment that covers the whole chunk. The text of each
    segment is one line in NFC. The returned segments are in order of start, and lie within the chunk. The function
    leaves out each segment that has no text and is not unintelligible.
    """
    try:
        if api is SpeechApi.TEXT:
            parsed = _parse_text(_Text.model_validate_json(body), duration_ms)
        else:
            parsed = _parse_segments(_Timed.model_validate_json(body), duration_ms)
        return replace(
            parsed, segments=tuple(_mark_uncertain(one, uncertain_logprob) for one in parsed.segments)
        )
    except ValidationError:
        pass
    # Raised outside the except block, because pydantic's error, which may quote the text, must not become its context.
    raise UpstreamFailed("speech_nonsense")


def _mark_uncertain(segment: SpeechSegment, uncertain_logprob: float) -> SpeechSegment:
    logprob, no_speech = segment.figures.avg_logprob, segment.figures.no_speech_prob
    is_unsure = logprob is not None and logprob < uncertain_logprob
    is_silent = no_speech is not None and no_speech > UNCERTAIN_NO_SPEECH
    is_uncertain = bool(segment.text) and (is_unsure or is_silent)
    return replace(segment, is_uncertain=is_uncertain)


def strip_markers(text: str) -> str:
    """Return the text as one line without markers, or "" if the text contains only markers.

    Models write a marker for sound that is not speech: `[BLANK_AUDIO]`, `(music)`, `*coughs*`, musical notes.
    """
    line = remove_unsafe_characters(text)
    if not any(one.isalnum() for one in _MARKER.sub(_keep_spoken, line)):
        return ""
    return remove_unsafe_characters(_TOKEN.sub(_drop_marker, line))


def _keep_spoken(marker: re.Match[str]) -> str:
    """Return the text inside a marker if somebody may have said this text, such as "yes" or a number. If not,
    return "".
    """
    inside = _marker_text(marker)
    return inside if inside in _ANSWERS or any(one.isdigit() for one in inside) else ""


def is_unintelligible(text: str) -> bool:
    """Return whether the text consists only of markers, and at least one of the markers means that the model did
    not understand somebody.
    """
    line = remove_unsafe_characters(text)
    if not any(map(_is_unintelligible_marker, _MARKER.finditer(line))):
        return False
    rest = _MARKER.sub(lambda one: "" if _is_unintelligible_marker(one) else _keep_spoken(one), line)
    return not any(map(str.isalnum, rest))


def is_loop(text: str, duration_ms: int) -> bool:
    """Return whether the text repeats the same words more often than anybody can say them in this time."""
    most = SPARE_LOOP_CHARACTERS + FASTEST_LOOP_CHARACTERS_A_SECOND * duration_ms / 1000
    if len(text) <= most:
        return False
    said = ["".join(filter(str.isalnum, word)).casefold() for word in text.split()]
    sizes = [len(word) + 1 for word in text.split()]
    for period in range(1, min(_MOST_LOOPED_WORDS, len(said) // _LOOP_TIMES) + 1):
        run = 0
        for place in range(period, len(said) + 1):
            if place < len(said) and said[place] == said[place - period]:
                run += 1
            else:
                if run >= period * (_LOOP_TIMES - 1) and sum(sizes[place - run - period : place]) > most:
                    return True
                run = 0
    longest = re.search(r"(\S{1,40}?)\1{7,}", text)
    return longest is not None and len(longest[0]) > most


def _is_unintelligible_marker(marker: re.Match[str]) -> bool:
    return _UNINTELLIGIBLE.search(_marker_text(marker)) is not None


def _marker_text(marker: re.Match[str]) -> str:
    """Return the text of a marker in lower case, without its brackets and punctuation."""
    return marker[0].strip("[]()*<>|").strip(" .,!¡?¿").replace("_", " ").casefold()


def _drop_marker(token: re.Match[str]) -> str:
    if _is_unintelligible_marker(token):
        return token[0]
    return " " if token[0].startswith("<|") or token[0].isupper() else token[0]


def _parse_text(answer: _Text, duration_ms: int) -> SpeechAnswer:
    _require_speakable((answer.text,), duration_ms)
    text = strip_markers(answer.text)
    if is_loop(text, duration_ms):
        raise UpstreamFailed("speech_nonsense")
    figures = Figures(avg_logprob=_mean_logprob(answer.logprobs))
    segments = (SpeechSegment(0, duration_ms, text, figures=figures),) if text else ()
    if is_unintelligible(answer.text):
        segments = (SpeechSegment(0, duration_ms, "", is_unintelligible=True),)
    return SpeechAnswer(segments, _code(answer.languages[0].code) if answer.languages else None)


def _parse_segments(answer: _Timed, duration_ms: int) -> SpeechAnswer:
    said = [one for one in answer.segments or () if isinstance(one.text, str)]
    if len(said) > SPARE_SEGMENTS + SEGMENTS_PER_MINUTE * duration_ms / 60_000:
        raise UpstreamFailed("speech_nonsense")
    for texts in ((answer.text,), [one.text for one in said]):
        _require_speakable(texts, duration_ms)
    times = _repair_times([(_milliseconds(one.start), _milliseconds(one.end)) for one in said], duration_ms)
    if is_loop(" ".join(one.text for one in said), duration_ms):
        raise UpstreamFailed("speech_nonsense")
    segments = [_segment(one, start_ms, end_ms) for one, (start_ms, end_ms) in zip(said, times, strict=True)]
    parsed = sorted(
        (one for one in segments if one.text or one.is_unintelligible), key=lambda one: one.start_ms
    )
    if not parsed and strip_markers(answer.text):
        raise UpstreamFailed("speech_nonsense")
    return SpeechAnswer(tuple(parsed), _code(answer.language))


def _segment(one: _Segment, start_ms: int, end_ms: int) -> SpeechSegment:
    """Return the segment. The segment has no text if the model's text is an endless repetition, or a marker for
    speech that the model did not understand.
    """
    text = strip_markers(one.text)
    has_no_text = is_unintelligible(one.text) or is_loop(text, end_ms - start_ms + TOLERANCE_MS)
    figures = Figures(_logprob(one.avg_logprob), _number(one.no_speech_prob), _number(one.compression_ratio))
    return SpeechSegment(
        start_ms, end_ms, "" if has_no_text else text, _speaker(one.speaker), has_no_text, figures
    )


def _mean_logprob(tokens: object) -> float | None:
    """Return the mean log probability of the tokens that have one, or None if no token has one."""
    if not isinstance(tokens, list) or not tokens:
        return None
    given = [_logprob(one.get("logprob")) if isinstance(one, dict) else None for one in tokens]
    known = [one for one in given if one is not None]
    return sum(known) / len(known) if known else None


def _logprob(given: object) -> float | None:
    """Return a token's log probability as a float, or None if the value is not a number.

    Minus infinity and NaN become the lowest value, because a model computes them for sound that it cannot
    transcribe. Text that a model made of sound that it cannot transcribe must not count as certain.
    """
    if isinstance(given, float) and (isnan(given) or given <= _LOWEST_LOGPROB):
        return _LOWEST_LOGPROB
    return _number(given)


def _number(given: object) -> float | None:
    """Return the number as a float, or None if the value is not a number or is too large."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return float(given) if is_number and abs(given) < _MAX_NUMBER else None  # type: ignore[arg-type]


def _milliseconds(seconds: object) -> int | None:
    """Return the time in milliseconds, or None if the value is not a number or is too large."""
    number = _number(seconds)
    return None if number is None else round(number * 1000)


def _speaker(label: object) -> str | None:
    if not isinstance(label, str) or len(label) > _MAX_SPEAKER_CHARACTERS:
        return None
    return remove_unsafe_characters(label) or None


def _repair_times(times: Sequence[tuple[int | None, int | None]], duration_ms: int) -> list[tuple[int, int]]:
    """Return the start and end of each segment, limited to the chunk. A segment with an implausible start time is
    placed between the segment before it and the segment after it.

    If the segments' start times are not in order, the function keeps the longest ascending sequence of them, and
    treats all others as implausible.
    """
    kept = _keep_ascending([start if _is_within(start, duration_ms) else None for start, _ in times])
    following: list[int] = []
    after = duration_ms
    for start in reversed(kept):
        following.append(after)
        after = after if start is None else start
    repaired: list[tuple[int, int]] = []
    before = 0
    for (_, end), start, after in zip(times, kept, reversed(following), strict=True):
        first = min(before, after) if start is None else start
        last = after if start is None or end is None or end < start else end
        first, last = (min(max(0, one), duration_ms) for one in (first, last))
        repaired.append((first, max(first, last)))
        before = first if start is None else repaired[-1][1]
    return repaired


def _is_within(start: int | None, duration_ms: int) -> bool:
    return start is not None and -TOLERANCE_MS <= start <= duration_ms + TOLERANCE_MS


def _keep_ascending(starts: Sequence[int | None]) -> list[int | None]:
    """Return the segments' start times, with None for each start time that is not in the longest ascending
    sequence.

    A segment's start is also kept if it lies before the previous start by at most the tolerance.
    """
    latest = -TOLERANCE_MS
    for start in starts:
        if start is not None:
            if start < latest - TOLERANCE_MS:
                break
            latest = max(latest, start)
    else:
        return list(starts)
    tails: list[int] = []
    rows: list[int] = []
    before: dict[int, int | None] = {}
    for number, start in enumerate(starts):
        if start is None:
            continue
        place = bisect_right(tails, start)
        tails[place : place + 1] = [start]
        before[number] = rows[place - 1] if place else None
        rows[place : place + 1] = [number]
    kept: set[int] = set()
    last: int | None = rows[-1] if rows else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [start if number in kept else None for number, start in enumerate(starts)]


def _require_speakable(texts: Sequence[str], duration_ms: int) -> None:
    if sum(map(len, texts)) > SPARE_CHARACTERS + CHARACTERS_PER_MINUTE * duration_ms / 60_000:
        raise UpstreamFailed("speech_nonsense")
    if any(map(_is_piled, texts)):
        raise UpstreamFailed("speech_nonsense")


def _is_piled(text: str) -> bool:
    """Return whether the text has more consecutive combining marks than any script needs, ignoring invisible
    characters.
    """
    visible = (kind for kind in map(unicodedata.category, text) if kind not in _INVISIBLE)
    runs = groupby(visible, key=lambda kind: kind.startswith("M"))
    return any(is_mark and sum(1 for _ in run) > MARKS_AT_ONCE for is_mark, run in runs)


def _code(language: str | None) -> str | None:
    given = (language or "").strip().lower()
    code = _NAMES.get(given, given)
    return code if re.fullmatch(r"[a-z]{2,3}", code) else None
