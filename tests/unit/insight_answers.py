"""Model answers for the tests of insights."""

from collections.abc import Iterator
from typing import Any

from app.insights.drafts import Insights
from app.insights.model import Line

_LISTS = ("summary", "key_points", "action_items", "topics", "chapters", "highlights")
_SECTIONS = ("subjective", "objective", "assessment", "plan")


def line(text: str, *citations: tuple[int, str]) -> dict[str, Any]:
    """Return a line of an answer. Each citation is the number of a turn and a quote."""
    return {
        "text": text,
        "citations": [{"turn": f"t{number}", "quote": quote} for number, quote in citations],
    }


def answer(*, note: dict[str, Any] | None = None, **lists: Any) -> dict[str, Any]:
    """Return an answer for insights, whose other lists are empty."""
    return {
        **{name: [] for name in _LISTS},
        "note": {**{name: [] for name in _SECTIONS}, **(note or {})},
        **lists,
    }


def lines_of(insights: Insights) -> Iterator[Line]:
    """Yield every line, also those of topics and chapters, whose text is their name or title."""
    yield from (*insights.summary, *insights.key_points, *insights.note.lines)
    yield from (item.line for item in insights.action_items)
    yield from (highlight.line for highlight in insights.highlights)
    yield from (Line(topic.name, (topic.citation,)) for topic in insights.topics)
    yield from (Line(chapter.title, (chapter.citation,)) for chapter in insights.chapters)
