"""Normalizes English and Spanish words, so that a search for one form of a word finds its other forms. Pure.

The module reads a text in its composed form (NFC), so that a letter and a mark after it count as one letter, however
the text spells them. The module removes differences of accents, case, width and ligatures. The module turns a plural
into its singular by a few rules, without a stemmer. A normalized word is only a key for comparisons, and need not be
a real word: `headache` and `headaches` both become `headach`.

As in the Spanish alphabet and in CLDR's collation of Spanish, `ñ` and `n` are different letters. A search for `uña`
therefore does not find `una`. A query with `n` does not find a word with `ñ`.

The module writes every number as digits with a decimal point. For example, `.5`, `0,5`, `0'5`, `½` and `zero point
five` become `0.5`, and `1,000`, `a thousand` and `mil` become `1000`. A unit and its abbreviation become the same
normalized word (app/transcripts/numbers).

The module separates letters from digits, so that `covid-19` and `covid19` become equal. A hyphen separates words,
and an apostrophe does not. The module removes a possessive `'s` and the dots of an abbreviation (`O.K.`, `p.m.`).

The stored normalized words and the blind index depend on the rules of this module. Increase `NORMALIZATION_VERSION`
(app/transcripts/transcript_format.py) with each change of a rule.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from app.transcripts.numbers.cardinals import Token
from app.transcripts.numbers.digits import MAX_WORD_CHARACTERS
from app.transcripts.numbers.reader import Mode, Read, Word, read

__all__ = [
    "MAX_WORD_CHARACTERS",
    "Word",
    "normalize",
    "normalize_query",
    "normalize_text",
    "normalize_to_words",
]

_MARKS: Final = (
    r"\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    r"\u0653-\u0655\u093c\u0bd7\u102e\u1b35\u3099\u309a\U000110ba"  # these compose with letters
)
_JOINER: Final = re.compile(r"[\u00ad\u200b-\u200d\u2060\ufeff]+")
_APOSTROPHES: Final = r"'\u2019\u02bc"
_POINTS: Final = r".\u00b7\uff0e\u066b"
_COMMAS: Final = r",\uff0c"
_TOKEN: Final = re.compile(
    # abbreviations: O.K., p.m., and the Spanish p. m.
    rf"(?P<dotted>(?<![^\W_])[A-Za-z](?:\.[A-Za-z]){{1,15}}(?![^\W_]|[{_MARKS}]))"
    rf"|(?P<spaced>(?<![^\W_])(?:[ap]\.\sm|o\.\sk)(?![^\W_]|[{_MARKS}]))"
    # a leading decimal point: `.5` and `take.5 mg`, but not the 5 of `1.2.5`, `...5` or `No.5`
    rf"|(?:(?:(?<![\w{_POINTS}{_COMMAS}{_MARKS}\u2026])[{_POINTS}]|(?<![^\s(\[])[{_COMMAS}])(?=\d)"
    rf"|(?<=[^\W\d_]|[{_MARKS}])[{_POINTS}](?=\d{{1,9}}\s?(?:mg|mcg|\u00b5g|\u03bcg|ug|g|kg|ml|l|cc|mmol|meq|iu|unit|tab|milli|micro|gram)))?"
    rf"[^\W_]+(?:(?:[{_MARKS}]+|[{_APOSTROPHES}](?=[^\W_])|(?<=\d)[{_POINTS}{_COMMAS}](?=\d))[^\W_]*)*"
    rf"|(?:(?<=\d)|(?<=\d\s))[%\uff05\u00b0]|\u00b0(?=\s?[CF](?![^\W_]|[{_MARKS}]))|[\u2103\u2109]",
    re.IGNORECASE,
)
_WITH_MARKS: Final = re.compile(rf"[^{_MARKS}][{_MARKS}]*|[{_MARKS}]+")
_DOTS: Final = re.compile(r"[.\s]")
_POSSESSIVE: Final = re.compile(rf"[{_APOSTROPHES}][sS]$")
_SILENT: Final = re.compile(rf"[{_APOSTROPHES}]")
_RAISED: Final = re.compile(r"[\u00b2\u00b3\u00b9\u2070-\u2089]+")
_FRACTION: Final = re.compile(r"(\d*)([\u00bc-\u00be])")
_FRACTIONS: Final = {"\u00bc": ".25", "\u00bd": ".5", "\u00be": ".75"}
_OTHER_FRACTION: Final = re.compile(r"([\u2150-\u215e\u2189])")
_BETWEEN_DIGITS: Final = re.compile(rf"(?<=\d)[{_APOSTROPHES}](?=\d)")
_FEET: Final = re.compile(rf"[3-8][{_APOSTROPHES}](?:1[01]|\d)")
_INCHES: Final = frozenset({'"', "\u201d", "\u2033"})
_POINT: Final = re.compile(rf"(?<=\d)[{_POINTS}](?=\d)")
_COMMA: Final = re.compile(rf"(?<=\d)[{_COMMAS}](?=\d)")
_DIGIT: Final = re.compile(r"\d")
_PART: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[%\u00b0]")
# Characters written in place of `°`: a ring, and the Spanish ordinal sign `º` where it cannot mean an ordinal.
_DEGREE: Final = re.compile(
    rf"\u02da|\u00ba(?=\s?[CF](?![^\W_]|[{_MARKS}]))"
    rf"|(?:(?<=\d[.,]\d)|(?<=\b3[5-9])|(?<=\b4[0-2]))\u00ba(?!\s?[^\W\d_]{{3}}|\w|[{_MARKS}])",
    re.IGNORECASE,
)
_GAPS: Final = {"": " ", "/": "/", ":": ":", ",": ",", **dict.fromkeys("-\u2010\u2011\u2013", "-")}

_IRREGULAR: Final = {
    "analyses": "analysis", "children": "child", "crises": "crisis", "diagnoses": "diagnosis", "feet": "foot",
    "flores": "flor", "leyes": "ley", "men": "man", "meses": "mes", "pieles": "piel", "prognoses": "prognosis",
    "redes": "red", "teeth": "tooth", "toses": "tos", "vertebrae": "vertebra", "women": "woman",
}  # fmt: skip
_VOWELS: Final = re.compile(r"[aeiou]+")
_LOOSE_E: Final = ("sse", "zze", "xe", "che", "she")
_SPANISH_E: Final = ("le", "ne", "re", "de", "je", "se", "ze", "ye")


def normalize_text(text: str) -> Read:
    """Return the normalized words of a transcript's text, in order, and their aliases.

    The offsets of the normalized words count Unicode code points of the text.
    """
    return _read(text, Mode.SAID)


def normalize_query(text: str, *, is_phrase: bool) -> list[Word]:
    """Return the normalized words of a phrase in quotes, or of the words outside quotes, in a search query."""
    return _read(text, Mode.PHRASE if is_phrase else Mode.LOOSE).words


def normalize_to_words(text: str) -> list[Word]:
    """Return the normalized words of a transcript's text, in order."""
    return normalize_text(text).words


def normalize(text: str) -> list[str]:
    """Return the normalized words as strings, in order, each of 1 to 64 characters."""
    return [word.normalized for word in normalize_to_words(text)]


def _read(text: str, mode: Mode) -> Read:
    if _JOINER.search(text) is None and unicodedata.is_normalized("NFC", text):
        return read(_tokens(text), _singular, mode)
    # Invisible characters that join letters are removed first, so that none can hide a decimal point or a mark.
    places = [place for place, character in enumerate(text) if not _JOINER.match(character)]
    composed: list[str] = []
    spans: list[tuple[int, int]] = []
    for part in _WITH_MARKS.finditer(_JOINER.sub("", text)):
        letters = unicodedata.normalize("NFC", part[0])
        composed.append(letters)
        spans += [(places[part.start()], places[part.end() - 1] + 1)] * len(letters)
    made = read(_tokens("".join(composed)), _singular, mode)
    return Read(_restore_offsets(made.words, spans), _restore_offsets(made.aliases, spans))


def _restore_offsets(found: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[Word]:
    """Return the words with their offsets in the text. `spans` has the offsets of each character that was read."""
    return [Word(word.normalized, spans[word.start][0], spans[word.end - 1][1]) for word in found]


def _tokens(text: str) -> list[Token]:
    text = _DEGREE.sub("\u00b0", text)  # one character replaces one, so that the offsets stay valid
    known: dict[str, tuple[str, ...]] = {}
    found: list[Token] = []
    before = 0
    for match in _TOKEN.finditer(text):
        token, (start, end) = match[0], match.span()
        if text[end : end + 1] in _INCHES and _FEET.fullmatch(token):
            token = _BETWEEN_DIGITS.sub("-", token)
        if token not in known:
            known[token] = (
                (_DOTS.sub("", token).lower(),) if match["dotted"] or match["spaced"] else _split_token(token)
            )
        gap = _GAPS.get(text[before:start].strip(), ".")
        for raw in known[token]:
            found.append(Token(raw, start, end, gap))
            gap = ""
        before = end
    return found


def _split_token(token: str) -> tuple[str, ...]:
    """Return the letters and the numbers of a token separately, in lower case and without accents."""
    bare = _BETWEEN_DIGITS.sub(".", _POSSESSIVE.sub("", token))
    cased = bare.lower() if bare.isascii() else _without_marks(_plain_digits(bare))
    return tuple(_PART.findall(_SILENT.sub("", cased if cased[:1] not in (".", ",") else f"0{cased}")))


def _plain_digits(token: str) -> str:
    """Write fractions as decimals, separate superscript digits from the digits before them, and write the digits of
    every script as 0 to 9.
    """
    parted = _RAISED.sub(lambda raised: f" {raised[0]} ", _OTHER_FRACTION.sub(r" \1 ", token))
    parted = _FRACTION.sub(lambda each: f" {each[1] or '0'}{_FRACTIONS[each[2]]} ", parted)
    pointed = _COMMA.sub(",", _POINT.sub(".", parted))
    return _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), pointed)


def _without_marks(token: str) -> str:
    cased = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", token).casefold())
    kept = cased.replace("n\u0303", "ñ")
    return "".join(character for character in kept if not unicodedata.combining(character))


def _singular(word: str) -> str:
    """Return the singular of a word. The loop ends, because each step shortens the word or takes its singular from
    the table.
    """
    now, before = word[:MAX_WORD_CHARACTERS], ""
    while now != before:
        before, now = now, _shorten(now)
    return now


def _shorten(word: str) -> str:
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
    """Return whether the last `e` of a word may belong to the plural ending, as in `box|e|s` and `dolor|e|s`. In
    the word `dos|e|s` the last `e` does not belong to the plural ending, because the stem without it would be too
    short.
    """
    if word.endswith(_LOOSE_E) or (word.endswith("oe") and len(word) > 5):
        return True
    return word.endswith(_SPANISH_E) and len(_VOWELS.findall(word[:-1])) > 1
