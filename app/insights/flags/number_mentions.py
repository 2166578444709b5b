"""Finds the numbers of a line or a quote, with the values that each may have, and its unit. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.insights.reading import Passage, Token
from app.transcripts.numbers import vocabulary as numbers

AGE: Final = "age"
RANK: Final = "rank"
"""The unit of a number that names a kind, such as `type 2` or `grade 3`."""

_UNITS: Final = {
    **{unit: unit for unit in numbers.UNITS.values()},
    **{
        form: unit
        for unit, forms in {
            "time": "time tim vez vec vece",
            "dose": "dose dosis dosi",
            "pill": "pill tab tablet capsule pastilla comprimido pildora capsula",
            "drop": "drop gota",
            "puff": "puff inhalacion",
            "beat": "beat bpm latido",
            "breath": "breath respiracion",
            "pack": "pack paquete cajetilla",
            "drink": "drink beer glass copa cerveza vaso",
            "night": "night noche",
            "celsius": "celsius",
            "fahrenheit": "fahrenheit",
            "point": "point punto",
            "refill": "refill",
            "view": "view",
        }.items()
        for form in forms.split()
    },
}
_LINKS: Final = frozenset(
    [
        "to",
        "or",
        "and",
        "a",
        "an",
        "of",
        "the",
        "o",
        "y",
        "through",
        "thru",
        "maybe",
        "about",
        "un",
        "una",
        "por",
        "more",
        "extra",
    ]
)
_CUT: Final = frozenset(",;")
_MOST_LINKS: Final = 4
_KINDS: Final = frozenset(
    ["type", "tipo", "grade", "grado", "stage", "class", "clase", "estadio", "fase", "phase", "nyha"]
)
_MONTHS: Final = {
    month: number
    for number, names in enumerate(
        (
            "january enero", "february febrero", "march marzo", "april abril", "may mayo", "june junio", "july julio",
            "august agosto", "september septiembre", "october octubre", "november noviembre", "december diciembre",
        ), start=1,
    )
    for month in names.split()
}  # fmt: skip
_ORDINALS: Final = {
    word: number
    for number, words in enumerate(
        (
            "first primero primera primer", "second segundo segunda", "third tercero tercera tercer",
            "fourth cuarto cuarta", "fifth quinto quinta", "sixth sexto sexta", "seventh septimo septima",
            "eighth octavo octava", "ninth noveno novena", "tenth decimo decima", "eleventh", "twelfth", "thirteenth",
            "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth",
        ), start=1,
    )
    for word in words.split()
}  # fmt: skip
_ORDINAL_ENDS: Final = frozenset(["st", "nd", "rd", "th"])
_DECADES: Final = {f"{word[:-1]}ies": value for word, value in numbers.ENGLISH_TENS.items()}
_COUNTS: Final = {
    "once": 1, "one": 1, "uno": 1, "una": 1, "un": 1, "a": 1, "an": 1, "per": 1, "every": 1, "each": 1, "cada": 1,
    "al": 1, "next": 1,
    "twice": 2, "couple": 2, "par": 2, "both": 2, "ambas": 2, "ambos": 2, "doble": 2, "dozen": 12, "docena": 12,
    "half": 0.5, "medio": 0.5, "media": 0.5, "quarter": 0.25, "overnight": 1,
}  # fmt: skip
_TIMES: Final = frozenset({"once", "twice"})
_ROMAN: Final = {"i": 1, "ii": 2, "iii": 3, "iv": 4}
_MOST_DIGITS_JOINED: Final = 2
_HIGHEST_JOINED: Final = 99_999
_YEAR_DIGITS: Final = 2
_NAME_BEFORE: Final = re.compile(r"[^\W\d_]\d{0,2}-$|[^\W\d_]$")
_DATE_BEFORE: Final = re.compile(r"\d[/-]\d{1,2}[/-]$")


@dataclass(frozen=True)
class NumberMention:
    """A number at a position of a passage. `values` are its possible values: 1 and 150 are possible for the first word
    of `one fifty`. `unit` is the normalized unit after it, or "" if none follows. A mention that is not certain is a
    word such as `a` or `couple`, which is a number only beside a unit. `is_place` says that it is an ordinal number or
    part of a date.
    """

    place: int
    values: frozenset[float]
    unit: str
    is_certain: bool = True
    is_place: bool = False

    def may_mean(self, own: "NumberMention") -> bool:
        """Return whether this number of a quote may be the number `own` of a line."""
        if self.values.isdisjoint(own.values):
            return False
        if RANK in (own.unit, self.unit) and self.is_certain:
            return own.unit == self.unit
        if self.is_certain:
            return True
        if self.is_place:
            return own.is_place
        return own.unit == self.unit != ""


def find_numbers(line: Passage) -> tuple[NumberMention, ...]:
    """Return the numbers of a line. A number that is part of a name, such as `COVID-19` or `A1c`, is none."""
    return tuple(
        NumberMention(
            place, frozenset({float(token.word)}), _unit(line, place), is_place=_is_place(line, place)
        )
        for place, token in enumerate(line.tokens)
        if token.is_number and not _is_part_of_name(line.text, token)
    )


def find_readings(quote: Passage) -> tuple[NumberMention, ...]:
    """Return the numbers of a quote, each with every value that the speaker may have meant."""
    return tuple(_readings(quote))


def _readings(quote: Passage) -> Iterator[NumberMention]:
    aliases: dict[int, set[float]] = {}
    for alias in quote.aliases:
        if alias.is_number:
            aliases.setdefault(alias.start, set()).add(float(alias.word))
    for place, token in enumerate(quote.tokens):
        if not token.is_number:
            mention = _read_word(quote, place)
        elif _is_part_of_name(quote.text, token):
            mention = None
        else:
            values = frozenset(_values(quote, place) | aliases.get(token.start, set()))
            mention = NumberMention(place, values, _unit(quote, place), not _is_decimal(quote, place))
        if mention is not None:
            yield mention


def _read_word(quote: Passage, place: int) -> NumberMention | None:
    """Return the number that a word such as `third`, `twice` or `sixties` means, or None if it means none."""
    token, unit = quote.tokens[place], _unit(quote, place)
    if (ordinal := _ORDINALS.get(token.raw, _MONTHS.get(token.raw))) is not None:
        return NumberMention(place, frozenset({float(ordinal)}), unit, is_certain=False, is_place=True)
    if token.raw in _COUNTS:
        unit = "time" if token.raw in _TIMES else _unit_of_article(quote, place)
        return NumberMention(place, frozenset({float(_COUNTS[token.raw])}), unit, is_certain=False)
    if token.raw in _DECADES:
        return NumberMention(place, frozenset({float(_DECADES[token.raw])}), unit)
    if token.raw in _ROMAN and _raw(quote, place - 1) in _KINDS:
        return NumberMention(place, frozenset({float(_ROMAN[token.raw])}), RANK)
    return None


def _values(quote: Passage, place: int) -> set[float]:
    value = float(quote.tokens[place].word)
    values, joined = {value}, value
    for at in range(place + 1, min(place + 4, len(quote.tokens))):
        token = quote.tokens[at]
        is_short = token.is_number and "." not in token.word and len(token.word) <= _MOST_DIGITS_JOINED
        if not is_short or joined != int(joined) or joined > _HIGHEST_JOINED:
            break
        if _is_decimal(quote, at):
            if at == place + 1:
                return {value + float(token.word) / 10 ** len(token.word)}  # `six . eight` for 6.8
            values.add(joined + float(token.word) / 10 ** len(token.word))
            break
        if quote.text[quote.tokens[at - 1].end : token.start].strip() not in ("", "-"):
            break
        joined = joined * 10 ** len(token.word) + float(token.word)
        values.add(joined)
    following = _raw(quote, place + 1)
    if following in _DECADES and value < 10:  # `one twenties` for 120
        values.add(value * 100 + _DECADES[following])
    if len(quote.tokens[place].word) == _YEAR_DIGITS and _DATE_BEFORE.search(
        quote.text[: quote.tokens[place].start]
    ):
        values.add(2000 + value)
    return values


def _is_decimal(quote: Passage, place: int) -> bool:
    """Return whether the number is the decimals of the number before it, as in `six . eight`."""
    if place == 0 or not quote.tokens[place - 1].is_number:
        return False
    gap = quote.text[quote.tokens[place - 1].end : quote.tokens[place].start]
    return gap.strip() == "." and gap.startswith(" ") and len(quote.tokens[place].word) <= _MOST_DIGITS_JOINED


def _unit(passage: Passage, place: int) -> str:
    """Return the normalized unit of the number at the position. In `2 to 3 weeks`, both numbers have it."""
    if _raw(passage, place - 1) in _KINDS:
        return RANK
    for at in range(place + 1, min(place + 1 + _MOST_LINKS, len(passage.tokens))):
        token = passage.tokens[at]
        if token.word in _UNITS:
            return AGE if _is_age(passage, at) else _UNITS[token.word]
        if token.word == "y" and _raw(passage, at + 1) == "o":
            return AGE
        if token.raw in ("yo", "yr-old"):
            return AGE
        is_cut = not _CUT.isdisjoint(passage.text[passage.tokens[at - 1].end : token.start])
        if is_cut or not (token.is_number or token.raw in _LINKS or token.raw in _DECADES):
            return ""
    return ""


def _unit_of_article(quote: Passage, place: int) -> str:
    """Return the unit of a word such as `a` in `a week`, or "" if a number stands between them or `half` before it."""
    following = quote.tokens[place + 1 : place + 3]
    if not following or following[0].is_number or _raw(quote, place - 1) in ("half", "quarter"):
        return ""
    return _unit(quote, place)


def _is_age(passage: Passage, at: int) -> bool:
    following = (_raw(passage, at + 1), _raw(passage, at + 2))
    return following[0] == "old" or following in (("of", "age"), ("de", "edad"))


def _is_place(passage: Passage, place: int) -> bool:
    token = passage.tokens[place]
    if _raw(passage, place + 1) in _ORDINAL_ENDS:
        return True
    around = passage.text[max(0, token.start - 3) : token.end + 5]
    return re.search(r"\d/\d\d", around) is not None or _raw(passage, place - 1) in _MONTHS


def _raw(passage: Passage, place: int) -> str:
    return passage.tokens[place].raw if 0 <= place < len(passage.tokens) else ""


def _is_part_of_name(text: str, token: Token) -> bool:
    """Return whether letters stand directly before the number, as in `B12`, `A1c` and `COVID-19`."""
    whole = text[token.start : token.end]
    if whole[:1].isalpha() and any(character.isdigit() for character in whole):
        return not whole.lower().startswith("x")
    return _NAME_BEFORE.search(text[max(0, token.start - 6) : token.start]) is not None
