"""Recognizes halves and quarters after a number, in English or Spanish words. Pure.

Each function of this module reads a bounded number of tokens.
"""

from typing import Final

from app.transcripts.numbers import vocabulary as known
from app.transcripts.numbers.cardinals import Tokens

_FRACTIONS: Final = {
    ("and", "a", "half"): "5",
    ("and", "one", "half"): "5",
    ("y", "medio"): "5",
    ("y", "media"): "5",
    ("and", "a", "quarter"): "25",
    ("and", "one", "quarter"): "25",
    ("y", "cuarto"): "25",
    ("y", "un", "cuarto"): "25",
    ("and", "three", "quarters"): "75",
    ("y", "tres", "cuartos"): "75",
}
"""The decimals that each phrase adds to a number."""
_CLOCK: Final = frozenset({("y", "media"), ("y", "cuarto")})


def fraction_behind(tokens: Tokens, number: int, place: int) -> tuple[str, int] | None:
    """Return the decimals that a phrase such as `and a half` adds to a number, and the position after the phrase.
    The phrase begins at `place`, and the number begins at `number`.

    Return None if the phrase is part of a time of day (`a las doce y media`), or if the fraction belongs to the
    words after it (`five, and a quarter of an hour`).
    """
    for said, decimals in _FRACTIONS.items():
        if all(tokens.joined(place + at) == word for at, word in enumerate(said)):
            stop = place + len(said)
            if said in _CLOCK and _is_time_of_day(tokens, number, stop):
                return None
            if decimals != "5" and tokens.joined(stop) == "of":
                return None
            return decimals, stop
    return None


def fraction_behind_unit(tokens: Tokens, place: int) -> tuple[str, int] | None:
    """Return the decimals that a phrase after the unit adds to a number, as in `two tablets and a half` or `dos
    horas y media`.

    Return None if the fraction may belong to the words after it, as in `two tablets and a half glass`.
    """
    found = fraction_behind(tokens, place, place)
    if found is None:
        return None
    following = tokens.joined(found[1])
    return found if not following or following in known.AFTER_FRACTION else None


def _is_time_of_day(tokens: Tokens, number: int, stop: int) -> bool:
    after = tokens.joined(stop)
    if after in known.UNITS or after in known.COUNTED:
        return False
    is_before = tokens.is_joined(number) and tokens.raw(number - 1) in ("la", "las")
    if after in ("de", "del"):
        behind = (tokens.joined(stop + 1), tokens.joined(stop + 2))
        return is_before or not known.PARTS_OF_DAY.isdisjoint(behind)
    return is_before or after in known.CLOCK_AFTER
