"""Reads the numbers, blood pressures and units among the tokens of an English or Spanish text. Pure.

Each function of this module reads a bounded number of tokens, so the time for a text is proportional to its length.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from app.transcripts.numbers import vocabulary as known
from app.transcripts.numbers.cardinals import ENGLISH, SPANISH, Token, Tokens
from app.transcripts.numbers.digits import MAX_WORD_CHARACTERS, plain_number, times_power_of_ten
from app.transcripts.numbers.fractions import fraction_behind, fraction_behind_unit
from app.transcripts.numbers.temperatures import temperature

_SPLIT_PRESSURE: Final = re.compile(r"([1-3])[.,]?(\d\d)")
_LOWER_PRESSURE: Final = re.compile(r"[3-9]\d|1\d\d|1[.,]\d\d")
_HALVES: Final = {("1", "2"): "0.5", ("1", "4"): "0.25", ("3", "4"): "0.75"}
_MOST_SCALED_CHARACTERS: Final = 12
_MOST_DECIMALS: Final = 8
_UPPER_PRESSURE: Final = re.compile(r"[5-9]\d|[1-3]\d\d")
_MOST_WORDS_OF_PRESSURE: Final = 5
_HIGHEST_PRESSURE: Final = 399
_MOST_WORDS_BEFORE: Final = 4
_NAMES: Final = {"1": ("one", "uno"), "11": ("once",)}
_DIGIT_WORDS: Final = {**known.ENGLISH_DIGITS, **known.SPANISH_DIGITS, "oh": 0}
_SCALES: Final = {"hundred": 2, "thousand": 3, "mil": 3, **dict.fromkeys(known.MILLIONS, 6)}
_NUMBER_WORDS: Final = frozenset(
    {
        *known.ENGLISH_DIGITS, *known.ENGLISH_TEENS, *known.ENGLISH_TENS, *known.SPANISH_DIGITS, *known.SPANISH_TEENS,
        *known.SPANISH_TENS, *known.SPANISH_HUNDREDS, "mil", "a", "hundred",
    }
)  # fmt: skip
_UNIT_KEYS: Final = frozenset(known.UNITS.values())
_PHRASES_BY_FIRST: Final = {
    first: [(words[1:], unit) for words, unit in known.UNIT_PHRASES.items() if words[0] == first]
    for first in {words[0] for words in known.UNIT_PHRASES}
}
_SPECIAL: Final = _NUMBER_WORDS.union(
    known.LEADING_POINT,
    known.OVER,
    known.PER,
    known.UNITS,
    known.UNITS_AFTER_NUMBERS,
    known.SPELLINGS,
    known.TEMPERATURE_SCALES,
    known.TEMPERATURE_LETTERS,
    known.FRACTION_LINKS,
    _PHRASES_BY_FIRST,
)


class Word(NamedTuple):
    """A normalized word, and the range of characters in the text from which it was made."""

    normalized: str
    start: int
    end: int


class Mode(Enum):
    """The kind of text that the module reads: a transcript (SAID), the words of a query outside quotes (LOOSE), or
    a phrase in quotes in a query (PHRASE).
    """

    SAID = 1
    LOOSE = 2
    PHRASE = 3


@dataclass(frozen=True)
class Read:
    """The result of reading a text: its normalized words in order, and its aliases. An alias is an additional word
    or phrase that also finds a part of the text. A phrase of a query matches either a sequence of normalized words
    or one alias, never a mixture of both.
    """

    words: list[Word]
    aliases: list[Word]


class _Number(NamedTuple):
    normalized: str
    stop: int


def read(tokens: Sequence[Token], singular: Callable[[str], str], mode: Mode) -> Read:
    """Read a text or a query, and return its normalized words. `singular` normalizes words that are neither numbers
    nor units.

    If words outside quotes in a query can mean one number or several, such as `one forty two`, they count as one
    number (142). A query finds a transcript with words such as `one forty two` by either meaning: one number or
    several numbers.
    """
    return _Reader(tokens, singular, mode).read()


class _Reader:
    def __init__(self, tokens: Sequence[Token], singular: Callable[[str], str], mode: Mode) -> None:
        self._tokens = Tokens(tokens)
        self._singular = singular
        self._mode = mode
        self._words: list[Word] = []
        self._aliases: list[Word] = []
        self._after_number = False
        self._fraction: tuple[int, int] | None = None

    def read(self) -> Read:
        place = 0
        while place < len(self._tokens):
            place = self._one(place)
        return Read(self._words, self._aliases)

    def _one(self, place: int) -> int:
        """Read the word, number or unit that begins at this position. Return the position after the last token of
        the word, number or unit.
        """
        raw = self._tokens.raw(place)
        if self._fraction is not None and self._fraction[0] == place:
            self._alias_words(*self._fraction)
            return self._fraction[1]  # the fraction was already added to the number before the unit
        if raw not in _SPECIAL and not raw[0].isdigit():
            return self._add(self._singular(raw), place + 1, place)
        if (degrees := temperature(self._tokens, place, self._number_before(place))) is not None:
            return self._add_temperature(*degrees, place)
        if (phrase := self._unit_phrase(place)) is not None:
            self._alias_words(place, phrase[1])
            return self._add(*phrase, place)
        if (number := self._number(place)) is not None:
            self._name_number(number, place)
            self._add(number.normalized, number.stop, place)
            self._after_number = True
            return number.stop
        if self._is_silent(place):
            self._alias(self._singular(raw), place, place + 1)
            return place + 1  # the next token still follows a number
        is_behind = self._after_number and self._tokens.is_joined(place)
        if raw in known.UNITS_AFTER_NUMBERS and (
            is_behind or (self._is_slash(place) and self._follows_unit())
        ):
            self._alias(raw, place, place + 1)
            return self._add(known.UNITS_AFTER_NUMBERS[raw], place + 1, place)
        return self._add(
            known.UNITS.get(raw) or known.SPELLINGS.get(raw) or self._singular(raw), place + 1, place
        )

    def _add(self, normalized: str, stop: int, place: int) -> int:
        self._words.append(Word(normalized, self._tokens[place].start, self._tokens[stop - 1].end))
        self._after_number = False
        return stop

    def _add_temperature(self, normalized: Sequence[str], stop: int, place: int) -> int:
        if normalized[0] != "degree" or self._tokens.raw(place) in known.TEMPERATURE_LETTERS:
            self._alias_words(place, stop)
        for word in normalized:
            self._add(word, stop, place)
        return stop

    def _number_before(self, place: int) -> str:
        """Return the normalized number directly before this position, or "" if there is none."""
        return self._words[-1].normalized if self._after_number and self._tokens.is_joined(place) else ""

    def _alias_words(self, place: int, stop: int) -> None:
        """Add each word of a unit or a fraction as an alias, so that a search for only this word finds the text."""
        for at in range(place, stop):
            raw = self._tokens.raw(at)
            if raw.isalpha():
                self._alias(self._singular(raw), at, at + 1)

    def _alias(self, normalized: str, place: int, stop: int) -> None:
        self._aliases.append(Word(normalized, self._tokens[place].start, self._tokens[stop - 1].end))

    def _name_number(self, number: _Number, place: int) -> None:
        """Add the aliases of a number: its words, if these can also mean something other than a number, and, in a
        blood pressure, the spelling `1.42` of 142.
        """
        for name in _NAMES.get(number.normalized, ()):
            self._alias(self._singular(name), place, number.stop)
        if number.stop == place + 1 and self._tokens.raw(place) in known.AMBIGUOUS:
            self._alias_phrase_end(place)
        split = _SPLIT_PRESSURE.fullmatch(number.normalized)
        is_pressure = self._is_over(number.stop) or self._follows_over(place)
        if split and is_pressure and (split[2][1] != "0" or not self._tokens.raw(place).isalnum()):
            self._alias(plain_number(f"{split[1]}.{split[2]}"), place, number.stop)

    def _alias_phrase_end(self, place: int) -> None:
        """Add aliases for phrases that end with `one`, such as `"take one"`, because in them `one` may not be a
        number.
        """
        phrase, end = self._singular(self._tokens.raw(place)), self._tokens[place].end
        self._aliases.append(Word(phrase, self._tokens[place].start, end))
        for word in reversed(self._words[-_MOST_WORDS_BEFORE:]):
            phrase = f"{word.normalized} {phrase}"
            self._aliases.append(Word(phrase, word.start, end))

    def _may_begin_number(self, place: int) -> bool:
        raw = self._tokens.joined(place)
        if raw == "a":
            return self._tokens.joined(place + 1) in ("hundred", "thousand")
        return bool(raw) and (raw[0].isdigit() or raw in _NUMBER_WORDS)

    def _is_over(self, place: int) -> bool:
        """Return whether the word `over` or a slash at this position separates the two numbers of a blood pressure."""
        if self._tokens.raw(place) in known.OVER and self._tokens.gap(place) in (" ", "-", ","):
            return self._may_begin_number(place + 1) and self._is_lower_pressure(place + 1)
        is_fraction = self._is_slash(place) and not self._is_slash(place + 1)
        return is_fraction and self._is_lower_pressure(place)

    def _is_lower_pressure(self, place: int) -> bool:
        """Return whether the number can be the second number of a blood pressure. The `30` in `1.25 over 30
        minutes` cannot be such a number.
        """
        raw = self._tokens.raw(place)
        is_plausible = (
            (_LOWER_PRESSURE.fullmatch(raw) is not None) if raw[:1].isdigit() else raw in _NUMBER_WORDS
        )
        return is_plausible and not self._is_amount(place)

    def _is_amount(self, place: int) -> bool:
        """Return whether the number counts something other than mmHg, as in `30 minutes`."""
        stop = place + 1
        if not self._tokens.raw(place)[:1].isdigit():
            while stop < place + _MOST_WORDS_OF_PRESSURE and self._may_begin_number(stop):
                stop += 1
        return self._is_measured_otherwise(stop) or self._counts(stop)

    def _is_slash(self, place: int) -> bool:
        return self._tokens.gap(place) == "/"

    def _follows_over(self, place: int) -> bool:
        """Return whether the tokens before the position are the first number of a blood pressure and the word
        `over`.
        """
        if not self._after_number or self._tokens.raw(place - 1) not in known.OVER:
            return False
        return (
            self._tokens.is_joined(place)
            and _UPPER_PRESSURE.fullmatch(self._words[-1].normalized) is not None
        )

    def _is_silent(self, place: int) -> bool:
        """Return whether this word does not become a normalized word. The words that do not become normalized words
        are `over` in a blood pressure and `per` between units.
        """
        raw = self._tokens.raw(place)
        if raw in known.OVER:
            is_begun = self._after_number or (self._mode is not Mode.SAID and place == 0)
            return is_begun and self._may_begin_number(place + 1) and not self._is_amount(place + 1)
        unit = self._tokens.joined(place + 1)
        return raw in known.PER and self._follows_unit() and (unit in known.UNITS or unit in known.COUNTED)

    def _follows_unit(self) -> bool:
        return bool(self._words) and self._words[-1].normalized in _UNIT_KEYS

    def _is_measured(self, place: int) -> bool:
        raw = self._tokens.joined(place)
        return raw in known.UNITS or raw in known.UNITS_AFTER_NUMBERS

    def _unit_phrase(self, place: int) -> tuple[str, int] | None:
        """Return the unit of several words that begins at this position, and the position after it."""
        first = known.UNITS.get(self._tokens.raw(place), self._tokens.raw(place))
        if first not in _PHRASES_BY_FIRST:
            return None
        for rest, unit in _PHRASES_BY_FIRST[first]:
            said = (self._tokens.joined(place + 1 + number) for number in range(len(rest)))
            stop = place + 1 + len(rest)
            if all(known.UNITS.get(raw, raw) == word for raw, word in zip(said, rest, strict=True)) and (
                unit != "percent" or self._is_percent(place, rest, stop)
            ):
                return unit, stop
        return None

    def _is_percent(self, place: int, rest: tuple[str, ...], stop: int) -> bool:
        """Return whether the Spanish words `por ciento` or `por cien` at this position mean percent. In `por ciento
        veinte pesos`, the words `por ciento` do not mean percent.
        """
        if self._number_before(place):
            return rest != ("cien",) or not (self._is_measured(stop) or self._counts(stop))
        return rest != ("cien",) and not self._may_begin_number(stop)

    def _number(self, place: int) -> _Number | None:
        raw = self._tokens.raw(place)
        if raw[0].isdigit():
            return self._written(place)
        if raw in known.LEADING_POINT:
            return self._leading_point(place)
        if raw not in _NUMBER_WORDS:
            return None
        for language in (ENGLISH, SPANISH):
            said = language.cardinal(self._tokens, place)
            if said is None:
                continue
            value, stop = said
            if raw in known.AMBIGUOUS and stop == place + 1 and not self._is_counting(place):
                return None
            if stop == place + 1 and 1 <= value <= 9 and language is ENGLISH:
                value, stop = self._hundreds_left_out(place, value)
            return self._with_decimals(str(value), place, stop)
        return None

    def _written(self, place: int) -> _Number:
        """Return the number, written in digits, that begins at this position."""
        raw = self._tokens.raw(place)
        pressure = self._split_pressure(place)
        if pressure is not None:
            return pressure
        if (half := self._half(place)) is not None:
            return _Number(half, place + 2)
        if self._is_clock(place):
            self._alias(raw + self._tokens.raw(place + 1), place, place + 2)
        normalized, stop = plain_number(raw), place + 1
        scale = self._tokens.joined(stop)
        if scale in _SCALES and len(normalized) <= _MOST_SCALED_CHARACTERS and normalized.count(".") <= 1:
            normalized, stop = times_power_of_ten(normalized, _SCALES[scale]), stop + 1
        if normalized.isdigit() and self._tokens.joined(stop) and self._tokens.gap(stop) in (" ", "-"):
            if (half := self._half(stop)) is not None:
                return _Number(normalized + half[1:], stop + 2)
            if self._is_fraction(stop):
                return _Number(normalized + self._tokens.raw(stop)[1:], stop + 1)
        return self._with_decimals(normalized, place, stop)

    def _half(self, place: int) -> str | None:
        """Return the fraction `1/2`, `1/4` or `3/4` as a decimal, if a unit or a counted thing follows it."""
        if not self._is_slash(place + 1) or self._is_slash(place + 2):
            return None
        half = _HALVES.get((self._tokens.raw(place), self._tokens.raw(place + 1)))
        return half if self._is_measured(place + 2) or self._counts(place + 2) else None

    def _is_fraction(self, place: int) -> bool:
        """Return whether the token was made from a single character, such as `½`."""
        token = self._tokens[place]
        return token.raw.startswith("0.") and token.end - token.start == 1

    def _is_clock(self, place: int) -> bool:
        """Return whether a time of day such as `8:30` begins at this position. A query may contain the same time as
        `eight thirty`.
        """
        is_colon = self._tokens.gap(place + 1) == ":"
        return (
            is_colon
            and len(self._tokens.raw(place)) == 1
            and len(self._tokens.raw(place + 1)) == 2
            and self._tokens.raw(place + 1).isdigit()
        )

    def _split_pressure(self, place: int) -> _Number | None:
        """Return 142 for `1.42`, `1-42`, `1:42` or `1 42` in a blood pressure."""
        raw = self._tokens.raw(place)
        follows = self._follows_over(place)
        whole = _SPLIT_PRESSURE.fullmatch(raw)
        if whole and not raw.isdigit():
            normalized = whole[1] + whole[2]
            if self._is_over(place + 1) or (follows and self._is_lower_pressure(place)):
                return _Number(normalized, place + 1)
            return None
        rest = self._tokens.raw(place + 1)
        if len(raw) != 1 or raw not in "123" or len(rest) != 2 or not rest.isdigit():
            return None
        gap = self._tokens.gap(place + 1)
        is_second = follows and gap in ("-", ":")
        if gap in (" ", "-", ":") and (is_second or self._is_over(place + 2)):
            return _Number(raw + rest, place + 2)
        if gap == "-" and self._is_typed_alone(place, place + 2):
            return _Number(raw + rest, place + 2)
        if gap == "-":
            self._alias(raw + rest, place, place + 2)
        return None

    def _is_typed_alone(self, place: int, stop: int) -> bool:
        """Return whether the words of a query, such as `one forty two`, may mean one number. The words of a query
        do not mean one number if they are in quotes, before a unit, or a time of day.
        """
        before, after = self._tokens.raw(place - 1), self._tokens.joined(stop)
        if before in known.CLOCK_BEFORE or after in known.CLOCK_AFTER:
            return False
        if self._is_measured(stop) or self._counts(stop):
            return False
        return self._mode is Mode.LOOSE or (self._mode is Mode.PHRASE and stop - place == len(self._tokens))

    def _is_measured_otherwise(self, place: int) -> bool:
        return self._is_measured(place) and known.UNITS.get(self._tokens.raw(place)) not in ("mm", "mmhg")

    def _leading_point(self, place: int) -> _Number | None:
        """Return the number that begins with a decimal point in words: 0.5 for `point five`."""
        if self._tokens.joined(place) and self._tokens.raw(place - 1) in known.NOUN_POINT_AFTER:
            return None
        found = self._decimals(place + 1)
        return _Number(plain_number(f"0.{found[0]}"), found[1]) if found else None

    def _with_decimals(self, normalized: str, place: int, stop: int) -> _Number:
        """Return the number with the decimals that follow it or its unit in words, such as `point five`, `coma
        cinco` or `and a half`.
        """
        if not normalized.isdigit():
            return _Number(normalized, stop)
        if (found := self._spoken_decimals(stop)) is not None:
            return self._scaled(f"{normalized}.{found[0]}", found[1])
        if (fraction := fraction_behind(self._tokens, place, stop)) is not None:
            self._alias_words(stop, fraction[1])
            return self._scaled(f"{normalized}.{fraction[0]}", fraction[1])
        if self._is_measured(stop) or self._counts(stop):
            behind = fraction_behind_unit(self._tokens, stop + 1)
            if behind is not None:
                self._fraction = stop + 1, behind[1]
                return _Number(f"{normalized}.{behind[0]}"[:MAX_WORD_CHARACTERS], stop)
        return _Number(normalized, stop)

    def _spoken_decimals(self, place: int) -> tuple[str, int] | None:
        """Return the decimals of `point five` or `coma cinco`, and the position after them. The Spanish words `con
        cinco` count as decimals (`.5`) only before degrees.
        """
        point = self._tokens.joined(place)
        if point != "con" and point not in known.POINT:
            return None
        found = self._decimals(place + 1)
        is_degrees = found is not None and self._tokens.joined(found[1]) in known.DEGREES
        return found if point != "con" or is_degrees else None

    def _scaled(self, decimal: str, stop: int) -> _Number:
        """Return the decimal number. If the word `thousand` or `million` follows, return the number multiplied by
        it.
        """
        scale, normalized = self._tokens.joined(stop), plain_number(decimal)
        if scale in _SCALES and scale != "hundred" and len(normalized) <= _MOST_SCALED_CHARACTERS:
            return _Number(times_power_of_ten(normalized, _SCALES[scale]), stop + 1)
        return _Number(normalized, stop)

    def _decimals(self, place: int) -> tuple[str, int] | None:
        """Return the digits that follow a decimal point in words, and the position after them."""
        digits = ""
        while len(digits) < _MOST_DECIMALS:
            raw = self._tokens.joined(place)
            if raw in _DIGIT_WORDS:
                digits, place = digits + str(_DIGIT_WORDS[raw]), place + 1
                continue
            said = next(
                (
                    found
                    for language in (ENGLISH, SPANISH)
                    if (found := language.below_hundred(self._tokens, place))
                ),
                None,
            )
            if raw and said and not digits.strip("0"):
                return digits + str(said[0]), said[1]
            if raw.isdigit() and not digits:
                return raw, place + 1
            break
        return (digits, place) if digits else None

    def _hundreds_left_out(self, place: int, value: int) -> tuple[int, int]:
        """Return 142 for `one forty two` if the words are in a blood pressure, before a unit, or in a query. If a
        transcript has `one forty two` neither in a blood pressure nor before a unit, return 1 and add 142 as an
        alias.
        """
        rest = self._tail_of_hundreds(place + 1)
        if rest is None:
            return value, place + 1
        low, stop = rest
        whole = value * 100 + low
        is_measured = self._is_measured(stop)
        is_pressure = whole <= _HIGHEST_PRESSURE and (self._is_over(stop) or self._follows_over(place))
        after = self._tokens.joined(stop)
        is_whole = (is_measured and low >= 20) or after in known.DEGREES or after in known.TEMPERATURE_SCALES
        has_decimals = after in known.POINT and self._decimals(stop + 1) is not None
        if is_pressure or self._is_typed_alone(place, stop) or is_whole or has_decimals:
            return whole, stop
        self._alias(str(whole), place, stop)
        return value, place + 1

    def _tail_of_hundreds(self, place: int) -> tuple[int, int] | None:
        if self._tokens.joined(place) in ("oh", "o", "zero"):
            digit = known.ENGLISH_DIGITS.get(self._tokens.joined(place + 1), 0)
            return (digit, place + 2) if digit else None
        found = ENGLISH.below_hundred(self._tokens, place) if self._tokens.is_joined(place) else None
        return found if found and found[0] >= 10 else None

    def _counts(self, place: int) -> bool:
        return self._tokens.joined(place) in known.COUNTED

    def _is_counting(self, place: int) -> bool:
        """Return whether the word `one`, `una` or `once` at this position means a number."""
        raw = self._tokens.raw(place)
        if (
            raw == "one"
            and self._tokens.is_joined(place)
            and self._tokens.raw(place - 1) in known.PRONOUN_ONE_AFTER
        ):
            return False
        if self._is_measured(place + 1) or self._counts(place + 1):
            return True
        numbered = known.NUMBERED_IN_SPANISH if raw == "once" else known.NUMBERED
        if self._tokens.is_joined(place) and self._tokens.raw(place - 1) in numbered:
            return True
        is_alone = len(self._tokens) == 1 and self._mode is Mode.SAID and raw != "once"
        return is_alone or self._is_part_of_number(place)

    def _is_part_of_number(self, place: int) -> bool:
        """Return whether `one`, or the Spanish `una` or `once` (eleven), is meant as a number, judged by the words
        after it, as in `one or two`, `one point five` or `one forty two`.

        `once` is also an English word (`once 5 mg was given`, `once a day`). The word `once` therefore counts as 11
        only if Spanish words stand beside it.
        """
        raw, after = self._tokens.raw(place), self._tokens.joined(place + 1)
        if raw == "once" and after not in known.SPANISH_AFTER_ONCE:
            return False
        if after in ("to", "or", "o", "a"):
            return self._may_begin_number(place + 2)
        if self._spoken_decimals(place + 1) is not None:
            return True
        if fraction_behind(self._tokens, place, place + 1) is not None:
            return True
        return after in known.CLOCK_AFTER or (
            raw == "one" and (after[:1].isdigit() or self._tail_of_hundreds(place + 1) is not None)
        )
