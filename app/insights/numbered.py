"""The insights of a recording as they are stored and read: lines with numbers, flags, and citations with their times.
Pure. The `repr` of a line does not contain its text, which exists only in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.insights.drafts import HighlightReason, Insights, Responsible, Section
from app.insights.model import Citation, Flag, Line
from app.transcripts.model import Turn


@dataclass(frozen=True)
class TimedCitation:
    """A part of one turn that supports a line, and when the turn was spoken. The times are in milliseconds from the
    recording's beginning. `turn_number` counts from 0.
    """

    turn_number: int
    start_ms: int
    end_ms: int
    quote: str = field(repr=False)


@dataclass(frozen=True)
class NumberedLine:
    """A line of the insights. The numbers count all lines of the insights from 1, and do not change until the insights
    are written again.
    """

    number: int
    text: str = field(repr=False)
    citations: tuple[TimedCitation, ...]
    flags: frozenset[Flag] = frozenset()


@dataclass(frozen=True)
class NumberedActionItem:
    """Something that somebody has to do. `when` is a part of the line's text, or None."""

    line: NumberedLine
    who: Responsible | None = None
    when: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NumberedChapter:
    """A part of the consultation; the line's text is its title. `start_ms` counts from the recording's beginning."""

    line: NumberedLine
    start_ms: int


@dataclass(frozen=True)
class NumberedHighlight:
    """A part of the recording that is worth seeing. The times count from the recording's beginning."""

    line: NumberedLine
    start_ms: int
    end_ms: int
    reason: HighlightReason


@dataclass(frozen=True)
class NumberedInsights:
    """All lines of the insights into one recording. The text of a topic's line is the topic's name."""

    summary: tuple[NumberedLine, ...] = ()
    key_points: tuple[NumberedLine, ...] = ()
    action_items: tuple[NumberedActionItem, ...] = ()
    topics: tuple[NumberedLine, ...] = ()
    chapters: tuple[NumberedChapter, ...] = ()
    highlights: tuple[NumberedHighlight, ...] = ()
    note: Mapping[Section, tuple[NumberedLine, ...]] = field(default_factory=dict)

    @property
    def lines(self) -> Iterator[NumberedLine]:
        """Yield all lines in order of their numbers."""
        yield from self.summary
        yield from self.key_points
        yield from (item.line for item in self.action_items)
        yield from self.topics
        yield from (chapter.line for chapter in self.chapters)
        yield from (highlight.line for highlight in self.highlights)
        for lines in self.note.values():
            yield from lines

    def without(self, dismissed: Iterable[int]) -> "NumberedInsights":
        """Return the insights without the lines that have these numbers."""
        gone = frozenset(dismissed)

        def keep(lines: Iterable[NumberedLine]) -> tuple[NumberedLine, ...]:
            return tuple(line for line in lines if line.number not in gone)

        return NumberedInsights(
            summary=keep(self.summary),
            key_points=keep(self.key_points),
            action_items=tuple(one for one in self.action_items if one.line.number not in gone),
            topics=keep(self.topics),
            chapters=tuple(one for one in self.chapters if one.line.number not in gone),
            highlights=tuple(one for one in self.highlights if one.line.number not in gone),
            note={section: keep(lines) for section, lines in self.note.items()},
        )


def number_lines(
    insights: Insights, turns: Sequence[Turn], flag: Callable[[Line], frozenset[Flag]]
) -> NumberedInsights:
    """Return the insights with numbers, flags and times. Every citation must name one of the turns."""
    numbering = _Numbering({turn.number: turn for turn in turns}, flag)
    return NumberedInsights(
        summary=numbering.lines(insights.summary),
        key_points=numbering.lines(insights.key_points),
        action_items=tuple(
            NumberedActionItem(numbering.line(item.line), item.who, item.when)
            for item in insights.action_items
        ),
        topics=numbering.lines(Line(topic.name, (topic.citation,)) for topic in insights.topics),
        chapters=tuple(
            NumberedChapter(numbering.line(Line(chapter.title, (chapter.citation,))), chapter.start_ms)
            for chapter in insights.chapters
        ),
        highlights=tuple(
            NumberedHighlight(numbering.line(one.line), one.start_ms, one.end_ms, one.reason)
            for one in insights.highlights
        ),
        note={section: numbering.lines(lines) for section, lines in insights.note.sections},
    )


class _Numbering:
    """Numbers lines in the order in which it gets them."""

    def __init__(self, turns: Mapping[int, Turn], flag: Callable[[Line], frozenset[Flag]]) -> None:
        self._turns, self._flag, self._last = turns, flag, 0

    def lines(self, lines: Iterable[Line]) -> tuple[NumberedLine, ...]:
        return tuple(self.line(line) for line in lines)

    def line(self, line: Line) -> NumberedLine:
        self._last += 1
        return NumberedLine(self._last, line.text, tuple(map(self._time, line.citations)), self._flag(line))

    def _time(self, citation: Citation) -> TimedCitation:
        turn = self._turns[citation.turn_number]
        return TimedCitation(turn.number, turn.start_ms, turn.end_ms, citation.quote)
