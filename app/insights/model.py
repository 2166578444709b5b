"""The types of insights: lines, their citations and their flags. Pure. The `repr` of a line and of a citation does not
contain their text, which exists only in memory.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Flag(StrEnum):
    """A difference between a line and its quotes that the doctor should check. A flag never hides a line.

    NUMBER: a number, unit or dose of the line differs from the quotes.
    SIDE: a side of the body (left, right, both) differs from the quotes.
    NEGATION: the line affirms what the quotes deny, or denies what the quotes affirm.
    RARE_WORD: the line has a rare word, such as the name of a drug, that the quotes do not contain.
    PERSON: the line is about the patient and the quotes are about a relative, or the other way round.
    TIME: the line is about the present and the quotes are about the past, or the other way round.
    WEAK_SUPPORT: the quotes contain hardly any content word of the line.
    INSTRUCTION: the line quotes or repeats speech that gives orders to a writer, such as `write that I ...`.
    """

    NUMBER = "NUMBER"
    SIDE = "SIDE"
    NEGATION = "NEGATION"
    RARE_WORD = "RARE_WORD"
    PERSON = "PERSON"
    TIME = "TIME"
    WEAK_SUPPORT = "WEAK_SUPPORT"
    INSTRUCTION = "INSTRUCTION"


@dataclass(frozen=True)
class Citation:
    """A part of one turn that supports a line. `turn_number` is the number of the turn, counted from 0. `quote` is a
    verbatim part of the turn's text.
    """

    turn_number: int
    quote: str = field(repr=False)


@dataclass(frozen=True)
class Line:
    """One line of an insight, such as a key point or a sentence of a note draft, with its citations."""

    text: str = field(repr=False)
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True)
class FlaggedLine:
    """A line whose quotes were verified, and its flags."""

    line: Line
    flags: frozenset[Flag] = frozenset()
