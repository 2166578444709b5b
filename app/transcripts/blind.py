"""The blind index: which words a transcript has, for whoever holds the key. Pure, no I/O.

A word becomes HMAC-SHA256 under the index key, cut to 63 bits, so that it fits a positive bigint. Two words of one
number are possible and harmless: what the index finds is matched again on the decrypted words. It keeps neither
order nor counts; what it tells to somebody without the key is how many distinct words a transcript has, and which
transcripts share some.
"""

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from app.transcripts.folding import fold_text
from app.transcripts.model import Transcript
from app.transcripts.query import Query

KEY_BYTES: Final = 32
NO_WORD: Final = 0
"""The number that no word has: whoever looks for it finds nothing."""

_CUT_BYTES: Final = 8


@dataclass(frozen=True)
class IndexKey:
    """The key of an index; it is in no repr. Raises ValueError for one that has not 32 bytes."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"an index key has {KEY_BYTES} bytes")

    def numbers(self, folded: Iterable[str]) -> frozenset[int]:
        """The numbers of distinct folded words, each from 1 to 2^63 - 1."""
        return frozenset(self._number(word) for word in set(folded))

    def _number(self, word: str) -> int:
        digest = hmac.digest(self.secret, word.encode(), "sha256")
        return int.from_bytes(digest[:_CUT_BYTES]) >> 1 or 1


def blind_text(key: IndexKey, text: str) -> frozenset[int]:
    """The numbers of all words of a text, aliases included."""
    return key.numbers(_words(text))


def blind_transcript(key: IndexKey, transcript: Transcript) -> frozenset[int]:
    """The numbers of all words of a transcript: what is stored of it."""
    return key.numbers(word for turn in transcript.turns for word in _words(turn.text))


def _words(text: str) -> Iterator[str]:
    read = fold_text(text)
    for each in (*read.words, *read.aliases):
        yield from each.folded.split(" ")


def blind_query(key: IndexKey, query: Query) -> frozenset[int]:
    """The numbers that a transcript must have, all of them, for the query to match it."""
    return key.numbers(query.words)
