"""Hashes the words of transcripts and queries for the blind index. Pure.

The index number of a word is its HMAC-SHA256 under the index key, truncated to 63 bits so that it fits a positive
bigint. Two words may have the same index number. A coincidence of two numbers is harmless, because the search
afterwards matches the decrypted text. The word index stores neither the order of the words nor how often each word
occurs. To a reader without the index key, the index reveals only how many distinct words a transcript has, and
which transcripts have words in common.
"""

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from app.transcripts.model import Transcript
from app.transcripts.search.normalization import normalize_text
from app.transcripts.search.query_terms import Query

KEY_BYTES: Final = 32
NO_WORD: Final = 0
"""The number that no word has, so searching for it finds nothing."""

_HASH_BYTES: Final = 8


@dataclass(frozen=True)
class IndexKey:
    """The key of the word index, which its repr hides. Raises ValueError if the key does not have 32 bytes."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"an index key has {KEY_BYTES} bytes")

    def numbers(self, normalized: Iterable[str]) -> frozenset[int]:
        """Return the index numbers of the distinct normalized words, each from 1 to 2^63 - 1."""
        return frozenset(self._number(word) for word in set(normalized))

    def _number(self, word: str) -> int:
        digest = hmac.digest(self.secret, word.encode(), "sha256")
        return int.from_bytes(digest[:_HASH_BYTES]) >> 1 or 1


def hash_text(key: IndexKey, text: str) -> frozenset[int]:
    """Return the index numbers of all words in a text, including those of aliases."""
    return key.numbers(_words(text))


def hash_transcript(key: IndexKey, transcript: Transcript) -> frozenset[int]:
    """Return the numbers that the index stores for a transcript: one for each distinct word."""
    return key.numbers(word for turn in transcript.turns for word in _words(turn.text))


def _words(text: str) -> Iterator[str]:
    read = normalize_text(text)
    for each in (*read.words, *read.aliases):
        yield from each.normalized.split(" ")


def hash_query(key: IndexKey, query: Query) -> frozenset[int]:
    """Return the index numbers of the words in a search query. A transcript can match a query only if it has the
    index numbers of all words of the query.
    """
    return key.numbers(query.words)
