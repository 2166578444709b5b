"""The extractive writer as a language service: it answers each request with quotes, without a language model. Pure.

The answers are JSON of the same schema as a model's answers, and are read and verified in the same way.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import anyio.to_thread

from app.insights.drafts import Chapter, Highlight, Insights, NoteDraft, Section
from app.insights.extract.answering import answer_question
from app.insights.extract.insights import extract_insights
from app.insights.model import Citation, Line
from app.insights.writing.tasks import Task, TaskKind, read_task
from app.insights.writing.transcript_lines import parse_turns, turn_id
from app.integrations.language.port import (
    EXTRACT_MODEL,
    EXTRACT_VENDOR,
    LanguageAnswer,
    LanguageRequest,
    LanguageUsage,
)
from app.transcripts.model import Turn


class ExtractiveWriter:
    """A `Language` that runs in this process. No text leaves it, and its answers cost nothing."""

    @property
    def vendor(self) -> str:
        """Return the vendor that stands in the cost ledger."""
        return EXTRACT_VENDOR

    @property
    def model(self) -> str:
        """Return the name by which the API names the writer."""
        return EXTRACT_MODEL

    async def aclose(self) -> None:
        """Do nothing: the writer has no connections."""

    async def write(self, request: LanguageRequest) -> LanguageAnswer:
        """Return the answer, which a thread writes. It reports no tokens."""
        text = await anyio.to_thread.run_sync(answer_request, request)
        return LanguageAnswer(text, LanguageUsage(EXTRACT_VENDOR, EXTRACT_MODEL, 0, 0, 0))


def answer_request(request: LanguageRequest) -> str:
    """Return the JSON of the answer to a request of `requests` or `asking`."""
    task, turns = read_task(request.task), parse_turns(request.transcript)
    if task.kind is TaskKind.QUESTION:
        lines = answer_question(turns, task.question or "", task.language)
        return json.dumps({"answer": _lines(lines)}, ensure_ascii=False)
    insights = _extract(turns, task)
    return json.dumps(_answer(insights, turns), ensure_ascii=False)


def _extract(turns: Sequence[Turn], task: Task) -> Insights:
    insights = extract_insights(turns, task.language)
    if task.kind is TaskKind.SECTION:
        kept = {
            section: lines if section is task.section else () for section, lines in insights.note.sections
        }
        return Insights(note=NoteDraft(*(kept[section] for section in Section)))
    return replace(insights, summary=_shorten(insights.summary, task.summary_words))


def _shorten(lines: Sequence[Line], words: int) -> tuple[Line, ...]:
    """Return the lines that fit into a number of words, in order."""
    found: list[Line] = []
    for line in lines:
        size = len(line.text.split())
        if size <= words:
            words -= size
            found.append(line)
    return tuple(found)


def _answer(insights: Insights, turns: Sequence[Turn]) -> dict[str, object]:
    note = insights.note
    return {
        "summary": _lines(insights.summary),
        "key_points": _lines(insights.key_points),
        "action_items": [
            {**_line(item.line), "who": item.who.value if item.who else None, "when": item.when}
            for item in insights.action_items
        ],
        "topics": [{"name": topic.name, "citation": _citation(topic.citation)} for topic in insights.topics],
        "chapters": [_chapter(chapter, turns) for chapter in insights.chapters],
        "highlights": [_highlight(highlight, turns) for highlight in insights.highlights],
        "note": {
            "subjective": _lines(note.subjective),
            "objective": _lines(note.objective),
            "assessment": _lines(note.assessment),
            "plan": _lines(note.plan),
        },
    }


def _chapter(chapter: Chapter, turns: Sequence[Turn]) -> dict[str, object]:
    first, _ = _turns_between(turns, chapter.start_ms, chapter.start_ms + 1, chapter.citation)
    return {"title": chapter.title, "first_turn": first, "citation": _citation(chapter.citation)}


def _highlight(highlight: Highlight, turns: Sequence[Turn]) -> dict[str, object]:
    cited = highlight.line.citations[0]
    first, last = _turns_between(turns, highlight.start_ms, highlight.end_ms, cited)
    return {
        **_line(highlight.line),
        "reason": highlight.reason.value,
        "first_turn": first,
        "last_turn": last,
    }


def _turns_between(turns: Sequence[Turn], start_ms: int, end_ms: int, citation: Citation) -> tuple[str, str]:
    """Return the names of the first and the last turn that are spoken between the two times, or of the cited turn if
    the times are wrong.
    """
    spoken = [
        turn.number for turn in turns if turn.text and turn.end_ms > start_ms and turn.start_ms < end_ms
    ]
    numbers = spoken or [citation.turn_number]
    return turn_id(numbers[0]), turn_id(numbers[-1])


def _lines(lines: Iterable[Line]) -> list[dict[str, object]]:
    return [_line(line) for line in lines]


def _line(line: Line) -> dict[str, object]:
    return {"text": line.text, "citations": [_citation(citation) for citation in line.citations]}


def _citation(citation: Citation) -> dict[str, str]:
    return {"turn": turn_id(citation.turn_number), "quote": citation.quote}
