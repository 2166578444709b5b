"""Requests for the answer to a question about a transcript, and the validation of the answers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.insights.model import Line
from app.insights.ranking import Ranking, question_keys
from app.insights.turn_order import TurnOrder
from app.insights.writing import instructions, schema
from app.insights.writing.answers import EVIDENCE_ERROR
from app.insights.writing.json_texts import AnswerMalformedError, read_object
from app.insights.writing.line_reader import LineReader
from app.insights.writing.requests import describe_task
from app.insights.writing.tasks import Task, TaskKind
from app.insights.writing.transcript_lines import format_turns
from app.integrations.language.port import LanguageRequest
from app.transcripts.model import Turn

MAX_QUESTION_CHARACTERS: Final = 1_000
MAX_CONTEXT_TURNS: Final = 150
MAX_CONTEXT_CHARACTERS: Final = 40_000
MAX_ANSWER_LINES: Final = 5
MAX_OUTPUT_TOKENS: Final = 4_000
_BEFORE: Final = 1
_AFTER: Final = 2
_SCHEMA: Final = schema.with_any_turn(schema.answer_schema(()))


@dataclass(frozen=True)
class QuestionAnswer:
    """The lines that answer a question, of which each is verified. Without a line and an error, the question has no
    answer in the transcript. `errors` have no text of the answer.
    """

    lines: tuple[Line, ...] = ()
    dropped_count: int = 0
    errors: tuple[str, ...] = ()
    is_found: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_found", bool(self.lines))


def choose_turns(turns: Sequence[Turn], question: str) -> tuple[Turn, ...]:
    """Return the turns among which the answer is, in order of start.

    A short transcript is returned as a whole. Of a long one, return the turns whose words are most similar to the
    question (BM25), each with its neighbours, at most `MAX_CONTEXT_TURNS`; nothing if no turn is similar.
    """
    shown = [turn for turn in TurnOrder(turns).turns if turn.text.strip()]
    if len(shown) <= MAX_CONTEXT_TURNS and sum(len(turn.text) for turn in shown) <= MAX_CONTEXT_CHARACTERS:
        return tuple(shown)
    ranked = Ranking(turn.text for turn in shown).rank(question_keys(question))
    chosen: set[int] = set()
    characters = 0
    for place in ranked:
        near = range(max(0, place - _BEFORE), min(len(shown), place + _AFTER + 1))
        added = [each for each in near if each not in chosen]
        characters += sum(len(shown[each].text) for each in added)
        is_full = len(chosen) + len(added) > MAX_CONTEXT_TURNS or characters > MAX_CONTEXT_CHARACTERS
        if chosen and is_full:
            break
        chosen.update(added)
    return tuple(shown[place] for place in sorted(chosen))


def question_request(turns: Sequence[Turn], question: str, language: str | None) -> LanguageRequest | None:
    """Return the request for the answer to a question, or None if no turn can have the answer.

    `language` is the ISO 639 code of the answer's language, or None for the language that was spoken.
    """
    chosen = choose_turns(turns, question)
    if not chosen:
        return None
    asked = question[:MAX_QUESTION_CHARACTERS].encode(errors="replace").decode()
    return LanguageRequest(
        instructions=instructions.ANSWER,
        transcript=format_turns(chosen),
        task=describe_task(Task(TaskKind.QUESTION, language, question=asked)),
        schema_name=schema.ANSWER,
        schema=schema.answer_schema(turn.number for turn in chosen),
        max_output_tokens=MAX_OUTPUT_TOKENS,
    )


def read_question_answer(text: str, turns: Sequence[Turn]) -> QuestionAnswer:
    """Return the verified lines of a model's answer, at most `MAX_ANSWER_LINES`, or its errors. `turns` are all turns
    of the transcript.
    """
    try:
        answer = read_object(text, _SCHEMA)
    except AnswerMalformedError as malformed:
        return QuestionAnswer(errors=malformed.errors)
    reader = LineReader(turns)
    lines = reader.read_lines(answer["answer"][:MAX_ANSWER_LINES])
    if reader.dropped_count > len(lines):
        return QuestionAnswer(dropped_count=reader.dropped_count, errors=(EVIDENCE_ERROR,))
    return QuestionAnswer(lines, reader.dropped_count)
