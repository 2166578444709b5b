"""Splits reference notes into lines, and chooses the turns that a line cites."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from app.insights.flags.sides import SIDES
from app.insights.flags.words import is_drug
from app.insights.model import Citation
from app.insights.questions import find_answer
from app.insights.reading import Token, read_passage
from app.insights.vocabulary import DRUG_NAMES
from app.transcripts.model import Turn

_BULLET: Final = re.compile(r"^\s*(?:[\u2022*-]\s*|\d{1,2}[.)]\s+)+")
_ABBREVIATION: Final = r"(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bMrs)(?<!\by\.o)(?<!\bSra)(?<!\bSr)"
_SENTENCE_END: Final = re.compile(rf"{_ABBREVIATION}[.?!]\s+(?=[A-ZÁÉÍÓÚÑ¿])")
_FEWEST_WORDS: Final = 3
_LONGEST_HEADING: Final = 6
_WEIGHT_OF_EXACT: Final = 5
_POWER: Final = 3
_LENGTH_OFFSET: Final = 20
_EXACT: Final = "exact:"


def split_note(note: str) -> list[str]:
    """Return the sentences of a note with at least three words, without headings and bullets."""
    return [
        sentence.strip()
        for line in note.splitlines()
        if not _is_heading(stripped := _BULLET.sub("", line).strip())
        for sentence in _SENTENCE_END.sub(lambda end: end[0] + "\n", stripped).splitlines()
        if len(sentence.split()) >= _FEWEST_WORDS
    ]


def _is_heading(line: str) -> bool:
    is_short = len(line.split()) <= _LONGEST_HEADING and line[-1:] not in (".", "?", "!")
    return line.upper() == line or (is_short and not re.search(r"[\d:]", line))


class Citer:
    """Chooses the turns of a dialogue that a line cites, by the words that the line and a turn have in common. A word
    weighs the more, the fewer turns have it. Numbers, sides and drugs weigh five times as much.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._terms = [_count_terms(turn.text) for turn in turns]
        seen = Counter(term for terms in self._terms for term in terms)
        self._weights = {term: _weigh(term, len(turns) / count) for term, count in seen.items()}
        self._lengths = [math.sqrt(terms.total()) + _LENGTH_OFFSET for terms in self._terms]

    def cite(self, text: str) -> tuple[Citation, ...]:
        """Return citations of the most similar turn and, if this turn asks a question, of the answer."""
        terms = _count_terms(text).keys()
        best = max(range(len(self._turns)), key=lambda at: (self._similarity(terms, at), -at))
        answer = find_answer(self._turns, best)
        cited = [self._turns[best]] if answer is None else [self._turns[best], answer]
        return tuple(Citation(turn.number, turn.text) for turn in cited)

    def _similarity(self, terms: AbstractSet[str], at: int) -> float:
        shared = self._terms[at].keys() & terms
        return sum(self._weights[term] for term in shared) / self._lengths[at]


def _weigh(term: str, rarity: float) -> float:
    return (_WEIGHT_OF_EXACT if term.startswith(_EXACT) else 1) * math.log(1 + rarity) ** _POWER


def _count_terms(text: str) -> Counter[str]:
    passage = read_passage(text)
    return Counter(term for token in (*passage.tokens, *passage.aliases) if (term := _term(token)))


def _term(token: Token) -> str:
    if token.is_number:
        return _EXACT + token.word
    if token.raw in SIDES:
        return _EXACT + SIDES[token.raw].value
    if is_drug(token.raw):
        return _EXACT + min(DRUG_NAMES.get(token.raw, {token.raw}))
    return token.stem if token.is_content else ""
