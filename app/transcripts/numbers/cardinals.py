"""Recognizes whole numbers in English or Spanish words, among the tokens of a text. Pure.

Each function reads a bounded number of tokens, and returns None if no number begins at the position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from app.transcripts.numbers import vocabulary as known


class Token(NamedTuple):
    """A token of a text: a word in lower case and without accents, a number in its written form, or `%`. `gap`
    contains the characters before the token, without spaces around them: nothing, ` `, `-`, `/`, `:` or `,`. If the
    text has any other characters before a token, the token's `gap` is `.`.
    """

    raw: str
    start: int
    end: int
    gap: str


class Tokens:
    """The tokens of a text, numbered by position. A position outside the text has no token."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, place: int) -> Token:
        return self._tokens[place]

    def raw(self, place: int) -> str:
        """Return the token at the position `place`."""
        return self._tokens[place].raw if 0 <= place < len(self._tokens) else ""

    def gap(self, place: int) -> str:
        """Return what the text has between the token at the given position and the token before it (its `gap`)."""
        return self._tokens[place].gap if 0 < place < len(self._tokens) else "."

    def is_joined(self, place: int) -> bool:
        """Return whether only spaces, a hyphen or nothing separate the token from the token before it."""
        return self.gap(place) in ("", " ", "-")

    def joined(self, place: int) -> str:
        """Return the text of the token if only spaces, a hyphen or nothing separate it from the token before it. If
        not, return "".
        """
        return self.raw(place) if self.is_joined(place) else ""


@dataclass(frozen=True)
class Language:
    """The number words of a language. Spanish has one word for each multiple of a hundred (such as `doscientos`),
    and English does not.
    """

    digits: dict[str, int]
    teens: dict[str, int]
    tens: dict[str, int]
    hundreds: dict[str, int]
    thousand: str
    link: str

    @property
    def is_spanish(self) -> bool:
        return bool(self.hundreds)

    def below_hundred(self, tokens: Tokens, place: int) -> tuple[int, int] | None:
        """Return the number from 0 to 99 that begins at this position, and the position after it."""
        raw = tokens.raw(place)
        if raw in self.digits:
            return self.digits[raw], place + 1
        if raw in self.teens:
            return self.teens[raw], place + 1
        if raw not in self.tens:
            return None
        value, stop = self.tens[raw], place + 1
        if self.is_spanish:
            if tokens.joined(stop) != "y":
                return value, stop
            stop += 1
        digit = self.digits.get(tokens.joined(stop), 0)
        return (value + digit, stop + 1) if digit else (value, place + 1)

    def below_thousand(self, tokens: Tokens, place: int) -> tuple[int, int] | None:
        """Return the number from 0 to 999 that begins at this position, and the position after it. In English the
        number may be higher than 999, as in `twelve hundred`.
        """
        raw = tokens.raw(place)
        if self.is_spanish:
            if raw not in self.hundreds:
                return self.below_hundred(tokens, place)
            return self._with_rest(tokens, self.hundreds[raw], place + 1)
        if raw == "hundred":
            found = self._with_rest(tokens, 100, place + 1)
            return found if found[1] > place + 1 else None
        if raw == "a" and tokens.joined(place + 1) == "hundred":
            return self._with_rest(tokens, 100, place + 2)
        found_low = self.below_hundred(tokens, place)
        if found_low and found_low[0] and tokens.joined(found_low[1]) == "hundred":
            return self._with_rest(tokens, found_low[0] * 100, found_low[1] + 1)
        return found_low

    def _with_rest(self, tokens: Tokens, value: int, place: int) -> tuple[int, int]:
        start = place + 1 if not self.is_spanish and tokens.joined(place) == self.link else place
        if tokens.joined(start):
            rest = self.below_hundred(tokens, start)
            if rest and rest[0]:
                return value + rest[0], rest[1]
        return value, place

    def cardinal(self, tokens: Tokens, place: int) -> tuple[int, int] | None:
        """Return the whole number below a thousand million that begins at this position, and the position after it."""
        total, at = 0, place
        group = self._group(tokens, at)
        if group and tokens.joined(group[1]) in known.MILLIONS:
            total, at = group[0] * 1_000_000, group[1] + 1
            group = self._group(tokens, at) if tokens.joined(at) else None
            if group is None:
                return total, at
        if group is None:
            return None
        value, at = group
        if tokens.joined(at) == self.thousand and value:
            total, at = total + value * 1000, at + 1
            start = at + 1 if self.link == "and" and tokens.joined(at) == "and" else at
            rest = self.below_thousand(tokens, start) if tokens.joined(start) else None
            return (total + rest[0], rest[1]) if rest and rest[0] else (total, at)
        return total + value, at

    def _group(self, tokens: Tokens, at: int) -> tuple[int, int] | None:
        """Return the number that stands before the word `thousand` or `million`. The Spanish word `mil` (thousand)
        needs no number before it.
        """
        raw = tokens.raw(at)
        following = tokens.joined(at + 1)
        if not self.is_spanish and raw == "a" and (following == self.thousand or following in known.MILLIONS):
            return 1, at + 1
        if self.is_spanish and raw == self.thousand:
            rest = self.below_thousand(tokens, at + 1) if following else None
            return (1000 + rest[0], rest[1]) if rest and rest[0] else (1000, at + 1)
        return self.below_thousand(tokens, at)


ENGLISH: Final = Language(
    known.ENGLISH_DIGITS, known.ENGLISH_TEENS, known.ENGLISH_TENS, {}, "thousand", "and"
)
SPANISH: Final = Language(
    known.SPANISH_DIGITS, known.SPANISH_TEENS, known.SPANISH_TENS, known.SPANISH_HUNDREDS, "mil", ""
)
