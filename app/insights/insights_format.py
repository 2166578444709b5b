"""Formats and parses the stored form of insights and of a language service's answer, before encryption. Pure.

Both are compact JSON with a version. The parser is strict: it raises an error for an unknown version or an unknown
structure. No error contains text of the insights.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar, cast

from app.errors import Conflict
from app.insights.drafts import HighlightReason, Responsible, Section
from app.insights.model import Flag
from app.insights.numbered import (
    NumberedActionItem,
    NumberedChapter,
    NumberedHighlight,
    NumberedInsights,
    NumberedLine,
    TimedCitation,
)
from app.insights.writing.coverage import Coverage, UncitedKind, UncitedTurn

INSIGHTS_FORMAT: Final = 1
ANSWER_FORMAT: Final = 1
MAX_ANSWER_CHARACTERS: Final = 2_000_000
"""An answer is cut here before it is stored, so that its ciphertext fits into the database's limit."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class StoredInsights:
    """The insights into a recording, and what they cover. `uncited` are the turns with a number, a dose, an allergy or
    a medication that no line of the note cites.
    """

    insights: NumberedInsights
    coverage: Coverage
    uncited: tuple[UncitedTurn, ...] = ()


@dataclass(frozen=True)
class StoredAnswer:
    """The final answer of a language service, and the service and model that gave it."""

    text: str = field(repr=False)
    vendor: str
    model: str


def format_insights(stored: StoredInsights) -> bytes:
    """Return the insights as JSON."""
    insights = stored.insights
    return _format_json(
        {
            "insights": INSIGHTS_FORMAT,
            "coverage": asdict(stored.coverage),
            "uncited": [
                [turn.turn_number, sorted(kind.value for kind in turn.kinds), list(turn.quotes)]
                for turn in stored.uncited
            ],
            "summary": _line_rows(insights.summary),
            "key_points": _line_rows(insights.key_points),
            "action_items": [
                [_line_row(one.line), one.who and one.who.value, one.when] for one in insights.action_items
            ],
            "topics": _line_rows(insights.topics),
            "chapters": [[_line_row(one.line), one.start_ms] for one in insights.chapters],
            "highlights": [
                [_line_row(one.line), one.start_ms, one.end_ms, one.reason.value]
                for one in insights.highlights
            ],
            "note": {section.value: _line_rows(lines) for section, lines in insights.note.items()},
        }
    )


def parse_insights(text: bytes) -> StoredInsights:
    """Return the insights. Raises Conflict (insights_format_unknown, insights_malformed)."""

    def read(row: Mapping[str, Any]) -> StoredInsights:
        insights = NumberedInsights(
            summary=_parse_lines(row["summary"]),
            key_points=_parse_lines(row["key_points"]),
            action_items=tuple(
                NumberedActionItem(_parse_line(line), who and Responsible(who), when)
                for line, who, when in row["action_items"]
            ),
            topics=_parse_lines(row["topics"]),
            chapters=tuple(
                NumberedChapter(_parse_line(line), int(start_ms)) for line, start_ms in row["chapters"]
            ),
            highlights=tuple(
                NumberedHighlight(_parse_line(line), int(start_ms), int(end_ms), HighlightReason(reason))
                for line, start_ms, end_ms, reason in row["highlights"]
            ),
            note={Section(section): _parse_lines(lines) for section, lines in row["note"].items()},
        )
        uncited = (
            UncitedTurn(int(number), frozenset(map(UncitedKind, kinds)), tuple(quotes))
            for number, kinds, quotes in row["uncited"]
        )
        return StoredInsights(insights, Coverage(**row["coverage"]), tuple(uncited))

    return _parse(text, "insights", INSIGHTS_FORMAT, read)


def format_answer(answer: StoredAnswer) -> bytes:
    """Return the answer as JSON. A text that is longer than `MAX_ANSWER_CHARACTERS` is cut."""
    text = answer.text[:MAX_ANSWER_CHARACTERS]
    return _format_json(
        {"answer": ANSWER_FORMAT, "text": text, "vendor": answer.vendor, "model": answer.model}
    )


def parse_answer(text: bytes) -> StoredAnswer:
    """Return the answer. Raises Conflict (insights_format_unknown, insights_malformed)."""
    return _parse(
        text, "answer", ANSWER_FORMAT, lambda row: StoredAnswer(row["text"], row["vendor"], row["model"])
    )


def _parse(text: bytes, kind: str, version: int, read: Callable[[Mapping[str, Any]], _T]) -> _T:
    try:
        row = json.loads(text)
        if row[kind] != version:
            raise Conflict("insights_format_unknown")
        return read(row)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Conflict("insights_malformed") from None


def _format_json(value: object) -> bytes:
    """Return the value as JSON in UTF-8. Half of a surrogate pair becomes `?`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")


def _line_rows(lines: tuple[NumberedLine, ...]) -> list[object]:
    return [_line_row(line) for line in lines]


def _line_row(line: NumberedLine) -> list[object]:
    citations = [[one.turn_number, one.start_ms, one.end_ms, one.quote] for one in line.citations]
    return [line.number, line.text, citations, sorted(flag.value for flag in line.flags)]


def _parse_lines(rows: object) -> tuple[NumberedLine, ...]:
    return tuple(_parse_line(row) for row in cast("list[Any]", rows))


def _parse_line(row: Any) -> NumberedLine:
    number, text, citations, flags = row
    if not (isinstance(number, int) and isinstance(text, str)):
        raise TypeError
    return NumberedLine(
        number,
        text,
        tuple(TimedCitation(*_citation(one)) for one in citations),
        frozenset(Flag(flag) for flag in flags),
    )


def _citation(row: Any) -> tuple[int, int, int, str]:
    turn_number, start_ms, end_ms, quote = row
    return int(turn_number), int(start_ms), int(end_ms), str(quote)
