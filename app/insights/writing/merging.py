"""Merges the insights of the parts of a long consultation. Pure."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final, TypeVar

from app.insights.drafts import Insights, NoteDraft, Topic
from app.insights.model import Line
from app.insights.quotes import split_words
from app.insights.turn_order import TurnOrder
from app.insights.writing.requests import MAX_SUMMARY_WORDS
from app.transcripts.model import Turn

MAX_KEY_POINTS: Final = 20
MAX_TOPICS: Final = 12
MAX_CHAPTERS: Final = 40
MAX_HIGHLIGHTS: Final = 20
_Item = TypeVar("_Item")


def merge_insights(parts: Sequence[Insights], turns: Sequence[Turn]) -> Insights:
    """Return the insights of all parts, which are in order of the consultation.

    The note and the action items have the lines of all parts. From each other list, every part gives its first items
    in turn until the list is full. The summary keeps its limit of words.
    """
    if len(parts) == 1:
        return parts[0]
    order = TurnOrder(turns)
    places = {turn.number: place for place, turn in enumerate(order.turns)}

    def place(line: Line) -> int:
        return min(places.get(citation.turn_number, 0) for citation in line.citations)

    notes = [part.note for part in parts]
    key_points = _alternate(part.key_points for part in parts)[:MAX_KEY_POINTS]
    chapters = _alternate(part.chapters for part in parts)[:MAX_CHAPTERS]
    highlights = _alternate(part.highlights for part in parts)[:MAX_HIGHLIGHTS]
    return Insights(
        summary=tuple(sorted(_fit_summary(_alternate(part.summary for part in parts)), key=place)),
        key_points=tuple(sorted(key_points, key=place)),
        action_items=tuple(item for part in parts for item in part.action_items),
        topics=tuple(_merge_topics(_alternate(part.topics for part in parts))),
        chapters=tuple(sorted(chapters, key=lambda chapter: chapter.start_ms)),
        highlights=tuple(sorted(highlights, key=lambda highlight: highlight.start_ms)),
        note=NoteDraft(
            subjective=tuple(line for note in notes for line in note.subjective),
            objective=tuple(line for note in notes for line in note.objective),
            assessment=tuple(line for note in notes for line in note.assessment),
            plan=tuple(line for note in notes for line in note.plan),
        ),
    )


def _alternate(lists: Iterable[Sequence[_Item]]) -> list[_Item]:
    """Return the first item of each list, then the second item of each list, and so on, each item once."""
    rows = zip_longest(*lists)
    return list(dict.fromkeys(item for row in rows for item in row if item is not None))


def _fit_summary(lines: Iterable[Line]) -> list[Line]:
    """Return the first lines that have at most `MAX_SUMMARY_WORDS` words together."""
    found: list[Line] = []
    words = 0
    for line in lines:
        words += len(line.text.split())
        if words > MAX_SUMMARY_WORDS:
            break
        found.append(line)
    return found


def _merge_topics(topics: Iterable[Topic]) -> list[Topic]:
    """Return the topics, at most `MAX_TOPICS`. A topic that several parts name is returned once."""
    found: dict[str, Topic] = {}
    for topic in topics:
        found.setdefault(" ".join(word.key for word in split_words(topic.name)), topic)
    return list(found.values())[:MAX_TOPICS]
