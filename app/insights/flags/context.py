"""Compares whom and which time a line is about with its quotes. Pure."""

import itertools
from collections.abc import Sequence
from typing import Final

from app.insights import vocabulary as known
from app.insights.reading import Passage

_FEWEST_SHARED: Final = 2
_MOST_WORDS_BEHIND: Final = 8
_BROADER: Final = {
    "mother": "parent", "father": "parent", "sister": "sibling", "brother": "sibling", "son": "child",
    "daughter": "child", "grandmother": "grandparent", "grandfather": "grandparent", "wife": "partner",
    "husband": "partner",
}  # fmt: skip
_USED_TO: Final = ("used", "to")
_SPANISH_USED_TO: Final = frozenset({"solia", "solian"})


def differs_in_person(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether the line names a relative whom no quote names, or speaks of the patient although the quotes say
    of a relative all that the line shares with them.
    """
    named = _find_relatives(line)
    if named:
        said = {relative for quote in quotes for relative in _find_relatives(quote)}
        if not said and any(token.raw in known.REPORTS for token in line.tokens):
            return False
        return not named <= said | {_BROADER[narrow] for narrow in said if narrow in _BROADER}
    if any(token.raw in known.FAMILY for token in line.tokens):
        return False
    return _is_said_of_relative(line, quotes)


def differs_in_time(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether the line is about the past and the quotes are only about the present, or the other way round."""
    is_past, is_present = _has(line, known.PAST), _has(line, known.PRESENT)
    said_past = any(_has(quote, known.PAST) or _has_used_to(quote) for quote in quotes)
    said_present = any(_has(quote, known.PRESENT) for quote in quotes)
    if is_past and not is_present:
        return not said_past and (said_present or not any(_has(quote, known.PAST_VERBS) for quote in quotes))
    if _has_last(line) and not any(_has(quote, known.LAST) for quote in quotes):
        return True
    return is_present and not is_past and said_past and not said_present


def _find_relatives(passage: Passage) -> set[str]:
    return {known.RELATIVES[token.raw] for token in passage.tokens if token.raw in known.RELATIVES}


def _is_said_of_relative(line: Passage, quotes: Sequence[Passage]) -> bool:
    content = {token.stem for token in line.tokens if token.is_content}
    shared: dict[str, bool] = {}
    for quote in quotes:
        behind = _find_words_behind_relatives(quote)
        for place, token in enumerate(quote.tokens):
            if token.stem in content:
                shared[token.stem] = shared.get(token.stem, True) and place in behind
    return len(shared) >= _FEWEST_SHARED and all(shared.values())


def _find_words_behind_relatives(quote: Passage) -> set[int]:
    """Return the positions of the words that follow a relative, up to a word such as `me`."""
    found: set[int] = set()
    left = 0
    for place, token in enumerate(quote.tokens):
        is_next_sentence = place > 0 and token.sentence != quote.tokens[place - 1].sentence
        if token.raw in known.RELATIVES:
            left = _MOST_WORDS_BEHIND
        elif token.raw in known.SELF or is_next_sentence:
            left = 0
        elif left:
            found.add(place)
            left -= 1
    return found


def _has(passage: Passage, words: frozenset[str]) -> bool:
    return any(token.raw in words for token in passage.tokens)


def _has_last(passage: Passage) -> bool:
    """Return whether the passage has a time such as `last year`."""
    pairs = itertools.pairwise(token.raw for token in passage.tokens)
    return any(first == "last" and second in known.PERIODS for first, second in pairs)


def _has_used_to(passage: Passage) -> bool:
    raws = [token.raw for token in passage.tokens]
    return _USED_TO in itertools.pairwise(raws) or not _SPANISH_USED_TO.isdisjoint(raws)
