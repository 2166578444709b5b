"""Reads a line or a quote as normalized words with their stems and sentences. Pure."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from app.insights import vocabulary as known
from app.transcripts.search.normalization import normalize_text

_SENTENCE_END: Final = re.compile(
    r"(?<!\bmr)(?<!\bms)(?<!\bdr)(?<!\bmrs)[.?!;](?=\s|$)|\.{3}|\n", re.IGNORECASE
)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_SUFFIXES: Final = (
    "aciones", "amiento", "imiento", "ations", "acion", "ation", "iendo", "mente", "ments", "ando", "edly", "ings",
    "ment", "ness", "ing", "ity", "ado", "ada", "ido", "ida", "ous", "ion", "ed", "es", "ly", "al", "er", "ar", "ir",
    "os", "as", "ic", "e", "s", "y", "o", "a",
)  # fmt: skip
_SHORTEST_STEM: Final = 4
_LONGEST_STEM: Final = 7


@dataclass(frozen=True)
class Token:
    """A word of a text. `word` is its normalized form (`app.transcripts.search.normalization`) and `raw` its form in
    lower case. `stem` is equal for words of the same meaning, as far as the vocabulary and the suffixes tell.
    `sentence` is the position of its sentence in the text. `start` and `end` count characters of the text.
    """

    word: str
    raw: str
    stem: str
    sentence: int
    start: int
    end: int

    @property
    def is_number(self) -> bool:
        """Return whether the word is a number in digits."""
        return _NUMBER.fullmatch(self.word) is not None

    @property
    def is_content(self) -> bool:
        """Return whether the word says something about the content of a line: it is no number, function word, filler
        or word by which a note reports speech.
        """
        return not (self.is_number or self.raw in _EMPTY or self.word in _EMPTY) and len(self.word) > 1


_EMPTY: Final = known.FUNCTION_WORDS | known.NOTE_WORDS | known.FILLERS


@dataclass(frozen=True)
class Passage:
    """A text with its tokens, in order, and the additional readings of its words, such as 142 for `one forty two`."""

    text: str
    tokens: tuple[Token, ...]
    aliases: tuple[Token, ...]


def read_passage(text: str) -> Passage:
    """Return the text with its tokens."""
    read = normalize_text(text)
    ends = [match.start() for match in _SENTENCE_END.finditer(text)]

    def token(normalized: str, start: int, end: int) -> Token:
        raw = fold(text[start:end])
        return Token(normalized, raw, stem(raw), bisect_left(ends, start), start, end)

    return Passage(
        text,
        tuple(token(*word) for word in read.words),
        tuple(token(*word) for word in read.aliases),
    )


def fold(text: str) -> str:
    """Return the text in lower case, without accents and apostrophes."""
    return text.lower().translate(_FOLDED)


def stem(word: str) -> str:
    """Return the key of a folded word, which is equal for its other forms and its synonyms."""
    if word in known.SYNONYMS:
        return known.SYNONYMS[word]
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            word = word.removesuffix(suffix)
            break
    return known.SYNONYMS.get(word, word[:_LONGEST_STEM])


_FOLDED: Final = str.maketrans("áéíóúüàèìòù", "aeiouuaeiou", "'\u2019\u02bc")
