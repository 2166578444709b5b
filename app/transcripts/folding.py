"""Words folded so that a search finds what a reader of English or Spanish would call the same word. Pure, no I/O.

Accents, case, width and ligatures fold; so does a plural into its singular, by a few rules and no stemmer: what
comes out is a key to compare by, not always a word (`headache` and `headaches` are both `headach`).

`ñ` is a letter of its own, as in the Spanish alphabet and in CLDR's collation of Spanish: `año` is not `ano`, and a
search for `uña` must not find every `una`. Whoever has no such key does not find it by `n`.

Numbers stay: `500 mg`, `500mg` and, in full width, the same fold alike; `2,5` is `2.5`; `1,000` is `1000`. Letters
and digits part (`covid-19`, `covid19`), hyphens part words, apostrophes do not, and a possessive goes with its `s`.

Whoever changes a rule changes what is stored: `WORDS_FORMAT` (app/transcripts/stored.py) and the blind index.
"""

import re
import unicodedata
from typing import Final, NamedTuple

MAX_WORD_CHARACTERS: Final = 64

_MARKS: Final = r"\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_JOINERS: Final = r"\u00ad\u200b-\u200d\u2060\ufeff"
_APOSTROPHES: Final = r"'\u2019\u02bc"
_TOKEN: Final = re.compile(
    rf"[^\W_]+(?:(?:[{_MARKS}{_JOINERS}]+|[{_APOSTROPHES}](?=[^\W_])|(?<=\d)[.,](?=\d))[^\W_]*)*",
)
_POSSESSIVE: Final = re.compile(rf"[{_APOSTROPHES}][sS]$")
_SILENT: Final = re.compile(rf"[{_APOSTROPHES}{_JOINERS}]")
_PART: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_THOUSANDS: Final = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")

_IRREGULAR: Final = {
    "analyses": "analysis", "children": "child", "crises": "crisis", "diagnoses": "diagnosis", "feet": "foot",
    "flores": "flor", "leyes": "ley", "men": "man", "meses": "mes", "pieles": "piel", "prognoses": "prognosis",
    "redes": "red", "teeth": "tooth", "toses": "tos", "vertebrae": "vertebra", "women": "woman",
}  # fmt: skip
_VOWELS: Final = re.compile(r"[aeiou]+")
_LOOSE_E: Final = ("sse", "zze", "xe", "che", "she")
_SPANISH_E: Final = ("le", "ne", "re", "de", "je", "se", "ze", "ye")


class Word(NamedTuple):
    """A folded word, and the characters of the text that it was made from."""

    folded: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The folded words of a text in order; offsets in characters (code points) of the text itself."""
    known: dict[str, tuple[str, ...]] = {}
    found: list[Word] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token not in known:
            known[token] = _folded(token)
        found.extend(Word(folded, match.start(), match.end()) for folded in known[token])
    return found


def fold(text: str) -> list[str]:
    """The folded words of a text in order, each of 1 to 64 characters; folding them again changes nothing."""
    known: dict[str, tuple[str, ...]] = {}
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if token not in known:
            known[token] = _folded(token)
        found.extend(known[token])
    return found


def _folded(token: str) -> tuple[str, ...]:
    bare = _POSSESSIVE.sub("", token)
    cased = bare.lower() if bare.isascii() else _without_marks(bare)
    parts = _PART.findall(_SILENT.sub("", cased))
    return tuple(_singular(part) if part[0].isalpha() else _number(part) for part in parts)


def _without_marks(token: str) -> str:
    cased = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", token).casefold())
    kept = cased.replace("n\u0303", "ñ")
    return "".join(character for character in kept if not unicodedata.combining(character))


def _number(part: str) -> str:
    is_grouped = _THOUSANDS.fullmatch(part) is not None
    return part.replace(",", "" if is_grouped else ".")[:MAX_WORD_CHARACTERS].rstrip(".")


def _singular(word: str) -> str:
    """The word without its plural; each step shortens it or comes from the table, so this ends."""
    now, before = word[:MAX_WORD_CHARACTERS], ""
    while now != before:
        before, now = now, _one_step(now)
    return now


def _one_step(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    size = len(word)
    if size < 4:
        return word
    if word.endswith("ies") and size > 4:
        return word[:-3] + "y"
    if word.endswith("s"):
        return word if word.endswith(("ss", "us", "is")) else word[:-1]
    if not word.endswith("e"):
        return word
    if word.endswith("ce"):
        return word[:-2] + "z"
    if word.endswith("ie"):
        return word[:-2] + "y" if size > 4 else word
    return word[:-1] if _is_loose(word) else word


def _is_loose(word: str) -> bool:
    """Whether the last e may belong to the plural: `box|e|s`, `dolor|e|s`; of `dos|e|s` the stem is too short."""
    if word.endswith(_LOOSE_E) or (word.endswith("oe") and len(word) > 5):
        return True
    return word.endswith(_SPANISH_E) and len(_VOWELS.findall(word[:-1])) > 1
