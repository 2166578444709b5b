"""Makes verified insights out of an answer that follows the schema. Pure."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from app.insights.drafts import (
    ActionItem,
    Chapter,
    Highlight,
    HighlightReason,
    Insights,
    NoteDraft,
    Responsible,
    Topic,
)
from app.insights.evidence import Evidence
from app.insights.model import Citation, Line
from app.insights.quotes import locate_quote
from app.insights.turn_order import TurnOrder
from app.insights.writing.attribution import Attribution
from app.insights.writing.transcript_lines import parse_turn_id
from app.transcripts.model import Turn

MAX_LINE_CHARACTERS: Final = 1_000
MAX_CITATIONS: Final = 8
MAX_HIGHLIGHT_MS: Final = 60_000
_AROUND_MS: Final = 8_000
_UNSEEN: Final = frozenset({"Cc", "Cf", "Co", "Cn"})

Item = Mapping[str, Any]


class LineReader:
    """Reads the lines of one answer. `lines` are those that were kept, and `dropped_count` counts the others."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.lines: list[Line] = []
        self.dropped_count = 0
        self._order = TurnOrder(turns)
        self._evidence = Evidence(turns)
        self._attribution = Attribution(self._order)

    @property
    def kept_count(self) -> int:
        """Return the number of lines that were kept."""
        return len(self.lines)

    def read_insights(self, answer: Item) -> Insights:
        """Return the insights of an answer of `schema.insights_schema`. Lines without evidence are dropped."""
        note = answer["note"]
        return Insights(
            summary=self.read_lines(answer["summary"]),
            key_points=self.read_lines(answer["key_points"]),
            action_items=tuple(self._read_action_items(answer["action_items"])),
            topics=tuple(self._read_topics(answer["topics"])),
            chapters=tuple(self._read_chapters(answer["chapters"])),
            highlights=tuple(self._read_highlights(answer["highlights"])),
            note=NoteDraft(
                *(self.read_lines(note[name]) for name in ("subjective", "objective", "assessment", "plan"))
            ),
        )

    def read_lines(self, items: Iterable[Item]) -> tuple[Line, ...]:
        """Return the lines that have evidence. A line that was written twice is returned once."""
        found = (self._read_line(item["text"], item["citations"]) for item in items)
        return tuple(dict.fromkeys(line for line in found if line is not None))

    def _read_line(self, text: str, cited: Sequence[Item]) -> Line | None:
        """Return the line with verified quotes, or None and count it as dropped."""
        citations = tuple(_read_citations(cited))
        line = Line(clean_text(text), citations)
        is_short = len(line.text) <= MAX_LINE_CHARACTERS and len(citations) == len(cited) <= MAX_CITATIONS
        verified = self._evidence.verify(line) if is_short else None
        if verified is None or self._attribution.is_attributed(verified):
            self.dropped_count += 1
            return None
        self.lines.append(verified)
        return verified

    def _read_action_items(self, items: Iterable[Item]) -> Iterable[ActionItem]:
        for item in items:
            line = self._read_line(item["text"], item["citations"])
            if line is None:
                continue
            who = Responsible(item["who"]) if item["who"] else None
            when = clean_text(item["when"] or "")
            is_said = any(locate_quote(when, citation.quote) for citation in line.citations)
            yield ActionItem(
                line, None if self._attribution.is_unknown(line) else who, when if is_said else None
            )

    def _read_topics(self, items: Iterable[Item]) -> Iterable[Topic]:
        for item in items:
            line = self._read_line(item["name"], [item["citation"]])
            if line is not None:
                yield Topic(line.text, line.citations[0])

    def _read_chapters(self, items: Iterable[Item]) -> Iterable[Chapter]:
        found: dict[int, Chapter] = {}
        for item in items:
            line = self._read_line(item["title"], [item["citation"]])
            if line is not None:
                start_ms = self._start(item["first_turn"], line.citations[0])
                found.setdefault(start_ms, Chapter(line.text, start_ms, line.citations[0]))
        return [found[start_ms] for start_ms in sorted(found)]

    def _start(self, name: str, citation: Citation) -> int:
        """Return when the turn with the name begins, or when the quote is said if there is no such turn before it."""
        turn, (quoted_ms, _) = self._find(name), self._times(citation)
        return turn.start_ms if turn and turn.start_ms <= quoted_ms else quoted_ms

    def _find(self, name: str) -> Turn | None:
        number = parse_turn_id(name)
        return None if number is None else self._order.find(number)

    def _read_highlights(self, items: Iterable[Item]) -> Iterable[Highlight]:
        found = []
        for item in items:
            line = self._read_line(item["text"], item["citations"])
            if line is not None:
                start_ms, end_ms = self._moment(line, item["first_turn"], item["last_turn"])
                reason = HighlightReason(item["reason"])
                if reason is HighlightReason.SYMPTOM and self._attribution.is_unknown(line):
                    reason = HighlightReason.TOPIC
                found.append(Highlight(start_ms, end_ms, reason, line))
        return sorted(found, key=lambda highlight: highlight.start_ms)

    def _moment(self, line: Line, first: str, last: str) -> tuple[int, int]:
        """Return the time range from the first to the last turn.

        If the range does not contain the quotes or is longer than `MAX_HIGHLIGHT_MS`, return the time of the quotes
        and some seconds around them, at most `MAX_HIGHLIGHT_MS` in all.
        """
        quoted = [self._times(citation) for citation in line.citations]
        start_ms, end_ms = min(start for start, _ in quoted), max(end for _, end in quoted)
        first_turn, last_turn = self._find(first), self._find(last)
        begin = first_turn.start_ms if first_turn else start_ms
        end = last_turn.end_ms if last_turn else end_ms
        if begin <= start_ms and end >= end_ms and end - begin <= MAX_HIGHLIGHT_MS:
            return begin, end
        spoken = [turn for each in line.citations if (turn := self._order.find(each.turn_number))]
        start_ms = max(start_ms - _AROUND_MS, min(turn.start_ms for turn in spoken))
        end_ms = min(end_ms + _AROUND_MS, max(turn.end_ms for turn in spoken))
        return start_ms, min(end_ms, start_ms + MAX_HIGHLIGHT_MS)

    def _times(self, citation: Citation) -> tuple[int, int]:
        """Return when the quote is said, interpolated within its turn."""
        turn = self._order.find(citation.turn_number)
        place = locate_quote(citation.quote, turn.text) if turn else None
        if turn is None or place is None:
            return 0, 0
        duration_ms, characters = turn.end_ms - turn.start_ms, max(1, len(turn.text))
        start, end = place
        return (
            turn.start_ms + duration_ms * start // characters,
            turn.start_ms + duration_ms * end // characters,
        )


def _read_citations(items: Iterable[Item]) -> Iterable[Citation]:
    for item in items:
        number = parse_turn_id(item["turn"])
        if number is not None:
            yield Citation(number, item["quote"])


def clean_text(text: str) -> str:
    """Return the text as one line, without characters that are not seen, such as those that change the direction."""
    seen = "".join(char for char in text if char.isspace() or unicodedata.category(char) not in _UNSEEN)
    return " ".join(seen.split())
