"""Makes the requests for the insights of a consultation. Pure.

Each request about the same turns has the same instructions, schema and transcript, and differs only in its task. A
vendor's prompt cache can therefore reuse the beginning of an earlier request.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from app.insights.drafts import Section
from app.insights.questions import asks_question
from app.insights.turn_order import TurnOrder
from app.insights.writing import instructions, schema
from app.insights.writing.tasks import Task, TaskKind
from app.insights.writing.transcript_lines import format_turns
from app.integrations.language.port import LanguageRequest
from app.transcripts.model import Turn

MAX_SUMMARY_WORDS: Final = 120
MAX_PART_TURNS: Final = schema.MAX_ENUM_VALUES
MAX_PART_CHARACTERS: Final = 300_000
"""The length limit of the transcript in one request: about 75,000 tokens. One turn may exceed it."""
MAX_OUTPUT_TOKENS: Final = 24_000
_MIN_SUMMARY_WORDS: Final = 20
_MAX_QUOTED_ANSWER: Final = 60_000
_LANGUAGES: Final = {"en": "English", "es": "Spanish"}
_SECTIONS: Final = {
    Section.S: "subjective",
    Section.O: "objective",
    Section.A: "assessment",
    Section.P: "plan",
}


def plan_requests(turns: Sequence[Turn], language: str | None) -> tuple[LanguageRequest, ...]:
    """Return the requests for all insights of the turns: one for each part of at most `MAX_PART_TURNS` turns.

    `language` is the ISO 639 code of the consultation's language, or None if it is mixed or unknown. Without speech,
    there is no request.
    """
    return _requests(turns, Task(TaskKind.INSIGHTS, language))


def section_requests(
    turns: Sequence[Turn], language: str | None, section: Section
) -> tuple[LanguageRequest, ...]:
    """Return the requests for one section of the note, for the same parts as `plan_requests`. The answer is read by
    `answers.read_answer`, too: all other lists of its insights are empty.
    """
    return _requests(turns, Task(TaskKind.SECTION, language, section=section))


def repair_request(request: LanguageRequest, answer_text: str, errors: Sequence[str]) -> LanguageRequest:
    """Return the request with a task that asks for a corrected answer. `errors` are those of `answers.read_answer`."""
    quoted = answer_text[:_MAX_QUOTED_ANSWER].encode(errors="replace").decode()
    listed = "\n".join(f"- {error}" for error in errors)
    task = (
        f"{request.task}\n\nYour answer to this task was rejected:\n{listed}\n\nReturn the whole answer again, "
        f"without these errors. The rejected answer was:\n{quoted}"
    )
    return replace(request, task=task)


def split_turns(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Return the parts of the transcript, of about equal numbers of turns. A question and its answer stay together."""
    ordered = TurnOrder(turns).turns
    spoken = sum(bool(turn.text.strip()) for turn in ordered)
    if not spoken:
        return []
    size = -(-len(ordered) // -(-len(ordered) // MAX_PART_TURNS))
    parts: list[list[Turn]] = [[]]
    characters = 0
    for turn in ordered:
        characters += len(turn.text)
        is_full = len(parts[-1]) >= size or characters > MAX_PART_CHARACTERS
        if parts[-1] and is_full and not _waits_for_answer(parts[-1]):
            parts.append([])
            characters = len(turn.text)
        parts[-1].append(turn)
    return [part for part in parts if any(turn.text.strip() for turn in part)]


def _waits_for_answer(part: Sequence[Turn]) -> bool:
    return len(part) < MAX_PART_TURNS and asks_question(part[-1].text)


def _requests(turns: Sequence[Turn], task: Task) -> tuple[LanguageRequest, ...]:
    parts = split_turns(turns)
    words = max(_MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS // max(1, len(parts)))
    return tuple(
        LanguageRequest(
            instructions=instructions.INSIGHTS,
            transcript=format_turns(part),
            task=describe_task(replace(task, part=number, parts=len(parts), summary_words=words)),
            schema_name=schema.INSIGHTS,
            schema=schema.insights_schema(turn.number for turn in part if turn.text.strip()),
            max_output_tokens=MAX_OUTPUT_TOKENS,
        )
        for number, part in enumerate(parts, start=1)
    )


def describe_task(task: Task) -> str:
    """Return the text of a task: its header and what the model has to do."""
    sentences = []
    if task.kind is TaskKind.SECTION and task.section is not None:
        sentences.append(
            f"Write only the section {_SECTIONS[task.section]} of the note again. Leave every other list empty."
        )
    if task.kind is TaskKind.INSIGHTS:
        sentences.append(f"Write all insights. The summary has at most {task.summary_words} words in all.")
    if task.parts > 1:
        sentences.append(f"The transcript is part {task.part} of {task.parts} of the consultation.")
    language = _LANGUAGES.get(task.language or "")
    sentences.append(
        f"Write every text in {language}, and the quotes in the language that was spoken."
        if language
        else "Write every text in the language that was mostly spoken."
    )
    return f"{task.header}\n{' '.join(sentences)}"
