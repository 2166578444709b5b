"""Compares the sides of the body in a line with those in its quotes. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from app.insights.flags.alignment import similarity_of_context
from app.insights.flags.polarity_words import NEGATIONS
from app.insights.reading import Passage


class Side(Enum):
    """A side of the body."""

    LEFT = "left"
    RIGHT = "right"
    BOTH = "both"


SIDES: Final = {
    **dict.fromkeys(["left", "lefts", "izquierda", "izquierdo", "izquierdas", "izquierdos"], Side.LEFT),
    **dict.fromkeys(["right", "derecha", "derecho", "derechas", "derechos"], Side.RIGHT),
    **dict.fromkeys(
        ["both", "bilateral", "bilaterally", "ambas", "ambos", "bilateralmente", "bilaterales"], Side.BOTH
    ),
}
_NOT_RIGHT_AFTER: Final = frozenset(
    ["all", "that", "is", "thats", "its", "quite", "be", "alright", "youre", "im", "sounds"]
)
_NOT_RIGHT_BEFORE: Final = frozenset(
    ["now", "away", "after", "before", "here", "there", "about", "then", "over", "back", "on", "when"]
)
_NOT_LEFT_BEFORE: Final = frozenset(["the", "my", "her", "his", "for", "with", "to", "home", "it", "over"])
_MARGIN: Final = -0.1
_MARGIN_OF_BOTH: Final = 0.1
_NEGATED: Final = 0.5
_WORDS_OF_CHOICE: Final = 2
_MOST_WORDS_BEFORE: Final = 6
_LINKS: Final = frozenset({"but", "and", "pero", "y"})


def find_sides(passage: Passage) -> Iterator[tuple[int, Side]]:
    """Yield the sides of a passage with their positions. `right` in `all right` or `right now` is no side."""
    for place, token in enumerate(passage.tokens):
        side = SIDES.get(token.raw)
        if side is not None and not _is_other_word(passage, place, token.raw):
            yield place, side


def lacks_side(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether the line has a side that no quote contains."""
    said = {side for quote in quotes for _, side in find_sides(quote)}
    return any(side not in said for _, side in find_sides(line) if side is not Side.BOTH)


def differs_in_side(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether a side of the line is not in the quotes, or whether the words around it stand there beside the
    other side.
    """
    said = [(quote, *each) for quote in quotes for each in _find_answered_sides(quote)]
    own = [(at, side) for at, side in find_sides(line) if side is not Side.BOTH]
    margin = _MARGIN if len({side for _, side in own}) == 1 else _MARGIN_OF_BOTH
    return any(_differs(line, at, side, said, margin) for at, side in own)


def _differs(
    line: Passage, at: int, side: Side, said: Sequence[tuple[Passage, int, Side]], margin: float
) -> bool:
    fits = {Side.LEFT: -1.0, Side.RIGHT: -1.0, Side.BOTH: -1.0}
    is_denied = _is_negated(line, at)
    for quote, place, each in said:
        fit = similarity_of_context(line, at, quote, place)
        if _is_negated(quote, place) != is_denied:
            fit -= _NEGATED
        fits[each] = max(fits[each], fit)
    other = Side.RIGHT if side is Side.LEFT else Side.LEFT
    return fits[side] <= -1.0 or fits[other] > fits[side] + margin


def _find_answered_sides(quote: Passage) -> Iterator[tuple[int, Side]]:
    """Yield the sides of a quote, except those of a question such as `left or right?`."""
    found = list(find_sides(quote))
    choices = {
        place
        for (first, side), (second, other) in itertools.pairwise(found)
        if side is not other
        and second - first == _WORDS_OF_CHOICE
        and quote.tokens[first + 1].raw in ("or", "o")
        for place in (first, second)
    }
    return iter(each for each in found if each[0] not in choices)


def _is_negated(passage: Passage, place: int) -> bool:
    """Return whether a negation stands before the position, in its sentence and within a few words."""
    sentence = passage.tokens[place].sentence
    for token in reversed(passage.tokens[max(0, place - _MOST_WORDS_BEFORE) : place]):
        if token.sentence != sentence or token.raw in _LINKS:
            return False
        if token.raw in NEGATIONS:
            return True
    return False


def _is_other_word(passage: Passage, place: int, raw: str) -> bool:
    before = passage.tokens[place - 1].raw if place else ""
    after = passage.tokens[place + 1].raw if place + 1 < len(passage.tokens) else ""
    if raw == "right":
        return before in _NOT_RIGHT_AFTER or after in _NOT_RIGHT_BEFORE
    return raw == "left" and after in _NOT_LEFT_BEFORE
