"""Writes chosen units as lines: the text of a line is its quotes, joined by a space. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

from app.insights.extract.clauses import Clause
from app.insights.extract.units import Unit
from app.insights.model import Citation, Line

_MAX_JOINED_WORDS: Final = 40


def write_lines(units: Sequence[Unit], texts: Mapping[int, str]) -> list[Line]:
    """Return the lines of the units, in order. `texts` maps each turn number to the turn's text.

    Neighbouring statements of a turn become one line of at most 40 words. A statement that already is the answer of a
    chosen question is not repeated.
    """
    answers = {clause.position for unit in units if unit.is_answered_question for clause in unit.clauses}
    runs: list[list[Clause]] = []
    for unit in sorted(units, key=lambda unit: unit.position):
        if unit.is_answered_question:
            runs.append(list(unit.clauses))
        elif unit.position not in answers:
            if runs and _continues(runs[-1], unit.clauses[0], answers):
                runs[-1].extend(unit.clauses)
            else:
                runs.append(list(unit.clauses))
    return [write_line(run, texts) for run in runs]


def write_line(clauses: Iterable[Clause], texts: Mapping[int, str]) -> Line:
    """Return one line that quotes the clauses. The clauses of one turn are neighbours and become one quote."""
    citations = []
    for number, group in groupby(clauses, key=lambda clause: clause.turn_number):
        quoted = list(group)
        citations.append(Citation(number, texts[number][quoted[0].start : quoted[-1].end]))
    return Line(" ".join(citation.quote for citation in citations), tuple(citations))


def _continues(run: Sequence[Clause], clause: Clause, answers: set[int]) -> bool:
    last = run[-1]
    words = sum(len(each.keys) for each in run) + len(clause.keys)
    is_neighbour = last.turn_number == clause.turn_number and last.position + 1 == clause.position
    return is_neighbour and last.position not in answers and words <= _MAX_JOINED_WORDS
