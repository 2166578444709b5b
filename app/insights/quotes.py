"""Finds a quote in the text of a turn, word by word. Pure.

Case, spaces, punctuation and fillers such as `uh` make no difference. The result is the text's own words, so that a
reader sees what the transcript says.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.insights.vocabulary import FILLERS

_TOKEN: Final = re.compile(r"[^\W_]+(?:['\u2019\u02bc][^\W_]+|\s+n['\u2019\u02bc]t\b)*")
_NO_LETTER: Final = re.compile(r"[\W_]+")
_SIGN_BEFORE: Final = re.compile(r"[\u00bf\u00a1$\u20ac<>~+\-\u2212]+$")
_SIGN_AFTER: Final = re.compile(r"\s?[%\u00b0]|\?")


@dataclass(frozen=True)
class Word:
    """A word in lower case. `start` and `end` count characters of the text. `do n't` and `don't` are one word."""

    key: str
    start: int
    end: int

    @property
    def is_filler(self) -> bool:
        """Return whether the word is a sound such as `uh`."""
        return self.key in FILLERS


def split_words(text: str) -> list[Word]:
    """Return the words of the text, in order."""
    folded, starts, ends = _fold(text)
    return [
        Word(_NO_LETTER.sub("", match[0]), starts[match.start()], ends[match.end() - 1])
        for match in _TOKEN.finditer(folded)
    ]


def locate_quote(quote: str, text: str) -> tuple[int, int] | None:
    """Return where the text has the words of the quote, in their order and without other words between them.

    The result is the start and the end, in characters of the text, or None. Fillers are left out of both, unless the
    quote has nothing else, as in the answer `mm-hmm`.
    """
    words, said = split_words(quote), split_words(text)
    if not all(word.is_filler for word in words):
        words, said = without_fillers(words), without_fillers(said)
    keys = " ".join(word.key for word in words)
    joined = f" {' '.join(word.key for word in said)} "
    at = joined.find(f" {keys} ") if keys else -1
    if at < 0:
        return None
    first = joined.count(" ", 0, at)
    exact = text.find(quote.strip())
    start, end = said[first].start, said[first + len(words) - 1].end
    if exact >= 0 and exact <= start and end <= exact + len(quote.strip()):
        return exact, exact + len(quote.strip())
    return _with_signs(text, start, end)


def without_fillers(words: Sequence[Word]) -> list[Word]:
    """Return the words that are no fillers."""
    return [word for word in words if not word.is_filler]


def _with_signs(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span with the signs that belong to its first and last word, as in `<50 %`."""
    before = _SIGN_BEFORE.search(text, 0, start)
    after = _SIGN_AFTER.match(text, end)
    return before.start() if before else start, after.end() if after else end


def _fold(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Return the text in compatibility form and lower case. For each of its characters, also return the start and the
    end of its origin in `text`.
    """
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    cuts = [place for place, char in enumerate(text) if place == 0 or not unicodedata.combining(char)]
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in pairwise([*cuts, len(text)]):
        part = unicodedata.normalize("NFKC", text[start:end]).casefold()
        folded.append(part)
        starts.extend([start] * len(part))
        ends.extend([end] * len(part))
    return "".join(folded), starts, ends
