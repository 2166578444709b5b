"""The types of note drafts. Pure. The `repr` of a line does not contain its text, which exists only in memory.

A draft has the four sections of a SOAP note. A line is a line of the insights, or a line that the doctor wrote. Flags
are not a part of a stored line: they follow from the line, its quotes and the present transcript.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from app.insights.drafts import Section
from app.insights.model import Citation, Flag

MAX_LINES: Final = 100
"""How many lines a section has at most."""
MAX_LINE_CHARACTERS: Final = 2_000
MAX_REMOVED: Final = 1_000
"""How many removed flags a draft keeps at most."""


class Resolution(StrEnum):
    """How a doctor resolved a flag.

    KEPT: the doctor confirmed the line as it is.
    CHANGED: the doctor changed the line, and the line does not have the flag any more.
    REMOVED: the doctor removed the line.
    """

    KEPT = "KEPT"
    CHANGED = "CHANGED"
    REMOVED = "REMOVED"


class LineAuthor(StrEnum):
    """Who wrote a line: the writer of the insights, or the doctor. A line that the doctor changed is the doctor's."""

    WRITER = "WRITER"
    DOCTOR = "DOCTOR"


@dataclass(frozen=True)
class DraftLine:
    """One line of a draft. `number` identifies the line in its draft and never changes.

    `kept` has the flags that the doctor confirmed for this text. `changed` has the flags that earlier texts of the line
    had, and that a change of the text has resolved.
    """

    number: int
    text: str = field(repr=False)
    citations: tuple[Citation, ...] = ()
    author: LineAuthor = LineAuthor.DOCTOR
    kept: frozenset[Flag] = frozenset()
    changed: frozenset[Flag] = frozenset()


@dataclass(frozen=True)
class RemovedFlag:
    """A flag of a line that the doctor removed."""

    section: Section
    flag: Flag


@dataclass(frozen=True)
class Writer:
    """The language model that wrote lines, and its vendor, which is a host or `resguardo`."""

    vendor: str
    model: str


@dataclass(frozen=True)
class Draft:
    """The lines of each section of a draft, and the flags of removed lines.

    `next_number` is the number of the next new line. `generation` is the generation of the insights whose lines the
    draft has, or None if it has none. `writer` is the model that wrote these lines, or None.
    """

    sections: Mapping[Section, tuple[DraftLine, ...]]
    next_number: int = 1
    removed: tuple[RemovedFlag, ...] = ()
    generation: int | None = None
    writer: Writer | None = None

    @property
    def lines(self) -> tuple[DraftLine, ...]:
        """Return the lines of all sections, in the order of a note."""
        return tuple(line for section in Section for line in self.sections.get(section, ()))

    def of(self, section: Section) -> tuple[DraftLine, ...]:
        """Return the lines of a section."""
        return self.sections.get(section, ())

    def with_section(self, section: Section, lines: tuple[DraftLine, ...]) -> "Draft":
        """Return the draft with these lines in the section."""
        return replace(self, sections={**self.sections, section: lines})


@dataclass(frozen=True)
class ResolvedFlag:
    """A flag of a line with its resolution, or None if the doctor has not resolved the flag."""

    flag: Flag
    resolution: Resolution | None


@dataclass(frozen=True)
class CheckedLine:
    """A line with its flags, in the order of `Flag`."""

    line: DraftLine
    flags: tuple[ResolvedFlag, ...]


EMPTY_DRAFT: Final = Draft(dict.fromkeys(Section, ()))
