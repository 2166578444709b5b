"""Chooses the parts of a recording that are worth seeing. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.insights.drafts import Highlight, HighlightReason, Section
from app.insights.extract import cues as cues
from app.insights.extract.clauses import Clause
from app.insights.extract.lines import write_line
from app.insights.extract.units import Unit
from app.insights.extract.vocabulary import CLINICAL, VOCABULARIES
from app.transcripts.model import Speaker

MAX_HIGHLIGHTS: Final = 10
MAX_MOMENT_MS: Final = 25_000
"""The longest moment: a question, its answer and what follows from it."""
_SHORT_MOMENT_MS: Final = 8_000
_MAX_UNITS: Final = 40  # so that the cost stays linear if the times of the turns are wrong
_CLINICAL: Final = 5.0
_CUED: Final = 1.5
_MOST_COUNTED: Final = 4


@dataclass(frozen=True)
class _Moment:
    """A part of the recording of at most `MAX_MOMENT_MS`, and its units."""

    start_ms: int
    end_ms: int
    units: tuple[Unit, ...]


def find_highlights(
    units: Sequence[Unit], sections: Mapping[Unit, Section], texts: Mapping[int, str]
) -> list[Highlight]:
    """Return the moments that together say most of what matters, in order, at most `MAX_HIGHLIGHTS`.

    No two moments overlap. The line of a moment quotes its most important unit.
    """
    counts = Counter(key for unit in units for clause in unit.clauses for key in clause.keys)
    values = {unit: _word_values(unit, counts) for unit in units}
    moments = _moments(units)
    seen: set[str] = set()
    chosen: list[_Moment] = []
    while moments and len(chosen) < MAX_HIGHLIGHTS:
        best = max(moments, key=lambda moment: (_gain(moment, values, seen), -moment.start_ms))
        if _gain(best, values, seen) <= 0:
            break
        chosen.append(best)
        seen.update(key for unit in best.units for key in values[unit])
        moments = [each for each in moments if each.end_ms <= best.start_ms or best.end_ms <= each.start_ms]
    return [
        _highlight(moment, values, sections, texts)
        for moment in sorted(chosen, key=lambda each: each.start_ms)
    ]


def _moments(units: Sequence[Unit]) -> list[_Moment]:
    """Return the moments that begin with each unit: the longest one, and a short one that fits between others."""
    found: list[_Moment] = []
    for index in range(len(units)):
        longest = _moment(units, index, MAX_MOMENT_MS)
        short = _moment(units, index, _SHORT_MOMENT_MS)
        found.append(longest)
        if len(short.units) < len(longest.units):
            found.append(short)
    return [moment for moment in found if moment.end_ms > moment.start_ms]


def _moment(units: Sequence[Unit], index: int, most_ms: int) -> _Moment:
    start = units[index].clauses[0].start_ms
    until = start + most_ms
    end = min(units[index].clauses[-1].end_ms, start + MAX_MOMENT_MS)
    held = [units[index]]
    for position in range(index + 1, min(index + _MAX_UNITS, len(units))):
        later = units[position]
        if later.clauses[-1].end_ms > until or later.clauses[0].start_ms < start:
            break
        held.append(later)
        end = max(end, later.clauses[-1].end_ms)
    return _Moment(start, end, tuple(held))


def _word_values(unit: Unit, counts: Counter[str]) -> dict[str, float]:
    """Return the value of each content word of the unit. A word of allergies, of the history or of the assessment
    has more value, and so have clinical words and words that the consultation repeats.
    """
    text = " ".join(clause.text for clause in unit.clauses)
    cued = _CUED if any(cue.search(text) for cue in (cues.ALLERGY, cues.HISTORY, cues.ASSESSMENT)) else 1.0
    found: dict[str, float] = {}
    for clause in unit.clauses:
        words = VOCABULARIES[clause.language]
        for key in clause.keys:
            if key not in words.conversation and key not in words.note_words and not key.isdigit():
                repeated = 1 + min(counts[key], _MOST_COUNTED) / _MOST_COUNTED
                found[key] = (_CLINICAL if key in CLINICAL else 1.0) * repeated * cued
    return found


def _gain(moment: _Moment, values: Mapping[Unit, Mapping[str, float]], seen: set[str]) -> float:
    gained = {key: value for unit in moment.units for key, value in values[unit].items() if key not in seen}
    return sum(gained.values())


def _highlight(
    moment: _Moment,
    values: Mapping[Unit, Mapping[str, float]],
    sections: Mapping[Unit, Section],
    texts: Mapping[int, str],
) -> Highlight:
    best = max(moment.units, key=lambda unit: (sum(values[unit].values()), -unit.position))
    reason = _reason(best.clauses, sections[best])
    return Highlight(moment.start_ms, moment.end_ms, reason, write_line(best.clauses, texts))


def _reason(clauses: Sequence[Clause], section: Section) -> HighlightReason:
    text = " ".join(clause.text for clause in clauses)
    by_section = {
        Section.O: HighlightReason.FINDING,
        Section.A: HighlightReason.ASSESSMENT,
        Section.P: HighlightReason.PLAN,
    }
    if cues.ALLERGY.search(text):
        return HighlightReason.ALLERGY
    if section is Section.S and cues.MEDICATION.search(text):
        return HighlightReason.MEDICATION
    if section is Section.S:
        if cues.HISTORY.search(text):
            return HighlightReason.HISTORY
        is_unknown = any(clause.speaker is Speaker.UNKNOWN for clause in clauses)
        return HighlightReason.TOPIC if is_unknown else HighlightReason.SYMPTOM
    return by_section[section]
