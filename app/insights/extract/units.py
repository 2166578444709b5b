"""Joins a question with its answer, so that the extractive writer never quotes a question alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from app.insights.extract.clauses import MIN_WORDS, Clause
from app.insights.questions import find_answer
from app.transcripts.model import Speaker, Turn

MAX_QUESTION_WORDS: Final = 30
_MAX_WORDS: Final = 60


@dataclass(frozen=True, eq=False)
class Unit:
    """The smallest part that the writer quotes: a statement, or a question and the answer that follows it."""

    clauses: tuple[Clause, ...]
    is_answered_question: bool = False

    @property
    def position(self) -> int:
        """Return the position of the unit's first clause."""
        return self.clauses[0].position


def build_units(clauses: Sequence[Clause], turns: Sequence[Turn]) -> list[Unit]:
    """Return the statements with at least `MIN_WORDS` words, and the questions with their answers, in order.

    A question belongs to the answer if it is the last question of its turn, and the next turn with speech answers it.
    A question without an answer is no unit.
    """
    answered = _answered_numbers(turns)
    spoken = [list(group) for _, group in groupby(clauses, key=lambda clause: clause.turn_number)]
    found: list[Unit] = []
    for index, turn in enumerate(spoken):
        asked = _last_questions(turn)
        answer = _answer(turn, spoken[index + 1], answered) if asked and index + 1 < len(spoken) else None
        for clause in turn:
            is_statement = not clause.is_question and MIN_WORDS <= clause.word_count <= _MAX_WORDS
            if is_statement and not clause.is_backchannel and clause not in asked:
                found.append(Unit((clause,)))
        if answer is not None:
            found.append(Unit((*asked, answer), is_answered_question=True))
    return found


def _last_questions(turn: Sequence[Clause]) -> list[Clause]:
    """Return the questions at the end of the turn, at most `MAX_QUESTION_WORDS` words.

    If they have fewer than `MIN_WORDS` words, the clauses before them are added. If the turn does not have enough
    words, there is no question.
    """
    last = len(turn) - 1
    while last >= 0 and turn[last].is_backchannel and not turn[last].is_question:
        last -= 1
    first, words = last + 1, 0
    for index in range(last, -1, -1):
        is_part = turn[index].is_question or (first <= last and words < MIN_WORDS)
        if not is_part or words + turn[index].word_count > MAX_QUESTION_WORDS:
            break
        first = index
        words += turn[index].word_count
    return list(turn[first : last + 1]) if words >= MIN_WORDS else []


def _answered_numbers(turns: Sequence[Turn]) -> frozenset[int]:
    """Return the numbers of the turns that the turn with the next number answers."""
    ordered = sorted(turns, key=lambda turn: turn.number)
    answers = ((turn, find_answer(ordered, place)) for place, turn in enumerate(ordered))
    return frozenset(turn.number for turn, answer in answers if answer and answer.number == turn.number + 1)


def _answer(asking: Sequence[Clause], answering: Sequence[Clause], answered: frozenset[int]) -> Clause | None:
    """Return the first clause of the next turn. Return None if that asks back or is long, or if the same speaker, who
    is known, goes on. An answer of less than `MIN_WORDS` words must be in the turn that certainly is the answer.
    """
    first, asked = answering[0], asking[0]
    is_certain = asked.turn_number in answered and first.turn_number == asked.turn_number + 1
    if first.is_question or len(first.keys) > _MAX_WORDS or (first.word_count < MIN_WORDS and not is_certain):
        return None
    is_monologue = first.speaker == asked.speaker and first.speaker is not Speaker.UNKNOWN
    return None if is_monologue else first
