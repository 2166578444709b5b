"""Says what the insights of a recording do not cover. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from app.insights.extract import cues
from app.insights.extract.spans import WordKeys, split_text
from app.insights.flags.number_mentions import find_readings
from app.insights.flags.words import is_drug
from app.insights.model import Line
from app.insights.quotes import locate_quote
from app.insights.reading import read_passage
from app.insights.turn_order import TurnOrder
from app.transcripts.model import Speaker, Turn

MAX_UNCITED: Final = 500
_DOSE_UNITS: Final = frozenset(
    ["mg", "mcg", "gram", "ml", "meq", "unit", "tablet", "capsule", "pill", "puff", "drop", "dose", "tablespoon",
     "teaspoon"]
)  # fmt: skip


@dataclass(frozen=True)
class Coverage:
    """What part of a consultation the transcript, and therefore the insights, cover.

    `covered_ms` is the recorded time without unintelligible speech. `is_truncated` and `is_interrupted` are those of
    the recording. `unused_track_count` counts the sound tracks that were left out because they could not be decoded.
    `unknown_speaker_count` counts the turns of an unknown speaker.
    """

    covered_ms: int
    is_truncated: bool
    is_interrupted: bool
    unused_track_count: int
    unintelligible_count: int
    unknown_speaker_count: int
    turn_count: int

    @property
    def are_speakers_unknown(self) -> bool:
        """Return whether the speaker of a turn is unknown."""
        return self.unknown_speaker_count > 0


class UncitedKind(StrEnum):
    """A reason to read a turn that no line cites."""

    NUMBER = "NUMBER"
    DOSE = "DOSE"
    ALLERGY = "ALLERGY"
    MEDICATION = "MEDICATION"


@dataclass(frozen=True)
class UncitedTurn:
    """A turn that says a number, a dose, or something about an allergy or a medication that no line quotes. `quotes`
    are the parts of the turn that say it.
    """

    turn_number: int
    kinds: frozenset[UncitedKind]
    quotes: tuple[str, ...] = field(repr=False)


_Place = tuple[int, int]


def measure_coverage(
    turns: Iterable[Turn],
    *,
    duration_ms: int | None,
    is_truncated: bool,
    is_interrupted: bool,
    unused_track_count: int,
) -> Coverage:
    """Return the coverage of a transcript. `duration_ms` is the duration of the recording, or None if it is unknown.
    Then the recording lasts until the end of the last turn.
    """
    shown = TurnOrder(turns).turns
    unintelligible = [(turn.start_ms, turn.end_ms) for turn in shown if turn.is_unintelligible]
    recorded_ms = duration_ms or max((turn.end_ms for turn in shown), default=0)
    return Coverage(
        covered_ms=max(0, recorded_ms - _union_ms(unintelligible, recorded_ms)),
        is_truncated=is_truncated,
        is_interrupted=is_interrupted,
        unused_track_count=unused_track_count,
        unintelligible_count=len(unintelligible),
        unknown_speaker_count=sum(turn.speaker is Speaker.UNKNOWN for turn in shown),
        turn_count=len(shown),
    )


def find_uncited(turns: Sequence[Turn], lines: Iterable[Line]) -> tuple[UncitedTurn, ...]:
    """Return the turns with a number, a dose, an allergy or a medication that no quote of the lines contains, in order
    of start, at most `MAX_UNCITED`.
    """
    quotes: dict[int, list[str]] = {}
    for line in lines:
        for citation in line.citations:
            quotes.setdefault(citation.turn_number, []).append(citation.quote)
    keys = WordKeys()
    found: list[UncitedTurn] = []
    for turn in TurnOrder(turns).turns:
        places = [place for quote in quotes.get(turn.number, ()) if (place := locate_quote(quote, turn.text))]
        uncited = [
            (place, kind) for place, kind in _find_mentions(turn.text) if not _is_within(place, places)
        ]
        if uncited:
            found.append(_describe(turn, uncited, keys))
        if len(found) == MAX_UNCITED:
            break
    return tuple(found)


def _find_mentions(text: str) -> Iterable[tuple[_Place, UncitedKind]]:
    passage = read_passage(text)
    for mention in find_readings(passage):
        token = passage.tokens[mention.place]
        if mention.unit in _DOSE_UNITS:
            yield (token.start, token.end), UncitedKind.DOSE
        elif mention.is_certain and (mention.unit or mention.values != {1.0}):
            yield (token.start, token.end), UncitedKind.NUMBER
    for match in cues.ALLERGY.finditer(text):
        yield match.span(), UncitedKind.ALLERGY
    for match in cues.MEDICATION.finditer(text):
        yield match.span(), UncitedKind.MEDICATION
    for token in passage.tokens:
        if is_drug(token.raw):
            yield (token.start, token.end), UncitedKind.MEDICATION


def _describe(turn: Turn, uncited: Sequence[tuple[_Place, UncitedKind]], keys: WordKeys) -> UncitedTurn:
    parts = [
        turn.text[start:end].strip()
        for start, end in split_text(turn.text, keys)
        if any(start <= place[0] < end for place, _ in uncited)
    ]
    return UncitedTurn(turn.number, frozenset(kind for _, kind in uncited), tuple(parts))


def _is_within(place: _Place, places: Iterable[_Place]) -> bool:
    return any(start <= place[0] and place[1] <= end for start, end in places)


def _union_ms(spans: Iterable[_Place], until_ms: int) -> int:
    """Return the time that the spans cover together before `until_ms`."""
    covered = last = 0
    for start, end in sorted(spans):
        first, end = max(start, last), min(end, until_ms)
        covered += max(0, end - first)
        last = max(last, end)
    return covered
