"""Plants slips in lines of notes: a changed number, side, negation, drug, relative or time. Pure.

Each function returns the altered lines, and none if the line has nothing that can be altered. The caller's random
generator makes all choices.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.insights.flags.number_mentions import find_numbers
from app.insights.flags.sides import Side, find_sides
from app.insights.flags.words import is_drug
from app.insights.model import Flag
from app.insights.reading import read_passage
from app.insights.vocabulary import DRUG_NAMES


class Kind(StrEnum):
    """The kind of a slip."""

    OTHER_NUMBER = "number of the dialogue"
    DIGIT = "changed digit"
    FACTOR_OF_TEN = "factor of ten"
    SIDE = "side swapped"
    NEGATION_ADDED = "negation added"
    NEGATION_DROPPED = "negation dropped"
    DRUG = "drug exchanged"
    RELATIVE = "relative exchanged"
    TIME = "time exchanged"


CATCHING_FLAGS: Final = {
    Kind.OTHER_NUMBER: {Flag.NUMBER},
    Kind.DIGIT: {Flag.NUMBER},
    Kind.FACTOR_OF_TEN: {Flag.NUMBER},
    Kind.SIDE: {Flag.SIDE},
    Kind.NEGATION_ADDED: {Flag.NEGATION},
    Kind.NEGATION_DROPPED: {Flag.NEGATION},
    Kind.DRUG: {Flag.RARE_WORD},
    Kind.RELATIVE: {Flag.PERSON},
    Kind.TIME: {Flag.TIME, Flag.NUMBER},
}
"""The flags that catch a slip. `3 months` for `3 weeks` is a slip of the time, and differs in the unit of a number."""


@dataclass(frozen=True)
class Slip:
    """A line with a slip."""

    kind: Kind
    text: str


def _rules(*rules: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), replacement) for pattern, replacement in rules)


_DROPPED: Final = _rules(
    (r"\bdenies\b", "reports"),
    (r"\bdenied\b", "reported"),
    (r"\bno (?!longer\b)", ""),
    (r"\bcannot\b", "can"),
    (r"\bnot ", ""),
    (r"n't\b", ""),
    (r"\bnever ", ""),
    (r"\bwithout\b", "with"),
    (r"\bnegative\b", "positive"),
    (r"\bunable\b", "able"),
)
_ADDED: Final = _rules(
    (r"\b(?:reports|endorses|notes|admits to|complains of|describes)\b", "denies"),
    (r"\b(has|have|had) (?=been\b|had\b|\w+ed\b)", r"\1 not "),
    (r"\b(has|have|had) (?!been\b|had\b|\w+ed\b)", r"\1 no "),
    (r"\b(is|are|was|were|will|can|should|would|does) (?!not\b)", r"\1 not "),
    (r"\bwith\b", "without"),
    (r"\bpositive\b", "negative"),
    (r"\bable to\b", "unable to"),
)
_SPANISH_DROPPED: Final = _rules(
    (r"\bniega\b", "refiere"),
    (r"\bno ", ""),
    (r"\bsin\b", "con"),
    (r"\bnunca\b", "siempre"),
    (r"\bnegativ(?=[oa])", "positiv"),
)
_SPANISH_ADDED: Final = _rules(
    (r"\b(?:refiere|comenta)\b", "niega"),
    (r"\b(presenta|tiene|toma|es|está|ha|fuma|bebe|duerme|puede|hay) ", r"no \1 "),
    (r"\bcon\b", "sin"),
    (r"\bpositiv(?=[oa])", "negativ"),
)
_SIDES: Final = {
    "left": "right", "right": "left", "izquierda": "derecha", "izquierdo": "derecho", "derecha": "izquierda",
    "derecho": "izquierdo",
}  # fmt: skip
_RELATIVES: Final = {
    "mother": "father", "father": "mother", "brother": "sister", "sister": "brother", "son": "daughter",
    "daughter": "son", "wife": "husband", "husband": "wife", "madre": "padre", "padre": "madre", "hermano": "hermana",
    "hermana": "hermano", "hijo": "hija", "hija": "hijo", "esposa": "esposo", "marido": "mujer",
}  # fmt: skip
_TIMES: Final = {
    "currently": "previously", "previously": "currently", "days": "weeks", "weeks": "months", "months": "years",
    "years": "months", "today": "last year", "yesterday": "last month", "actualmente": "anteriormente",
    "anteriormente": "actualmente", "días": "semanas", "semanas": "meses", "meses": "años", "años": "meses",
}  # fmt: skip


def plant_slips(
    text: str, dialogue_numbers: Sequence[float], dialogue_drugs: Sequence[str], chooser: random.Random
) -> list[Slip]:
    """Return the line with one slip of each kind that it allows. `dialogue_numbers` and `dialogue_drugs` are those of
    the dialogue, in a fixed order.
    """
    return [
        *plant_numbers(text, dialogue_numbers, chooser),
        *plant_side(text, chooser),
        *plant_negation(text, chooser),
        *plant_drug(text, dialogue_drugs, chooser),
        *_plant_word(Kind.RELATIVE, text, _RELATIVES, chooser),
        *_plant_word(Kind.TIME, text, _TIMES, chooser),
    ]


def plant_numbers(text: str, others: Sequence[float], chooser: random.Random) -> Iterator[Slip]:
    """Yield the line with one of its numbers replaced by another one of the dialogue, by one with another digit, and by
    ten times or a tenth of it.
    """
    line = read_passage(text)
    own = find_numbers(line)
    if not own:
        return
    token = line.tokens[chooser.choice(own).place]
    value = float(token.word)
    if replacing := [other for other in others if other != value]:
        yield Slip(
            Kind.OTHER_NUMBER, _replace(text, token.start, token.end, f"{chooser.choice(replacing):.10g}")
        )
    yield Slip(Kind.DIGIT, _replace(text, token.start, token.end, _change_digit(token.word, chooser)))
    scaled = value * 10 if chooser.random() < 0.5 else value / 10
    if scaled != value:
        yield Slip(Kind.FACTOR_OF_TEN, _replace(text, token.start, token.end, f"{scaled:.10g}"))


def plant_side(text: str, chooser: random.Random) -> Iterator[Slip]:
    """Yield the line with one side swapped."""
    line = read_passage(text)
    places = [place for place, side in find_sides(line) if side is not Side.BOTH]
    tokens = [line.tokens[place] for place in places if line.tokens[place].raw in _SIDES]
    if tokens:
        token = chooser.choice(tokens)
        yield Slip(Kind.SIDE, _replace(text, token.start, token.end, _SIDES[token.raw]))


def plant_negation(text: str, chooser: random.Random) -> Iterator[Slip]:
    """Yield the line with one negation dropped or, if it has none, with one added."""
    for kind, rules in (
        (Kind.NEGATION_DROPPED, (*_DROPPED, *_SPANISH_DROPPED)),
        (Kind.NEGATION_ADDED, (*_ADDED, *_SPANISH_ADDED)),
    ):
        found = [(match, replacement) for pattern, replacement in rules for match in pattern.finditer(text)]
        if found:
            match, replacement = chooser.choice(found)
            yield Slip(kind, _replace(text, match.start(), match.end(), match.expand(replacement)))
            return


def plant_drug(text: str, others: Sequence[str], chooser: random.Random) -> Iterator[Slip]:
    """Yield the line with one drug replaced by another one of the dialogue or, if there is none, by a common drug."""
    tokens = [token for token in read_passage(text).tokens if is_drug(token.raw)]
    if not tokens:
        return
    token = chooser.choice(tokens)
    names = DRUG_NAMES.get(token.raw, frozenset({token.raw}))
    replacing = [drug for drug in others if drug not in names] or [
        drug for drug in sorted(DRUG_NAMES) if drug not in names
    ]
    yield Slip(Kind.DRUG, _replace(text, token.start, token.end, chooser.choice(replacing)))


def _plant_word(
    kind: Kind, text: str, exchanged: Mapping[str, str], chooser: random.Random
) -> Iterator[Slip]:
    found = [match for match in re.finditer(r"\w+", text) if match[0].lower() in exchanged]
    if found:
        match = chooser.choice(found)
        yield Slip(kind, _replace(text, match.start(), match.end(), exchanged[match[0].lower()]))


def _change_digit(number: str, chooser: random.Random) -> str:
    """Return the number with one other digit. The first digit does not become 0."""
    at = chooser.choice([place for place, digit in enumerate(number) if digit.isdigit()])
    digits = [digit for digit in "0123456789" if digit != number[at] and (at or digit != "0")]
    return number[:at] + chooser.choice(digits) + number[at + 1 :]


def _replace(text: str, start: int, end: int, replacement: str) -> str:
    return text[:start] + replacement + text[end:]
