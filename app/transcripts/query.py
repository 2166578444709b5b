"""What a person searches for: words that must all be there, and phrases in quotes. Pure, no I/O.

There is no other grammar: no OR, no wildcard, no minus. A word that folds into several (`500mg`, `covid-19`) is a
phrase of them. A quote that is never closed goes to the end.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from app.errors import InvalidInput
from app.transcripts.folding import fold

MAX_CHARACTERS: Final = 200
MAX_TERMS: Final = 10

_QUOTE: Final = '"“”„«»\uff02'
_TERM: Final = re.compile(rf"[{_QUOTE}]([^{_QUOTE}]*)[{_QUOTE}]?|([^\s{_QUOTE}]+)")


@dataclass(frozen=True)
class Query:
    """Distinct terms, each of one or more folded words that must follow each other within a turn."""

    terms: tuple[tuple[str, ...], ...] = field(repr=False)

    @property
    def words(self) -> frozenset[str]:
        """All folded words in it."""
        return frozenset(word for term in self.terms for word in term)

    @cached_property
    def needles(self) -> tuple[bytes, ...]:
        """Each term as it stands in the bytes of `stored.folded_words`."""
        return tuple(f" {' '.join(term)} ".encode() for term in self.terms)


def parse_query(text: str) -> Query:
    """What is searched for. Raises InvalidInput (search_too_long, search_too_many_terms, search_empty).

    At most 200 characters and 10 terms; what has no letter and no digit is no term.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput("search_too_long", longest=MAX_CHARACTERS)
    folded = (tuple(fold(match[1] or match[2] or "")) for match in _TERM.finditer(text))
    terms = tuple(dict.fromkeys(term for term in folded if term))
    if not terms:
        raise InvalidInput("search_empty")
    if len(terms) > MAX_TERMS:
        raise InvalidInput("search_too_many_terms", most=MAX_TERMS)
    return Query(terms)
