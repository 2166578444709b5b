"""Transcripts to search: half an hour each, of invented English and Spanish words with a natural frequency
distribution.

The vocabulary has 20,000 words, some with accents. The n-th word occurs about 1/n as often as the first, and one
occurrence in eight is a plural. Fixed seeds determine all random choices, so every run has the same transcripts.
The code of `app/transcripts` encrypts and indexes the transcripts. The module caches the folded form of each word,
because folding every occurrence would take half an hour.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import accumulate
from typing import Final
from uuid import UUID

from app.keys.keyring import DataKey, Keyring
from app.transcripts import encryption
from app.transcripts.model import Speaker, Transcript, Turn
from app.transcripts.search import normalization
from app.transcripts.search.word_index import IndexKey, hash_transcript
from app.transcripts.transcript_format import format_transcript

WORDS: Final = 4_500
VOCABULARY: Final = 20_000

_ONSETS: Final = (
    "b",
    "br",
    "c",
    "ch",
    "d",
    "f",
    "g",
    "gr",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "r",
    "s",
    "st",
    "t",
    "tr",
)
_NUCLEI: Final = ("a", "e", "i", "o", "u", "ea", "ou", "ie", "á", "é", "í", "ó", "ú")
_ENDS: Final = ("", "", "", "", "n", "r", "l", "t", "d", "ción", "ing")
_NUCLEUS_WEIGHTS: Final = (8,) * 5 + (3,) * 3 + (1,) * 5
_SHORTEST_TURN, _LONGEST_TURN = 2, 28
_MILLISECONDS_A_WORD: Final = 400
_PLURALS: Final = 1 / 8

normalization._split_token = lru_cache(maxsize=None)(normalization._split_token)  # noqa: SLF001 - see above


@dataclass(frozen=True)
class Kept:
    """A transcript as it is stored, and its text in clear for the reference search."""

    sealed: bytes = field(repr=False)
    key: DataKey
    terms: list[int] = field(repr=False)
    text: str = field(repr=False)


@cache
def vocabulary() -> tuple[str, ...]:
    """Return distinct words, most frequent first. Frequent words are short, as in natural languages."""
    drawing = random.Random("vocabulary")  # noqa: S311 - the same each time
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        syllables = 1 + min(3, len(found) * 12 // VOCABULARY + drawing.randrange(2))
        pieces = (
            drawing.choice(_ONSETS) + drawing.choices(_NUCLEI, _NUCLEUS_WEIGHTS)[0] for _ in range(syllables)
        )
        found["".join(pieces) + drawing.choice(_ENDS)] = None
    return tuple(found)


@cache
def _weights() -> tuple[float, ...]:
    return tuple(accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY)))


def spoken(number: int) -> Transcript:
    """Return the transcript with this number."""
    drawing = random.Random(f"transcript {number}")  # noqa: S311 - the same each time
    drawn = drawing.choices(vocabulary(), cum_weights=_weights(), k=WORDS)
    said = [f"{word}s" if drawing.random() < _PLURALS else word for word in drawn]
    turns: list[Turn] = []
    at = 0
    while at < WORDS:
        until = min(at + drawing.randint(_SHORTEST_TURN, _LONGEST_TURN), WORDS)
        text = " ".join(said[at:until]).capitalize() + "."
        start_ms, end_ms = at * _MILLISECONDS_A_WORD, until * _MILLISECONDS_A_WORD
        label = len(turns) % 2
        speaker = Speaker.PATIENT if label else Speaker.DOCTOR
        turns.append(Turn(len(turns), start_ms, end_ms, speaker, text, label))
        at = until
    return Transcript(tuple(turns), "en")


def kept(number: int, recording_id: UUID, keyring: Keyring, index_key: IndexKey) -> Kept:
    """Return the transcript in the form that the worker stores."""
    transcript = spoken(number)
    stored = format_transcript(transcript)
    key = keyring.new_data_key()
    sealed = keyring.unwrap(key.wrapped, key.root_key_id).encrypt(
        encryption.transcript_field(recording_id), stored
    )
    terms = sorted(hash_transcript(index_key, transcript))
    return Kept(sealed, key, terms, "\n".join(turn.text for turn in transcript.turns))


def queries(count: int, transcripts: int) -> list[tuple[str, str]]:
    """Return queries of each kind in turn, as pairs of the kind and the query text."""
    drawing = random.Random("queries")  # noqa: S311 - the same each time
    words = vocabulary()

    def among(first: int, last: int) -> str:
        return words[drawing.randrange(first, last)]

    def phrase() -> str:
        turn = drawing.choice(
            [one for one in spoken(drawing.randrange(transcripts)).turns if " " in one.text]
        )
        said = turn.text.removesuffix(".").split()
        start = drawing.randrange(len(said) - 1)
        return f'"{" ".join(said[start : start + drawing.randint(2, 3)])}"'

    accented = [word for word in words[200:5_000] if not word.isascii()]
    made: dict[str, Callable[[], str]] = {
        "rare word": lambda: among(8_000, VOCABULARY),
        "common word": lambda: among(0, 100),
        "two words": lambda: f"{among(0, 400)} {among(400, 4_000)}",
        "phrase": phrase,
        "accented": lambda: drawing.choice(accented).upper(),
        "plural": lambda: f"{among(400, 8_000)}s",
        "no hit": lambda: f"{among(0, 100)} {among(0, VOCABULARY)}xyz",
    }
    return [(kind, make()) for _ in range(count) for kind, make in made.items()]
