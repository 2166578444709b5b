"""Divides a turn's text into cues of at most two lines. Pure.

Of all ways to divide a turn's text into cues and lines, the module chooses the one with the lowest total cost. A
cue of only one or two words has the highest cost of all. The places of line and cue breaks, from the most to the
least costly, are inside a word, inside a number or name, between other words, at a comma, and at the end of a
sentence.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

LINE_CHARACTERS: Final = 42
LINES: Final = 2
SHORTEST_MS: Final = 700
MS_PER_CHARACTER: Final = 50
"""The reading time of one character: 20 characters a second."""

Block = tuple[str, ...]
"""The lines of one cue."""

_ORPHAN_WORDS: Final = 2
_ORPHAN: Final = 20_000
_INSIDE_A_WORD: Final = 5000
_TIED: Final = 3000
_BETWEEN_WORDS: Final = 1000
_CLAUSE: Final = 20
_SENTENCE: Final = 0
_EACH_CUE: Final = 25
_LINE_BREAK_SHARE: Final = 25
"""A break between two lines of one cue costs this many times less than a break between two cues."""
_TIME_WEIGHTS: Final = (0, 1, 10**9)
"""The costs of a millisecond of reading time, tried in this order until the cues fit into the time."""
_WITHOUT_ENOUGH_TIME: Final = 1
"""The index of the cost that is used if no division fits."""

_WIDE_STOPS: Final = "\u3002\uff01\uff1f\uff61\uff0e"
_WIDE_PAUSES: Final = "\uff0c\u3001\uff1b\uff1a\uff64"
_WIDE: Final = _WIDE_STOPS + _WIDE_PAUSES
_STOPS: Final = frozenset(".!?\u2026\u203d\u061f\u06d4\u0964\u0965\u1362\u17d4\u104b" + _WIDE_STOPS)
_PAUSES: Final = frozenset(",;:\u2013\u2014\u060c\u061b\u1363\u104a" + _WIDE_PAUSES)
_WIDE_PHRASE: Final = re.compile(
    rf"[^{_WIDE}]*[{_WIDE}]+[\u300d\u300f\uff09\u3011\u300b\u3009\u201d\u2019]*|[^{_WIDE}]+"
)
_TRAILING: Final = re.compile(
    "[\u0e30-\u0e3a\u0e45-\u0e4e\u0eb0-\u0ebd\u0ec6-\u0ece\u200c\u200d\U0001f3fb-\U0001f3ff]"
)
_LEADING: Final = re.compile("[\u0e40-\u0e44\u0ec0-\u0ec4\u200c\u200d]")
_WORD: Final = re.compile("[^ ]+")
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.)+")
_HOURS: Final = frozenset(("a.m.", "p.m."))
_TITLES: Final = frozenset((
    "dr.", "drs.", "mr.", "mrs.", "ms.", "messrs.", "prof.", "rev.", "st.", "mt.",
    "dra.", "dres.", "dras.", "sr.", "sra.", "sres.", "sras.", "srta.", "lic.", "gral.", "avda.", "ee.",
))  # fmt: skip
"""Abbreviations that stand before a name."""
_ABBREVIATIONS: Final = frozenset((
    "vs.", "approx.", "fig.", "dept.", "tel.", "ext.", "max.", "min.", "temp.",
    "ud.", "uds.", "vd.", "vds.", "n\u00fam.", "aprox.", "p\u00e1g.", "p\u00e1gs.", "m\u00e1x.", "m\u00edn.", "ing.",
))  # fmt: skip
"""Abbreviations that end a sentence only if a capital letter follows."""
_BEFORE_NUMBERS: Final = frozenset(("no.", "nos.", "nr.", "pp.", "p.", "vol."))


def divide_text(text: str, prefix: str, available_ms: int | None) -> list[Block]:
    """Divide a cleaned text into cues, and return the cues. The first line of each cue begins with the prefix,
    whose characters count toward the length of the line. If the text can be divided into cues that a viewer can all
    read in `available_ms`, the function returns such cues. If `available_ms` is None, the cues may take any time to
    read.
    """
    if not text:
        return []
    division = _Division(text, prefix)
    tried = []
    for weight in _TIME_WEIGHTS:
        blocks = division.best(weight)
        if available_ms is None or sum(map(reading_ms, blocks)) <= available_ms:
            return blocks
        tried.append(blocks)
    return tried[_WITHOUT_ENOUGH_TIME]


def reading_ms(block: Block) -> int:
    """Return how long a player must show a cue so that a viewer need not read 20 or more characters a second. The
    line break in a cue and the prefix of the cue count as characters.
    """
    return _reading_ms(sum(map(len, block)) + len(block) - 1)


def _reading_ms(characters: int) -> int:
    return max(SHORTEST_MS, characters * MS_PER_CHARACTER + 1)


class _Division:
    """The words of a text, each as its offsets in the text, and the cost of a line or cue break before each word."""

    def __init__(self, text: str, prefix: str) -> None:
        self._text = text
        self._prefix = prefix
        self._room = max(1, LINE_CHARACTERS - len(prefix))
        spans = list(_split_words(text, self._room))
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]
        words = [text[start:end] for start, end in spans]
        self._breaks = [
            0,
            *(
                _break_cost(words[at - 1], words[at], self._ends[at - 1] < self._starts[at])
                for at in range(1, len(words))
            ),
            0,
        ]

    def best(self, time_weight: int) -> list[Block]:
        """Find, by dynamic programming over the words, the cues and line breaks with the lowest total cost, and
        return the cues.
        """
        count, prefix = len(self._starts), len(self._prefix)
        costs: list[int | None] = [0, *([None] * count)]
        begins = [0] * (count + 1)
        for first in range(count):
            base = (costs[first] or 0) + _EACH_CUE
            for after in range(first + 1, self._reach(first) + 1):
                length = self._length(first, after)
                cost = base + self._breaks[after] + (LINES * LINE_CHARACTERS - length - prefix) ** 2 // 200
                if after - first <= _ORPHAN_WORDS and length <= LINE_CHARACTERS:
                    cost += _ORPHAN
                if time_weight:
                    cost += time_weight * _reading_ms(length + prefix)
                best = costs[after]
                if best is None or cost < best:
                    costs[after], begins[after] = cost, first
        blocks, after = [], count
        while after:
            blocks.append(self._lines(begins[after], after))
            after = begins[after]
        return blocks[::-1]

    def _length(self, first: int, after: int) -> int:
        return self._ends[after - 1] - self._starts[first]

    def _fit(self, first: int, room: int) -> int:
        return max(first + 1, bisect_right(self._ends, self._starts[first] + room))

    def _reach(self, first: int) -> int:
        second = self._fit(first, self._room)
        return second if second == len(self._starts) else self._fit(second, LINE_CHARACTERS)

    def _lines(self, first: int, after: int) -> Block:
        if after <= (second := self._fit(first, self._room)):
            return (self._prefix + self._text[self._starts[first] : self._ends[after - 1]],)
        fitting = [
            at for at in range(first + 1, second + 1) if self._length(at, after) <= LINE_CHARACTERS
        ] or [second]
        prefix = len(self._prefix)
        at = min(
            fitting,
            key=lambda at: (
                self._breaks[at] // _LINE_BREAK_SHARE
                + abs(prefix + self._length(first, at) - self._length(at, after))
            ),
        )
        return (
            self._prefix + self._text[self._starts[first] : self._ends[at - 1]],
            self._text[self._starts[at] : self._ends[after - 1]],
        )


def _split_words(text: str, room: int) -> Iterator[tuple[int, int]]:
    """Yield each word of the text as its offsets in the text. If a word is longer than `room` characters, the
    function divides it after full-width punctuation. If the word has no full-width punctuation, the function
    divides the word into parts of about equal length.
    """
    for word in _WORD.finditer(text):
        if len(word[0]) <= room:
            yield word.span()
            continue
        for phrase in _WIDE_PHRASE.finditer(text, *word.span()):
            start, end = phrase.span()
            while (left := end - start) > room:
                cut = _cut(text, start, start + -(-left // -(-left // room)))
                yield start, cut
                start = cut
            yield start, end


def _cut(text: str, start: int, wanted: int) -> int:
    """Return the last position up to `wanted` that does not separate a combining sign from its letter. If every
    position up to `wanted` separates a combining sign from its letter, return `wanted`.
    """
    for at in range(wanted, start, -1):
        if not _belongs_to_letter_before(text[at]) and not _belongs_to_letter_after(text[at - 1]):
            return at
    return wanted


def _belongs_to_letter_before(sign: str) -> bool:
    """Return whether the sign (a Unicode character) is an accent, a joiner, a skin tone, or a vowel that Thai and
    Lao write after its consonant.
    """
    return unicodedata.category(sign)[0] == "M" or _TRAILING.match(sign) is not None


def _belongs_to_letter_after(sign: str) -> bool:
    """Return whether the sign (a Unicode character) is a joiner, or a vowel that Thai and Lao write before its
    consonant.
    """
    return _LEADING.match(sign) is not None


def _break_cost(before: str, after: str, is_spaced: bool) -> int:
    said, following = before.rstrip(_outer_marks(before)), after.lstrip(_outer_marks(after))
    mark = said[-1:]
    if not is_spaced and mark not in _WIDE:
        return _INSIDE_A_WORD
    if not said or mark in "¿¡" or not (_has_letter(after) or _is_opening(after[0])):
        return _TIED
    if mark in _STOPS | _PAUSES:
        return _cost_at_mark(said, following, after)
    if unicodedata.category(before[-1]) == "Pe" or (_is_opening(after[0]) and after[0] != "'"):
        return _CLAUSE
    return _TIED if before[-1].isdigit() else _BETWEEN_WORDS


def _cost_at_mark(said: str, following: str, after: str) -> int:
    if said[-2:-1].isdigit() and following[:1].isdigit():
        return _TIED
    if said[-1] in _PAUSES or said.endswith(("...", "\u2026")):
        return _CLAUSE
    if said[-1] == ".":
        word = said.lstrip(_outer_marks(said)).lower()
        if word in _TITLES or (word in _ABBREVIATIONS and not following[:1].isupper()):
            return _TIED
        if word in _BEFORE_NUMBERS and following[:1].isdigit():
            return _TIED
        if word not in _HOURS and word != "i." and _INITIALS.fullmatch(word):
            return _TIED if word.count(".") > 1 else _BETWEEN_WORDS
        if following[:1].islower() and not _is_opening(after[0]):
            return _BETWEEN_WORDS if word in _HOURS else _CLAUSE
    return _SENTENCE


def _outer_marks(word: str) -> str:
    """Return the quotation marks and brackets in a word as one string, for a call of `strip`."""
    return "\"'" + "".join(
        {letter for letter in word if unicodedata.category(letter) in ("Ps", "Pe", "Pi", "Pf")}
    )


def _is_opening(letter: str) -> bool:
    return letter in "¿¡\"'" or unicodedata.category(letter) in ("Ps", "Pi")


def _has_letter(word: str) -> bool:
    return any(map(str.isalnum, word))
