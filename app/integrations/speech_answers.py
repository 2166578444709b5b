"""What a speech model says it heard, checked as a stranger's word.

It refuses what no honest answer about this piece of sound can be: another shape, times outside the piece or backwards,
more segments or characters than anybody speaks in that time, words in no segment. It repeats no word of an answer, not
in an error, not in a log, not in a `repr`. Whether the words are right it does not judge.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import UpstreamFailed
from app.settings import SpeechApi

EARLY_MS: Final = 1000
"""How far a segment may begin after the piece's end, or before the segment that it follows."""

LATE_MS: Final = 30_000
"""How far a segment may end after the piece's end: Whisper hears windows of 30 s, padded with silence, and its last
segment may end with the window (openai/whisper, `audio.py` and `transcribe.py`, checked 2026-11-21)."""

CHARACTERS_PER_MINUTE: Final = 3000
"""The fastest talkers come to about 2,000."""
SPARE_CHARACTERS: Final = 200
SEGMENTS_PER_MINUTE: Final = 120
SPARE_SEGMENTS: Final = 10

MARKS_AT_ONCE: Final = 30
"""How many may follow a letter, as in Unicode's Stream-Safe Text Format (UAX #15, checked 2026-11-22). Normalization
takes the square of a longer pile: 40,000 marks 2 s, of the whole process."""

_MOST_LISTED: Final = 3000
"""More than any piece has. What is listed beyond is refused unread, and at the first that is wrong: 4 MB of empty
objects came to 4 s and 2 GB of what pydantic had against each."""
_MAX_SPEAKER_CHARACTERS: Final = 64
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Co")
_NAMES: Final = {"english": "en", "spanish": "es"}
"""`verbose_json` names the language in English (openai/whisper, `tokenizer.py`), other servers give its code."""


@dataclass(frozen=True)
class HeardSegment:
    """Some words. Times are from the beginning of the piece; `speaker` is the vendor's label, None without one."""

    start_ms: int
    end_ms: int
    text: str = field(repr=False)
    speaker: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Heard:
    """What was heard in one piece, in order of start; nothing where nobody spoke.

    `language` is a code of ISO 639-1 or 639-3, None where the vendor named none.
    """

    segments: tuple[HeardSegment, ...]
    language: str | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)


class _Language(_Answer):
    code: str


class _Text(_Answer):
    text: str
    languages: Annotated[tuple[_Language, ...], Field(fail_fast=True, max_length=_MOST_LISTED)] | None = None


class _Segment(_Answer):
    start: Annotated[float, Field(ge=0, le=1e6)]
    end: Annotated[float, Field(ge=0, le=1e6)]
    text: str
    speaker: Annotated[str, Field(max_length=_MAX_SPEAKER_CHARACTERS)] | None = None


class _Timed(_Answer):
    text: str
    segments: Annotated[tuple[_Segment, ...], Field(fail_fast=True, max_length=_MOST_LISTED)] | None = None
    language: str | None = None


def understood(body: bytes, api: SpeechApi, duration_ms: int) -> Heard:
    """What this answer says about a piece of that length; raises UpstreamFailed("speech_nonsense").

    Words without times become one segment over the whole piece. Times a little outside are moved to its edge. The text
    is in NFC on one line, without control and formatting characters.
    """
    try:
        if api is SpeechApi.TEXT:
            return _plain(_Text.model_validate_json(body), duration_ms)
        return _timed(_Timed.model_validate_json(body), duration_ms)
    except ValidationError:
        pass
    raise UpstreamFailed("speech_nonsense")  # outside of the block: what pydantic raised may quote the words


def cleaned(text: str) -> str:
    """One line in NFC: white space is one space, control and formatting characters are gone."""
    visible = (
        " " if one.isspace() else one
        for one in text
        if one.isspace() or unicodedata.category(one) not in _INVISIBLE
    )
    return unicodedata.normalize("NFC", " ".join("".join(visible).split()))


def _plain(answer: _Text, duration_ms: int) -> Heard:
    _require_speakable((answer.text,), duration_ms)
    text = cleaned(answer.text)
    segments = (HeardSegment(0, duration_ms, text),) if text else ()
    return Heard(segments, _code(answer.languages[0].code) if answer.languages else None)


def _timed(answer: _Timed, duration_ms: int) -> Heard:
    said = answer.segments or ()
    if len(said) > SPARE_SEGMENTS + SEGMENTS_PER_MINUTE * duration_ms / 60_000:
        raise UpstreamFailed("speech_nonsense")
    for texts in ((answer.text,), [one.text for one in said]):
        _require_speakable(texts, duration_ms)
    _require_in_time(said, duration_ms)
    segments = [_segment(one, duration_ms) for one in said]
    heard = sorted((one for one in segments if one.text), key=lambda one: one.start_ms)
    if not heard and cleaned(answer.text):
        raise UpstreamFailed("speech_nonsense")
    return Heard(tuple(heard), _code(answer.language))


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


def _require_in_time(said: Sequence[_Segment], duration_ms: int) -> None:
    latest = 0.0
    for one in said:
        start_ms, end_ms = one.start * 1000, one.end * 1000
        if not max(start_ms, latest - EARLY_MS) == start_ms <= min(end_ms, duration_ms + EARLY_MS):
            raise UpstreamFailed("speech_nonsense")
        if end_ms > duration_ms + LATE_MS:
            raise UpstreamFailed("speech_nonsense")
        latest = max(latest, start_ms)


def _segment(one: _Segment, duration_ms: int) -> HeardSegment:
    start_ms, end_ms = (min(round(seconds * 1000), duration_ms) for seconds in (one.start, one.end))
    return HeardSegment(start_ms, end_ms, cleaned(one.text), cleaned(one.speaker or "") or None)


def _code(language: str | None) -> str | None:
    given = (language or "").strip().lower()
    code = _NAMES.get(given, given)
    return code if re.fullmatch(r"[a-z]{2,3}", code) else None
