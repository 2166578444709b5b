"""Answers a question about a consultation with quotes, without a language model. Pure.

The writer compares the words of the question with the turns and with the questions before them, and prefers quotes
that fit the kind of the question, such as a number for a dose.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from app.insights.extract.clauses import Clause, split_clauses
from app.insights.extract.lines import write_line
from app.insights.extract.question_kinds import Kind, find_kinds, read_quoted, topic_keys
from app.insights.extract.units import build_units
from app.insights.model import Line
from app.insights.questions import find_answer
from app.insights.ranking import Ranking, question_keys, text_keys
from app.insights.reading import fold
from app.transcripts.model import Turn

_OPEN: Final = re.compile(
    r"\b(?:what|which|where|when|who|how|que|cual|donde|cuando|quien|como|cuant[oa]s?)\b"
)
MAX_ANSWERS: Final = 3
_MAX_WORDS: Final = 36
_MIN_WORDS: Final = 3
_FEWEST_MATCHED: Final = 0.5
_SHARE_OF_BEST: Final = 0.85
_FIT: Final = 0.45
_MISFIT: Final = 0.25
_PAIR: Final = 0.2
_FEWEST_PAIRS: Final = 3
_SAME_QUESTION: Final = 0.6
_IN_QUESTION: Final = 0.9
_NEAR: Final = 0.3
_GENERIC: Final = 0.15
_PER_WORD: Final = 0.004
_EMPTY: Final = 0.5


@dataclass(frozen=True)
class _Candidate:
    """A possible answer: what it quotes, the question before it, and the text around it."""

    clauses: tuple[Clause, ...]
    question: str = field(repr=False)
    around: str = field(repr=False)

    @property
    def text(self) -> str:
        return " ".join(clause.text for clause in self.clauses)

    @property
    def is_answer(self) -> bool:
        """Return whether a question precedes the quote or is a part of it."""
        return bool(self.question) or self.clauses[0].is_question

    @property
    def is_unanswered(self) -> bool:
        """Return whether the quote ends with a question, or answers one such as `what` without a content word."""
        last = self.clauses[-1]
        is_open = _OPEN.search(fold(self.question or self.clauses[0].text)) is not None and self.is_answer
        return last.is_question or (is_open and not text_keys(last.text))


def answer_question(turns: Sequence[Turn], question: str, language: str | None = None) -> list[Line]:
    """Return the quotes that answer the question, best first, at most `MAX_ANSWERS`; nothing if the turns, which are
    in order of start, have no answer.
    """
    keys = question_keys(question)
    kinds = find_kinds(question)
    scoring = _Scoring(turns, question, keys, kinds)
    candidates = list(_find_candidates(turns, language))
    scored = [(score, place) for place, each in enumerate(candidates) if (score := scoring.score(each)) > 0]
    ranked = sorted(scored, key=lambda found: (-found[0], found[1]))
    texts = {turn.number: turn.text for turn in turns}
    found: list[Line] = []
    used: set[int] = set()
    for score, place in ranked:
        positions = {clause.position for clause in candidates[place].clauses}
        if len(found) == MAX_ANSWERS or score < _SHARE_OF_BEST * ranked[0][0]:
            break
        if used.isdisjoint(positions):
            used |= positions
            found.append(write_line(candidates[place].clauses, texts))
    return found


class _Scoring:
    """How well a candidate answers one question."""

    def __init__(
        self, turns: Sequence[Turn], question: str, keys: frozenset[str], kinds: Sequence[Kind]
    ) -> None:
        ranking = Ranking(turn.text for turn in turns)
        topic = topic_keys(keys, kinds)
        self._keys = keys
        self._topic = {ranking.spell(key): ranking.rarity(ranking.spell(key)) for key in topic}
        self._generic = keys - topic
        self._total = sum(self._topic.values())
        self._kinds = kinds
        self._pairs = _pairs(question)

    def score(self, candidate: _Candidate) -> float:
        """Return a number that is higher for a better answer, or 0 for none."""
        quoted = read_quoted(candidate.text)
        fitting = [kind for kind in self._kinds if kind.fits(quoted)]
        said, asked = set(text_keys(candidate.text)), set(text_keys(candidate.question))
        shared = len(self._pairs & (_pairs(candidate.text) | _pairs(candidate.question)))
        share = self._share(candidate, said, asked, fitting, shared)
        if share == 0:
            return 0.0
        generic = len(self._generic & (said | asked))
        adds_nothing = said <= self._keys | self._topic.keys() and not candidate.is_answer
        return (
            share
            + (_FIT * len(fitting) if fitting else -_MISFIT * bool(self._kinds))
            + _PAIR * shared
            + _GENERIC * generic
            - _PER_WORD * len(quoted.folded.split())
            - _EMPTY * (candidate.is_unanswered or adds_nothing)
        )

    def _share(
        self, candidate: _Candidate, said: set[str], asked: set[str], fitting: Sequence[Kind], shared: int
    ) -> float:
        """Return how much of the question's subject the candidate is about, from 0 to 1."""
        if not self._topic:
            is_same_question = shared >= max(_FEWEST_PAIRS, _SAME_QUESTION * len(self._pairs))
            return float(is_same_question or any(kind.is_sufficient for kind in fitting))
        near = self._weigh(set(text_keys(candidate.around))) / self._total
        share = (self._weigh(said) + _IN_QUESTION * self._weigh(asked - said)) / self._total
        is_related = (
            fitting
            and near >= 1
            and (share > 0 or shared >= _FEWEST_PAIRS or candidate.clauses[0].is_question)
        )
        if share < _FEWEST_MATCHED and not is_related:
            return 0.0
        return share + _NEAR * max(0.0, near - share)

    def _weigh(self, keys: set[str]) -> float:
        return sum(weight for key, weight in self._topic.items() if key in keys)


def _find_candidates(turns: Sequence[Turn], language: str | None) -> Iterator[_Candidate]:
    clauses = split_clauses(turns, language)
    by_turn: dict[int, list[Clause]] = {}
    for clause in clauses:
        by_turn.setdefault(clause.turn_number, []).append(clause)
    asked = _questions_before(turns, by_turn)
    places = {turn.number: place for place, turn in enumerate(turns)}
    for unit in build_units(clauses, turns):
        if unit.is_answered_question:
            place = places[unit.clauses[0].turn_number]
            yield _Candidate(unit.clauses, "", _around(turns, place))
    for number, spoken in by_turn.items():
        around = _around(turns, places[number])
        for first in range(len(spoken)):
            yield from _windows(spoken[first:], asked.get(number, ""), around)


def _windows(clauses: Sequence[Clause], question: str, around: str) -> Iterator[_Candidate]:
    """Yield the runs of at most `_MAX_WORDS` words that begin with the first clause."""
    words = 0
    for count, clause in enumerate(clauses, start=1):
        words += clause.word_count
        if words > _MAX_WORDS and count > 1:
            break
        if words >= _MIN_WORDS:
            yield _Candidate(tuple(clauses[:count]), question, around)


def _questions_before(turns: Sequence[Turn], by_turn: Mapping[int, Sequence[Clause]]) -> dict[int, str]:
    """Return the text of the question that each answer is given to: the last questions of the turn before it."""
    answers = ((turn, find_answer(turns, place)) for place, turn in enumerate(turns))
    return {
        answer.number: " ".join(clause.text for clause in _last_questions(by_turn.get(turn.number, ())))
        for turn, answer in answers
        if answer is not None
    }


def _last_questions(clauses: Sequence[Clause]) -> Sequence[Clause]:
    """Return the last questions of a turn, or all its clauses if none is known to be a question."""
    places = [place for place, clause in enumerate(clauses) if clause.is_question]
    first = places[-1] if places else 0
    while first - 1 in places:
        first -= 1
    return clauses[first:]


def _around(turns: Sequence[Turn], place: int) -> str:
    return " ".join(turn.text for turn in turns[max(0, place - 4) : place + 2])


def _pairs(text: str) -> set[tuple[str, str]]:
    words = "".join(char if char.isalnum() else " " for char in fold(text)).split()
    return set(pairwise(words))
