"""Shows the insights into a recording, and the answers to two questions about it, as the doctor reads them."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from devstack import documents
from devstack.demo.report import require
from devstack.demo.visit import Visit, problem_of

PATIENCE_SECONDS: Final = 120
QUESTIONS: Final = ("What is the patient allergic to?", "Has the patient ever had a colonoscopy?")
"""A question that the built-in consultation answers, and one that it does not answer."""
INSIGHTS_ACTIONS: Final = {"insights.read": 1, "transcript.ask": len(QUESTIONS)}
"""The actions of the steps below by the audit log's names."""
_POLL_SECONDS = 0.25
_LISTS: Final = ("summary", "keyPoints", "actionItems", "topics", "chapters", "highlights", "noteLines")


async def show_insights(visit: Visit, recording_id: str) -> Mapping[str, int]:
    """Run the demo's steps with the insights into a recording whose transcript is READY. Return how often each action
    read them. Raises DemoFailed.
    """
    scene, report = visit.scene, visit.scene.report
    async with scene.step("the worker writes insights out of quotes from the transcript, in the background"):
        await _wait(visit, recording_id)
    async with scene.step(
        "the doctor reads the summary and the key points, each line with its quotes and times"
    ):
        read = (await visit.api.ask(documents.INSIGHTS, id=recording_id))["insights"]
        report.insights = _insights(read)
        _require_quotes(report.insights, {turn.number: turn.text for turn in report.turns})
    for line in _spoken_lines(report.insights):
        scene.audience.on_line(line)
    async with scene.step("the doctor asks two questions, of which the transcript answers one"):
        report.answers = [await _ask(visit, recording_id, question) for question in QUESTIONS]
    for answer in report.answers:
        scene.audience.on_line(answer["question"])
        for line in answer["lines"]:
            scene.audience.on_line(_line(line))
        if not answer["lines"]:
            scene.audience.on_line(f"{'':9}{answer['message']}")
    return INSIGHTS_ACTIONS


async def _wait(visit: Visit, recording_id: str) -> None:
    """Wait until the insights are READY. Raises DemoFailed if they end otherwise or take too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = (await visit.api.ask(documents.INSIGHTS_PROGRESS, id=recording_id))["recording"]["insights"]
        if found is not None and found["status"] == "READY":
            return
        is_going_on = found is None or found["status"] in ("PENDING", "RUNNING")
        require(is_going_on, f"no insights were written: {found and (found['status'], problem_of(found))}")
        require(time.monotonic() < deadline, f"no insights were written within {PATIENCE_SECONDS} s")
        await asyncio.sleep(_POLL_SECONDS)


async def _ask(visit: Visit, recording_id: str, question: str) -> dict[str, Any]:
    asked = {"recordingId": recording_id, "question": question}
    answer = (await visit.api.ask(documents.ASK_TRANSCRIPT, asked=asked))["askTranscript"]["answer"]
    lines = [report_line(line) for line in answer["lines"]]
    return {"question": question, "status": answer["status"], "message": answer["message"], "lines": lines}


def _insights(read: Any) -> dict[str, Any]:
    """Return the insights as the report names them. Each line has its text, flags and citations."""
    lists = {_snake(name): [report_line(line) for line in read[name]] for name in _LISTS}
    return {
        **lists,
        "dropped_count": read["droppedCount"],
        "coverage": snake_names(read["coverage"]),
        "writer": read["writer"],
    }


def report_line(line: Any) -> dict[str, Any]:
    """Return the line of an insight or an answer. `start` and `end` are seconds from the recording's beginning."""
    others = {
        _snake(name).removesuffix("_seconds"): value
        for name, value in line.items()
        if name not in ("text", "name", "title", "flags", "citations")
    }
    return {
        "text": line.get("text") or line.get("name") or line.get("title"),
        "flags": line["flags"],
        "citations": [
            {
                "turn": citation["turnNumber"],
                "start": citation["startSeconds"],
                "end": citation["endSeconds"],
                "quote": citation["quote"],
            }
            for citation in line["citations"]
        ],
        **others,
    }


def _require_quotes(insights: Mapping[str, Any], texts: Mapping[int, str]) -> None:
    """Raise DemoFailed unless each line has a citation whose quote is in its turn."""
    for line in (line for name in _LISTS for line in insights[_snake(name)]):
        quotes = [(citation["turn"], citation["quote"]) for citation in line["citations"]]
        require(bool(quotes), "a line of the insights has no quote")
        require(all(quote in texts[turn] for turn, quote in quotes), "a quote is not in its turn")


def _spoken_lines(insights: Mapping[str, Any]) -> Iterator[str]:
    for title, name in (("Summary", "summary"), ("Key points", "key_points")):
        yield title
        yield from map(_line, insights[name])


def _line(line: Mapping[str, Any]) -> str:
    return f"{line['citations'][0]['start']:7.1f}  {line['text']}"


def snake_names(value: Any) -> Any:
    """Return the answer of the API with the names of its fields as the report has them, such as `total_usd`."""
    if isinstance(value, dict):
        return {_snake(name): snake_names(each) for name, each in value.items()}
    return [snake_names(each) for each in value] if isinstance(value, list) else value


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
