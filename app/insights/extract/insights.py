"""The extractive writer: it makes the insights of a consultation out of quotes, without a language model. Pure.

Every line is quoted verbatim from a turn, or from a question and its answer. The same turns always give the same
insights. The cost grows about linearly with the number of turns.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from app.insights.drafts import Insights, NoteDraft, Section
from app.insights.extract import cues as cues
from app.insights.extract.actions import find_action_items
from app.insights.extract.choice import Weight, WordValues, choose_units
from app.insights.extract.clauses import split_clauses
from app.insights.extract.highlights import find_highlights
from app.insights.extract.lines import write_lines
from app.insights.extract.sections import assign_sections
from app.insights.extract.topics import find_chapters, find_topics
from app.insights.extract.units import Unit, build_units
from app.insights.extract.vocabulary import CLINICAL
from app.insights.model import Line
from app.transcripts.model import Turn

MAX_SUMMARY_WORDS: Final = 120
MAX_KEY_POINTS: Final = 8
_KEY_POINT_WORDS: Final = 160
_NOTE_WORDS: Final = 150
_NOTE_SHARE: Final = 0.2
_MAX_NOTE_WORDS: Final = 600
_OVERHEAD: Final = 2.0
_SHORT_OVERHEAD: Final = 6.0
_SAFETY: Final = 1.25
_ASSESSMENT: Final = 1.5
_OTHER: Final = 0.8
_SUMMARY_WEIGHTS: Final = {Section.S: 1.0, Section.O: 0.8, Section.A: 1.4, Section.P: 1.2}


def extract_insights(turns: Sequence[Turn], language: str | None = None) -> Insights:
    """Return the insights of the turns, which are in order of start. Without speech, the insights are empty.

    `language` is the ISO 639 code of the consultation's language, or None. A turn's own words decide first.
    """
    clauses = split_clauses(turns, language)
    units = build_units(clauses, turns)
    sections = assign_sections(units, clauses)
    texts = {turn.number: turn.text for turn in turns}

    def weight(unit: Unit) -> float:
        return (
            _note_weight(unit, sections[unit])
            * _SUMMARY_WEIGHTS[sections[unit]]
            * (1.0 if _is_clinical(unit) else 0.7)
        )

    key_points = choose_units(
        units,
        WordValues(clauses, _KEY_POINT_WORDS),
        _KEY_POINT_WORDS,
        most=MAX_KEY_POINTS,
        overhead=_SHORT_OVERHEAD,
        weight=weight,
    )
    spoken = sum(len(clause.keys) for clause in clauses)
    words = min(_MAX_NOTE_WORDS, _NOTE_WORDS + int(_NOTE_SHARE * spoken))
    note = choose_units(
        units,
        WordValues(clauses, words),
        words,
        overhead=_OVERHEAD,
        weight=lambda unit: _note_weight(unit, sections[unit]),
    )
    by_section = {
        section: tuple(write_lines([unit for unit in note if sections[unit] is section], texts))
        for section in Section
    }
    return Insights(
        summary=tuple(_summarize(units, WordValues(clauses, MAX_SUMMARY_WORDS), texts, weight)),
        key_points=tuple(write_lines(key_points, texts)),
        action_items=tuple(find_action_items(units, texts)),
        topics=tuple(find_topics(clauses)),
        chapters=tuple(find_chapters(clauses)),
        highlights=tuple(find_highlights(units, sections, texts)),
        note=NoteDraft(*(by_section[section] for section in Section)),
    )


def _summarize(
    units: Sequence[Unit], values: WordValues, texts: Mapping[int, str], weight: Weight
) -> list[Line]:
    """Return a summary of at most `MAX_SUMMARY_WORDS` words. A quote that joins two statements also contains the words
    between them, so the limit of the choice decreases until the lines fit.
    """
    limit = MAX_SUMMARY_WORDS
    while True:
        lines = write_lines(
            choose_units(
                units, values, MAX_SUMMARY_WORDS, limit=limit, overhead=_SHORT_OVERHEAD, weight=weight
            ),
            texts,
        )
        excess = sum(len(line.text.split()) for line in lines) - MAX_SUMMARY_WORDS
        if excess <= 0:
            return lines
        limit -= excess


def _note_weight(unit: Unit, section: Section) -> float:
    """Return the weight of the unit in a note. Allergies and medication weigh more, because their omission may harm.
    The assessment weighs more, because it is short. A unit without a clinical word or a number weighs less.
    """
    text = " ".join(clause.text for clause in unit.clauses)
    weight = 1.0 if _is_clinical(unit) else _OTHER
    if section is Section.A:
        weight *= _ASSESSMENT
    if cues.ALLERGY.search(text) or cues.MEDICATION.search(text):
        weight *= _SAFETY
    return weight


def _is_clinical(unit: Unit) -> bool:
    keys = [key for clause in unit.clauses for key in clause.keys]
    return any(key in CLINICAL or key.isdigit() for key in keys)
