"""Compares the numbers, units and doses of a line with those of its quotes. Pure."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from app.insights.flags.alignment import similarity_of_context
from app.insights.flags.number_mentions import AGE, NumberMention, find_numbers, find_readings
from app.insights.flags.vital_signs import find_vital_sign
from app.insights.reading import Passage

_UNIT_BONUS: Final = 1.0
_UNIT_MISMATCH: Final = -1.0
_SAME_UNITS: Final = (
    {AGE, "year"},
    {"degree", "celsius"},
    {"degree", "fahrenheit"},
    {"mm", "mmhg"},
    {"bpm", "beat"},
)
_MARGIN: Final = 0.1
_MOST_WORDS_IN_PAIR: Final = 2
_MOST_WORDS_IN_QUOTED_PAIR: Final = 4

Said = tuple[Passage, NumberMention]


def lacks_number(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether a number of the line has a value that no quote contains."""
    said = _said(quotes)
    return any(not any(each.may_mean(own) for _, each in said) for own in find_numbers(line))


def differs_in_number(line: Passage, quotes: Sequence[Passage]) -> bool:
    """Return whether a number of the line is not in the quotes, has another unit there, or stands there beside words
    of another number.
    """
    own = find_numbers(line)
    if not own:
        return False
    said = _said(quotes)
    known = frozenset(value for mention in own for value in mention.values)
    return (
        any(_differs(line, mention, said, known) for mention in own)
        or _repeats(own, said)
        or any(_breaks_pair(first, second, said) for first, second in itertools.pairwise(own))
    )


def _said(quotes: Sequence[Passage]) -> list[Said]:
    return [(quote, mention) for quote in quotes for mention in find_readings(quote)]


def _differs(line: Passage, own: NumberMention, said: Sequence[Said], known: frozenset[float]) -> bool:
    same = [
        _fit(line, own, quote, each)
        for quote, each in said
        if each.may_mean(own) and not _has_other_unit(own, each)
    ]
    if not same:
        return True
    measured = _find_measurements(line, own, said)
    if measured:
        return not any(each.may_mean(own) for each in measured)
    others = [
        _fit(line, own, quote, each) for quote, each in said if each.is_certain and not each.values & known
    ]
    return max(others, default=-math.inf) > max(same) + _MARGIN


def _find_measurements(line: Passage, own: NumberMention, said: Sequence[Said]) -> list[NumberMention]:
    """Return the numbers that the quotes have for the vital sign of the line's number, or none if it is not one."""
    sign = find_vital_sign(line, own.place)
    if not sign:
        return []
    return [each for quote, each in said if each.is_certain and find_vital_sign(quote, each.place) == sign]


def _has_other_unit(own: NumberMention, each: NumberMention) -> bool:
    units = {own.unit, each.unit}
    return len(units) > 1 and "" not in units and units not in _SAME_UNITS


def _fit(line: Passage, own: NumberMention, quote: Passage, each: NumberMention) -> float:
    fit = similarity_of_context(line, own.place, quote, each.place)
    if own.unit and each.unit:
        fit += _UNIT_BONUS if own.unit == each.unit else _UNIT_MISMATCH
    return fit


def _repeats(own: Sequence[NumberMention], said: Sequence[Said]) -> bool:
    """Return whether the line has a number more often than the quotes have it."""
    counted = Counter(mention.values for mention in own)
    return any(
        count > 1 and sum(not each.values.isdisjoint(values) for _, each in said) < count
        for values, count in counted.items()
    )


def _breaks_pair(first: NumberMention, second: NumberMention, said: Sequence[Said]) -> bool:
    """Return whether the line has a pair of numbers, such as a blood pressure, of which the quotes have one number
    beside another one.
    """
    if second.place - first.place > _MOST_WORDS_IN_PAIR:
        return False
    certain = [(quote, each) for quote, each in said if each.is_certain]
    pairs = [
        (each, following)
        for (quote, each), (other, following) in itertools.pairwise(certain)
        if quote is other and following.place - each.place <= _MOST_WORDS_IN_QUOTED_PAIR
    ]
    matches = [(bool(a.values & first.values), bool(b.values & second.values)) for a, b in pairs]
    return (True, True) not in matches and ((True, False) in matches or (False, True) in matches)
