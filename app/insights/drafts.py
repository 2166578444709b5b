"""The types of the insights that a writer extracts from one consultation: summary, key points, action items, topics,
chapters, highlights and a note draft. Pure. The `repr` of a text is left out, because a text exists only in memory.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from app.insights.model import Citation, Line


class Section(StrEnum):
    """A section of a SOAP note: subjective, objective, assessment, plan."""

    S = "S"
    O = "O"  # noqa: E741 - the name of the section
    A = "A"
    P = "P"


class Responsible(StrEnum):
    """The person who has to do an action item."""

    DOCTOR = "DOCTOR"
    PATIENT = "PATIENT"


class HighlightReason(StrEnum):
    """Why a part of a recording is worth seeing. TOPIC is the reason if an unknown speaker gives no other."""

    ALLERGY = "ALLERGY"
    MEDICATION = "MEDICATION"
    ASSESSMENT = "ASSESSMENT"
    PLAN = "PLAN"
    FINDING = "FINDING"
    HISTORY = "HISTORY"
    SYMPTOM = "SYMPTOM"
    TOPIC = "TOPIC"


@dataclass(frozen=True)
class ActionItem:
    """Something that somebody has to do. `who` is None if the speaker is unknown or the words do not tell. `when` is
    the time as it was said, a part of the line, or None.
    """

    line: Line
    who: Responsible | None = None
    when: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Topic:
    """A subject of the consultation, in words that were said, with a citation of the first turn that says them."""

    name: str = field(repr=False)
    citation: Citation


@dataclass(frozen=True)
class Chapter:
    """A part of the consultation that begins with a turn. `start_ms` counts from the recording's beginning."""

    title: str = field(repr=False)
    start_ms: int
    citation: Citation


@dataclass(frozen=True)
class Highlight:
    """A part of the recording that is worth seeing. The times count from the recording's beginning."""

    start_ms: int
    end_ms: int
    reason: HighlightReason
    line: Line


@dataclass(frozen=True)
class NoteDraft:
    """The lines of each section of a note, in order of the consultation."""

    subjective: tuple[Line, ...] = ()
    objective: tuple[Line, ...] = ()
    assessment: tuple[Line, ...] = ()
    plan: tuple[Line, ...] = ()

    @property
    def sections(self) -> tuple[tuple[Section, tuple[Line, ...]], ...]:
        """Return the sections in the order of a note, with their lines."""
        return (
            (Section.S, self.subjective),
            (Section.O, self.objective),
            (Section.A, self.assessment),
            (Section.P, self.plan),
        )

    @property
    def lines(self) -> tuple[Line, ...]:
        """Return the lines of all sections, in the order of a note."""
        return tuple(line for _, lines in self.sections for line in lines)


@dataclass(frozen=True)
class Insights:
    """Everything that a writer makes of one consultation."""

    summary: tuple[Line, ...] = ()
    key_points: tuple[Line, ...] = ()
    action_items: tuple[ActionItem, ...] = ()
    topics: tuple[Topic, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    highlights: tuple[Highlight, ...] = ()
    note: NoteDraft = field(default_factory=NoteDraft)
