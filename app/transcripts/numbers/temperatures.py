"""Recognizes degrees, Celsius and Fahrenheit among the tokens of an English or Spanish text. Pure.

Each function of this module reads a bounded number of tokens.
"""

import re
from typing import Final

from app.transcripts.numbers import vocabulary as known
from app.transcripts.numbers.cardinals import Tokens

_CELSIUS_OF_A_BODY: Final = (34.0, 43.0)
_FAHRENHEIT_OF_A_BODY: Final = (94.0, 110.0)
_NUMBER: Final = re.compile(r"\d{2,3}(?:\.\d{1,2})?")
_WORDS_BEFORE: Final = 4
_WORDS_AFTER: Final = 3


def temperature(tokens: Tokens, place: int, number: str) -> tuple[tuple[str, ...], int] | None:
    """Return the normalized words for the degrees or the temperature scale at this position, and the position after
    them.

    `number` is the normalized number directly before the position, or "" if there is none. If a text does not name
    Celsius or Fahrenheit, the degrees get the scale in which the number can be a body temperature. If the degrees
    are an angle (`37 degrees of flexion`), they get no temperature scale. A single letter (`C` or `F`) counts as a
    temperature scale only after a number that can be a body temperature.
    """
    raw = tokens.raw(place)
    if raw in known.DEGREES:
        scale = _scale(tokens, place + 1) if number or raw == "°" else _name(tokens.joined(place + 1))
        if scale:
            return ("degree", scale), place + 2
        scale = "" if _is_angle(tokens, place) else _scale_of_body(number)
        return (("degree", scale) if scale else ("degree",)), place + 1
    if name := _name(raw):
        return (("degree", name) if number else (name,)), place + 1
    scale = _scale(tokens, place) if number else ""
    return (("degree", scale), place + 1) if scale and scale == _scale_of_body(number) else None


def _name(raw: str) -> str:
    return known.TEMPERATURE_SCALES.get(raw, "")


def _scale(tokens: Tokens, place: int) -> str:
    """Return the temperature scale that a name or a letter at this position means. The letter `C` in `C-section`
    and `C diff` does not mean Celsius.
    """
    raw = tokens.joined(place)
    letter = known.TEMPERATURE_LETTERS.get(raw, "")
    if not letter:
        return _name(raw)
    is_part = tokens.gap(place + 1) in ("", "-") and bool(tokens.raw(place + 1))
    return "" if is_part or tokens.raw(place + 1) in known.AFTER_LETTER_C else letter


def _scale_of_body(number: str) -> str:
    value = float(number) if _NUMBER.fullmatch(number) else 0.0
    if _CELSIUS_OF_A_BODY[0] <= value <= _CELSIUS_OF_A_BODY[1]:
        return "celsius"
    return "fahrenheit" if _FAHRENHEIT_OF_A_BODY[0] <= value <= _FAHRENHEIT_OF_A_BODY[1] else ""


def _is_angle(tokens: Tokens, place: int) -> bool:
    near = (*range(place - _WORDS_BEFORE - 1, place), *range(place + 1, place + 1 + _WORDS_AFTER))
    return any(tokens.raw(at) in known.ANGLES for at in near)
