"""Compares the rare words and the content words of a line with those of its quotes. Pure."""

from collections.abc import Sequence
from typing import Final

from app.insights import vocabulary as known
from app.insights.reading import Passage, Token

_SHORTEST_DRUG: Final = 6
_FEWEST_CONTENT_WORDS: Final = 6
_HIGHEST_DIFFERENCE: Final = 0.34


def has_unquoted_drug(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether the line names a drug that no quote names, not even by another name or spelling."""
    said = {token.raw for quote in quotes for token in quote.tokens}
    return any(is_drug(token.raw) and not _is_said(token.raw, said) for token in line.tokens)


def is_weakly_supported(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether the line has several content words and the quotes have none of them."""
    said = {_key(token) for quote in quotes for token in quote.tokens}
    content = {_key(token) for token in line.tokens if token.is_content or token.is_number}
    return len(content) >= _FEWEST_CONTENT_WORDS and said.isdisjoint(content)


def _key(token: Token) -> str:
    return token.word if token.is_number else token.stem


def is_drug(word: str) -> bool:
    """Return whether the folded word is the name of a common drug or ends as the names of drugs do."""
    if word in known.DRUGS:
        return True
    is_long = len(word) >= _SHORTEST_DRUG and word not in known.NOT_DRUGS
    return is_long and word.endswith(known.DRUG_ENDINGS)


def _is_said(drug: str, said: set[str]) -> bool:
    names = {drug, *known.DRUG_NAMES.get(drug, ())}
    return any(word in names or _is_similar(drug, word) for word in said)


def _is_similar(drug: str, word: str) -> bool:
    """Return whether the word may be a misheard or differently spelled form of the drug."""
    if len(word) < _SHORTEST_DRUG - 1 or word[0] != drug[0]:
        return False
    return _distance(drug, word) <= len(drug) * _HIGHEST_DIFFERENCE


def _distance(first: str, second: str) -> int:
    """Return the Levenshtein distance of the two words."""
    row = list(range(len(second) + 1))
    for number, left in enumerate(first, start=1):
        before, row[0] = row[0], number
        for place, right in enumerate(second, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (left != right))
    return row[-1]
