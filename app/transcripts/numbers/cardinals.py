"""Whole numbers said in English or Spanish, among the tokens of a text. Pure, no I/O.

Each function looks at a bounded number of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from app.transcripts.numbers import vocabulary as known


class Token(NamedTuple):
    """Letters without accents in lower case, a number as it is written, or `%`.

    `gap` is what stands before it: nothing, ` `, `-`, `/`, `:` or `,`, spaces around it left out; `.` is anything else.
    """

    raw: str
    start: int
    end: int
    gap: str


class Tokens:
    """The tokens of a text by their places; beyond the ends there is nothing."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, place: int) -> Token:
        return self._tokens[place]

    def raw(self, place: int) -> str:
        """The token at the place."""
        return self._tokens[place].raw if 0 <= place < len(self._tokens) else ""

    def gap(self, place: int) -> str:
        """What stands between the token at the place and the one before it."""
        return self._tokens[place].gap if 0 < place < len(self._tokens) else "."

    def is_joined(self, place: int) -> bool:
        """Whether only spaces or a hyphen part the token from the one before."""
        return self.gap(place) in ("", " ", "-")

    def joined(self, place: int) -> str:
        """The token at the place if it is joined to the one before; else nothing."""
        return self.raw(place) if self.is_joined(place) else ""


@dataclass(frozen=True)
class Language:
    """The words of which a language makes its numbers; only Spanish has hundreds of its own."""

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
        """A number from 0 to 99, and where it ends."""
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
        """A number from 0 to 999 (in English to 9900: `twelve hundred`), and where it ends."""
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
        """A whole number below a thousand million, and where it ends."""
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
        """What stands before `thousand` or `million`; the Spanish `mil` needs nothing before it."""
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
