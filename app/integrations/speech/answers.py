"""Checks a speech model's answer about a chunk of sound, and repairs its times.

It refuses what no honest answer can be: another shape, more segments or characters than anybody speaks in that time,
words in no segment. One odd time does not condemn an answer, which would be paid for again: the segment gets its time
from its neighbours. A marker such as `[BLANK_AUDIO]` is no words; one such as `[inaudible]` says that somebody spoke
and was not understood. No error, log or `repr` repeats a word of an answer.
This module does not judge whether the words are right.
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
"""Of 19 sentences that whisper tiny.en invented, 19 were below it, and of 92 others 9, each of them wrong."""

UNCERTAIN_NO_SPEECH: Final = 0.9
"""Whisper writes "You" for silence, at an `avg_logprob` of -0.7 and a probability of 0.95 that
nobody speaks; of the fixture's turns none is above 0.06 (tiny.en, measured 2026-11-29)."""

TOLERANCE_MS: Final = 1000
"""A segment's start may be so much before the chunk, after its end, or before the start of the segment that it follows.
Other starts are odd. An end may be later: Whisper hears windows of 30 s, padded with silence, and its last segment may
end with the window (openai/whisper, `audio.py` and `transcribe.py`, checked 2026-11-21)."""

CHARACTERS_PER_MINUTE: Final = 3000
"""The fastest talkers come to about 2,000."""
SPARE_CHARACTERS: Final = 200
SEGMENTS_PER_MINUTE: Final = 120
SPARE_SEGMENTS: Final = 10

MARKS_AT_ONCE: Final = 30
"""How many may follow a letter, as in Unicode's Stream-Safe Text Format (UAX #15, checked 2026-11-22). Normalization
takes the square of a longer pile: 40,000 marks 2 s, of the whole process."""

_MOST_LISTED: Final = 3000
"""More than any chunk has. What is listed beyond is refused unread, and at the first that is wrong: 4 MB of empty
objects came to 4 s and 2 GB of what pydantic had against each."""
_MAX_SPEAKER_CHARACTERS: Final = 64
_MAX_NUMBER: Final = 1e6
_LOWEST_LOGPROB: Final = -9999.0
"""What OpenAI writes for a token that is all but impossible."""
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
"""What the inside of a marker has, in lower case, if somebody spoke and the model did not understand it."""

FASTEST_LOOP_CHARACTERS_A_SECOND: Final = 30
SPARE_LOOP_CHARACTERS: Final = 20
_LOOP_TIMES: Final = 4
_MOST_LOOPED_WORDS: Final = 40
_ANSWERS: Final = frozenset(
    ("yes", "no", "yeah", "yep", "nope", "ok", "okay", "right", "sí", "si", "vale", "claro", "bueno")
)
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Co")
_NAMES: Final = {"english": "en", "spanish": "es"}
"""`verbose_json` names the language in English (openai/whisper, `tokenizer.py`), other servers give its code."""


@dataclass(frozen=True)
class Figures:
    """What the vendor says about how sure its model was; None for a figure that it does not give.

    `avg_logprob` is the mean log probability of the tokens, of natural logarithms: 0 is certain.
    """

    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None


NO_FIGURES: Final = Figures()


@dataclass(frozen=True)
class SpeechSegment:
    """Some words. Times are from the beginning of the chunk; `speaker` is the vendor's label, None without one.

    An unintelligible one has no words: somebody spoke, and nobody knows what was said.
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
    """What was heard in one chunk, in order of start; nothing where nobody spoke.

    `language` is a code of ISO 639-1 or 639-3, None where the vendor named none.
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
    """What this answer says about a chunk of that length; raises UpstreamFailed("speech_nonsense").

    A segment whose `avg_logprob` is below `uncertain_logprob` is uncertain, and so is one in which the model says that
    nobody speaks; one without figures is not.

    Words without times become one segment over the whole chunk. Each text is one line in NFC
    (`app/texts/unsafe_characters.py`).
    Segments come in order of start, within the chunk; a segment without words is left out.
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
    raise UpstreamFailed("speech_nonsense")  # outside of the block: what pydantic raised may quote the words


def _mark_uncertain(segment: SpeechSegment, uncertain_logprob: float) -> SpeechSegment:
    logprob, no_speech = segment.figures.avg_logprob, segment.figures.no_speech_prob
    is_unsure = logprob is not None and logprob < uncertain_logprob
    is_silent = no_speech is not None and no_speech > UNCERTAIN_NO_SPEECH
    is_uncertain = bool(segment.text) and (is_unsure or is_silent)
    return replace(segment, is_uncertain=is_uncertain)


def strip_markers(text: str) -> str:
    """The text as one line without markers; empty where it is markers alone.

    A marker is what models write for sound that is no speech: `[BLANK_AUDIO]`, `(music)`, `*coughs*`, notes.
    """
    line = remove_unsafe_characters(text)
    if not any(one.isalnum() for one in _MARKER.sub(_keep_spoken, line)):
        return ""
    return remove_unsafe_characters(_TOKEN.sub(_drop_marker, line))


def _keep_spoken(marker: re.Match[str]) -> str:
    """What stays of a marker: an answer or a number, which somebody may have said."""
    inside = _marker_text(marker)
    return inside if inside in _ANSWERS or any(one.isdigit() for one in inside) else ""


def is_unintelligible(text: str) -> bool:
    """Whether it is markers alone, one of which says that somebody was not understood."""
    line = remove_unsafe_characters(text)
    if not any(map(_is_unintelligible_marker, _MARKER.finditer(line))):
        return False
    rest = _MARKER.sub(lambda one: "" if _is_unintelligible_marker(one) else _keep_spoken(one), line)
    return not any(map(str.isalnum, rest))


def is_loop(text: str, duration_ms: int) -> bool:
    """Whether it repeats the same words more often than anybody can say them in that time."""
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
    """The segment; without words if it is a loop, or a marker that says that nobody understood it."""
    text = strip_markers(one.text)
    has_no_text = is_unintelligible(one.text) or is_loop(text, end_ms - start_ms + TOLERANCE_MS)
    figures = Figures(_logprob(one.avg_logprob), _number(one.no_speech_prob), _number(one.compression_ratio))
    return SpeechSegment(
        start_ms, end_ms, "" if has_no_text else text, _speaker(one.speaker), has_no_text, figures
    )


def _mean_logprob(tokens: object) -> float | None:
    """The mean log probability of those tokens of a text that have one."""
    if not isinstance(tokens, list) or not tokens:
        return None
    given = [_logprob(one.get("logprob")) if isinstance(one, dict) else None for one in tokens]
    known = [one for one in given if one is not None]
    return sum(known) / len(known) if known else None


def _logprob(given: object) -> float | None:
    """The log probability. The lowest possible one for minus infinity and for NaN, which a model computes of sound
    that it cannot transcribe: neither may pass for certain."""
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
    """Starts and ends within the chunk. A segment whose start is odd lies between its neighbours.

    If starts go back, the fewest are odd: the longest row of starts that do not go back is kept.
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
    """The starts, None for those that go back, beyond the tolerance, in the row that keeps most of them."""
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
    """Whether more marks follow each other than any writing needs, where what nobody sees between them is gone."""
    visible = (kind for kind in map(unicodedata.category, text) if kind not in _INVISIBLE)
    runs = groupby(visible, key=lambda kind: kind.startswith("M"))
    return any(is_mark and sum(1 for _ in run) > MARKS_AT_ONCE for is_mark, run in runs)


def _code(language: str | None) -> str | None:
    given = (language or "").strip().lower()
    code = _NAMES.get(given, given)
    return code if re.fullmatch(r"[a-z]{2,3}", code) else None
