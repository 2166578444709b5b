"""Chooses the units that cover a consultation best in a number of words. Pure.

The choice estimates how often a note of a given length contains each word, and takes the units that share most words
with such a note. The estimate of a word decreases with each occurrence that is already chosen. The estimates are the
hand-written ones of `extract.vocabulary`; no estimate is learned from notes.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.insights.extract.clauses import Clause
from app.insights.extract.units import Unit
from app.insights.extract.vocabulary import CLINICAL, NOTE_WORDS, VOCABULARIES

_CONTENT: Final = 0.5
_CLINICAL: Final = 0.2
_REPEATED: Final = 0.12
_AGAIN: Final = 0.6
_CONVERSATION: Final = 0.02
_FUNCTION: Final = (1.0, 0.7, 0.15)

Weight = Callable[[Unit], float]


class WordValues:
    """The estimated probability that a note of `words` words contains each word of a consultation."""

    def __init__(self, clauses: Iterable[Clause], words: int) -> None:
        self._scale = words / NOTE_WORDS
        self._counts = Counter(key for clause in clauses for key in clause.keys)

    def value(self, key: str, language: str, occurrence: int) -> float:
        """Return the probability that a note contains the word at least `occurrence` times, from 1."""
        vocabulary = VOCABULARIES[language]
        expected = vocabulary.note_words.get(key)
        if expected is not None:
            share = occurrence / (expected * self._scale)
            return _FUNCTION[0 if share <= 0.5 else 1 if share <= 1 else 2]
        if key in vocabulary.conversation or (len(key) == 1 and not key.isdigit()):
            return _CONVERSATION
        once = _CONTENT + _CLINICAL * (key in CLINICAL) + _REPEATED * (self._counts[key] > 1)
        return float(once * _AGAIN ** (occurrence - 1))


def choose_units(
    units: Sequence[Unit],
    values: WordValues,
    words: int,
    *,
    limit: int | None = None,
    most: int | None = None,
    overhead: float = 1.0,
    weight: Weight = lambda _: 1.0,
) -> list[Unit]:
    """Return the chosen units, in order of the consultation.

    The choice ends where one more unit would lower the estimated agreement with a note of `words` words. The choice
    leaves out a unit that would exceed `limit` words, and ends with `most` units. The cost grows with n log n for n
    units. `overhead` is a number of words by which each unit counts as longer: with a larger one the choice prefers
    few long units.
    """
    choice = _Choice(values, weight, overhead)
    queue = [(-choice.rate(unit).density, index) for index, unit in enumerate(units)]
    heapq.heapify(queue)
    while queue:
        _, index = heapq.heappop(queue)
        rated = choice.rate(units[index])
        if queue and -rated.density > queue[0][0]:
            heapq.heappush(queue, (-rated.density, index))
            continue
        if len(choice.units) == most or choice.is_complete(rated, words):
            break
        if rated.words and (limit is None or choice.spaced_words + rated.spaced_words <= limit):
            choice.take(units[index], rated)
    return sorted(choice.units, key=lambda unit: unit.position)


@dataclass(frozen=True)
class _Rate:
    """The estimated number of shared words that a unit adds, and the number of words that it adds. `spaced_words`
    also counts each punctuation mark between spaces.
    """

    gain: float
    words: int
    spaced_words: int
    overhead: float

    @property
    def density(self) -> float:
        return self.gain / (self.words + self.overhead)


class _Choice:
    def __init__(self, values: WordValues, weight: Weight, overhead: float) -> None:
        self.units: list[Unit] = []
        self.words = 0
        self.spaced_words = 0
        self.agreement = 0.0
        self._values = values
        self._weight = weight
        self._overhead = overhead
        self._taken: Counter[str] = Counter()
        self._used: set[int] = set()

    def rate(self, unit: Unit) -> _Rate:
        added: Counter[str] = Counter()
        gain = 0.0
        clauses = [clause for clause in unit.clauses if clause.position not in self._used]
        for clause in clauses:
            for key in clause.keys:
                added[key] += 1
                gain += self._values.value(key, clause.language, self._taken[key] + added[key])
        spaced = sum(len(clause.text.split()) for clause in clauses)
        return _Rate(gain * self._weight(unit), added.total(), spaced, self._overhead)

    def is_complete(self, rated: _Rate, words: int) -> bool:
        """Return whether the unit would lower the agreement with a note of `words` words."""
        return self.words > 0 and rated.density <= self.agreement / (self.words + words)

    def take(self, unit: Unit, rated: _Rate) -> None:
        self.units.append(unit)
        self.words += rated.words
        self.spaced_words += rated.spaced_words
        self.agreement += rated.gain
        for clause in unit.clauses:
            if clause.position not in self._used:
                self._used.add(clause.position)
                self._taken.update(clause.keys)
