"""Normalizes numbers that are written in digits: their thousands separators, their decimal points, and a scale such
as `million`. Pure.
"""

import re
from typing import Final

MAX_WORD_CHARACTERS: Final = 64

_THOUSANDS: Final = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_SPANISH_THOUSANDS: Final = re.compile(r"[1-9]\d{0,2}(?:(?:\.\d{3}){2,}(?:,\d+)?|\.\d{3},\d+)")
_TRAILING_ZEROS: Final = re.compile(r"(?:0|\d+)\.\d+")
_MAYBE_THOUSANDS: Final = re.compile(r"[1-9]\d{0,2}\.\d{3}")


def plain_number(raw: str) -> str:
    """Return the number without thousands separators, with a decimal point, and without zeros at the end of the
    decimals.
    """
    if _THOUSANDS.fullmatch(raw):
        plain = raw.replace(",", "")
    elif _SPANISH_THOUSANDS.fullmatch(raw):
        plain = raw.replace(".", "").replace(",", ".")
    else:
        plain = raw.replace(",", ".")
    if _TRAILING_ZEROS.fullmatch(plain) and not _MAYBE_THOUSANDS.fullmatch(raw):
        plain = plain.rstrip("0").rstrip(".")
    return plain[:MAX_WORD_CHARACTERS].rstrip(".")


def times_power_of_ten(normalized: str, zeros: int) -> str:
    """Return the number with its decimal point moved to the right by the given number of digits."""
    whole, _, decimals = normalized.partition(".")
    moved = whole + decimals[:zeros].ljust(zeros, "0")
    left = decimals[zeros:]
    return (moved.lstrip("0") or "0") + (f".{left}" if left else "")
