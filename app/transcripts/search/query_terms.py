"""Parses a search query. A transcript must contain all words of the query, and all its phrases in quotes. Pure.

The syntax of search queries has no OR, no wildcard, and no minus sign that excludes words. If a word such as
`500mg` or `covid-19` becomes several normalized words, it counts as a phrase of these words. If several words, such
as `one hundred forty two`, become one normalized word, they are one term of the query. If a quotation mark in a
query is not closed, the phrase extends to the end of the query.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from app.errors import InvalidInput
from app.transcripts.search.normalization import normalize_query

MAX_CHARACTERS: Final = 200
MAX_TERMS: Final = 10

_QUOTE: Final = '"“”„«»\uff02'
_SPACE: Final = re.compile(r"\s")
_TERM: Final = re.compile(rf"[{_QUOTE}]([^{_QUOTE}]*)[{_QUOTE}]?|([^{_QUOTE}]+)")


@dataclass(frozen=True)
class Query:
    """A parsed search query: a list of distinct terms. A term is one normalized word, or several that must follow
    each other within one turn of a transcript.
    """

    terms: tuple[tuple[str, ...], ...] = field(repr=False)

    @property
    def words(self) -> frozenset[str]:
        """Return all normalized words of the query."""
        return frozenset(word for term in self.terms for word in term)

    @cached_property
    def needles(self) -> tuple[bytes, ...]:
        """Return each term as bytes, in the format of `transcript_format.format_normalized_words`."""
        return tuple(f" {' '.join(term)} ".encode() for term in self.terms)


def parse_query(text: str) -> Query:
    """Return the parsed query. Raises InvalidInput (search_too_long, search_too_many_terms, search_empty).

    A query has at most 200 characters and 10 terms. A part of a query without any letter or digit is not a term.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput("search_too_long", maximum=MAX_CHARACTERS)
    terms = tuple(dict.fromkeys(term for match in _TERM.finditer(text) for term in _terms(match)))
    if not terms:
        raise InvalidInput("search_empty")
    if len(terms) > MAX_TERMS:
        raise InvalidInput("search_too_many_terms", maximum=MAX_TERMS)
    return Query(terms)


def _terms(match: re.Match[str]) -> Iterator[tuple[str, ...]]:
    """Yield the terms of a phrase in quotes, or of the text between two phrases."""
    if match[2] is None:
        phrase = tuple(word.normalized for word in normalize_query(match[1], is_phrase=True))
        if phrase:
            yield phrase
        return
    term: list[str] = []
    end = 0
    for word in normalize_query(match[2], is_phrase=False):
        if term and _SPACE.search(match[2], end, word.start):
            yield tuple(term)
            term = []
        term.append(word.normalized)
        end = word.end
    if term:
        yield tuple(term)
