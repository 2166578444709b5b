"""Compares the words around a place of a line with the words around a place of a quote. Pure.

A quote often has several numbers, or both sides. The one that a line means is the one with the most similar words
around it.
"""

from typing import Final

from app.insights.reading import Passage, Token

_REACH_IN_LINE: Final = 4.0
_REACH_IN_QUOTE: Final = 4.0
_OTHER_SENTENCE: Final = 0.4
_MOST_WORDS_AWAY: Final = 25


def similarity_of_context(line: Passage, at: int, quote: Passage, place: int) -> float:
    """Return how similar the words around the position `at` of the line are to the words around the position `place`
    of the quote. A word counts the more, the nearer it is to both positions.
    """
    near = _nearness(quote, place)
    total = 0.0
    for position, token in enumerate(line.tokens):
        key = _key(token)
        if position != at and key in near:
            total += near[key] / (1 + abs(position - at) / _REACH_IN_LINE)
    return total


def _nearness(quote: Passage, place: int) -> dict[str, float]:
    near: dict[str, float] = {}
    sentence = quote.tokens[place].sentence
    first, last = max(0, place - _MOST_WORDS_AWAY), place + _MOST_WORDS_AWAY + 1
    for position in range(first, min(last, len(quote.tokens))):
        token = quote.tokens[position]
        key = _key(token)
        if position == place or not key:
            continue
        weight = 1 / (1 + abs(position - place) / _REACH_IN_QUOTE)
        if token.sentence != sentence:
            weight *= _OTHER_SENTENCE
        near[key] = max(near.get(key, 0.0), weight)
    return near


def _key(token: Token) -> str:
    """Return what two texts compare of the token, or "" if it says nothing about the content."""
    if token.is_number:
        return token.word
    return token.stem if token.is_content else ""
