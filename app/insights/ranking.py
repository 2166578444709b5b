"""Ranks texts by the words of a question (BM25). Pure.

Words are compared by their stems (`reading.stem`), so that other forms, synonyms and the other language also match.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from app.insights.reading import read_passage

_K1: Final = 1.2
_B: Final = 0.5
_SHORTEST_SPELLED: Final = 4
_SAME: Final = {
    form: key
    for key, forms in {
        "foot": "foot feet pie pies", "leg": "leg legs pierna piernas", "knee": "knee knees rodilla rodillas",
        "head": "head cabeza", "back": "back espalda", "chest": "chest pecho", "eye": "eye eyes ojo ojos",
        "ear": "ear ears oido oidos", "hand": "hand hands mano manos", "arm": "arm arms brazo brazos",
        "throat": "throat garganta", "neck": "neck cuello", "eat": "eat ate eaten eating come comer comido",
        "fall": "fall fell fallen caida caer caido", "buy": "buy bought", "break": "break broke broken roto",
        "wear": "wear wore wearing worn", "diabetes": "diabetes diabetic diabetico diabetica",
        "fracture": "fracture fractures fractured fractura fracturas",
    }.items()
    for form in forms.split()
}  # fmt: skip
"""Words that mean the same in a question, beside `vocabulary.SYNONYMS`, which the checker uses, too."""


def question_keys(question: str) -> frozenset[str]:
    """Return the stems of the question's content words, and its numbers."""
    return frozenset(text_keys(question))


def text_keys(text: str) -> list[str]:
    """Return the stems of the content words of a text, and its numbers, in order."""
    tokens = read_passage(text).tokens
    return [
        token.word if token.is_number else _SAME.get(token.raw, token.stem)
        for token in tokens
        if token.is_number or token.is_content
    ]


def _is_similar(key: str, other: str) -> bool:
    return (
        len(other) >= _SHORTEST_SPELLED
        and abs(len(key) - len(other)) <= 1
        and key[:-1] == other[: len(key) - 1]
    )


class Ranking:
    """Some texts, and how rare each of their words is."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.counts = [Counter(text_keys(text)) for text in texts]
        self._lengths = [counts.total() for counts in self.counts]
        self._mean = max(1.0, sum(self._lengths) / max(1, len(self._lengths)))
        self._spread = Counter(key for counts in self.counts for key in counts)

    def rarity(self, key: str) -> float:
        """Return the inverse document frequency of the stem. It is highest for a stem that no text has."""
        spread = self._spread[key]
        return math.log(1 + (len(self.counts) - spread + 0.5) / (spread + 0.5))

    def spell(self, key: str) -> str:
        """Return the stem, or the stem of a text that differs only in its last letter if no text has it."""
        if self._spread[key] or len(key) < _SHORTEST_SPELLED:
            return key
        return next((each for each in sorted(self._spread) if _is_similar(key, each)), key)

    def score(self, place: int, keys: Iterable[str]) -> float:
        """Return the BM25 score of the text at the position."""
        counts = self.counts[place]
        norm = _K1 * (1 - _B + _B * self._lengths[place] / self._mean)
        return sum(
            self.rarity(key) * counts[key] * (_K1 + 1) / (counts[key] + norm) for key in keys if counts[key]
        )

    def rank(self, keys: Sequence[str] | frozenset[str]) -> list[int]:
        """Return the positions of the texts with a word of the question, best first."""
        scores = {place: self.score(place, keys) for place in range(len(self.counts))}
        return sorted(
            (place for place in scores if scores[place] > 0), key=lambda place: (-scores[place], place)
        )
