"""Hashes the words of transcripts and queries for the blind index. Pure.

The number of a word is its HMAC-SHA256 under the index key, truncated to 63 bits so that the number fits a positive
bigint. Two words may have the same number, which is harmless, because a search matches the decrypted text
afterwards. The index stores neither order nor counts. Without the index key, the index reveals how many distinct
words a transcript has, and which transcripts have words in common.
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
    """Return the numbers of all words in a text, including aliases."""
    return key.numbers(_words(text))


def hash_transcript(key: IndexKey, transcript: Transcript) -> frozenset[int]:
    """Return the numbers of all words in a transcript, which the index stores."""
    return key.numbers(word for turn in transcript.turns for word in _words(turn.text))


def _words(text: str) -> Iterator[str]:
    read = normalize_text(text)
    for each in (*read.words, *read.aliases):
        yield from each.normalized.split(" ")


def hash_query(key: IndexKey, query: Query) -> frozenset[int]:
    """Return the numbers of a query's words. A transcript matches only if it has all these numbers."""
    return key.numbers(query.words)
