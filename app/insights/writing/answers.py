"""Reads and validates a model's answer to a request for insights. Pure.

The answer is validated whatever the service enforces. An answer that does not follow the schema has errors, with which
`requests.repair_request` asks again. A line without evidence is dropped and counted, and the rest is kept; if most
lines of an answer lack evidence, this is an error, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.insights.drafts import Insights
from app.insights.evidence import repeats_quote
from app.insights.writing import schema
from app.insights.writing.json_texts import AnswerMalformedError, read_object
from app.insights.writing.languages import find_language, is_other_language
from app.insights.writing.line_reader import LineReader
from app.insights.writing.requests import MAX_SUMMARY_WORDS
from app.transcripts.model import Turn

_MOST_LINES: Final = 100
_SCHEMA: Final = schema.with_any_turn(schema.insights_schema(()))
EVIDENCE_ERROR: Final = "most lines have a citation whose quote is not in its turn, word for word"
LANGUAGE_ERROR: Final = "the texts are in the wrong language"


@dataclass(frozen=True)
class ReadAnswer:
    """What a model's answer contains: either insights, of which each line is verified, or errors.

    `dropped_count` counts the lines that were dropped because they lack evidence. `errors` have no text of the answer.
    """

    insights: Insights | None = None
    dropped_count: int = 0
    errors: tuple[str, ...] = ()


def read_answer(text: str, turns: Sequence[Turn], language: str | None) -> ReadAnswer:
    """Return the insights of the answer, with verified quotes, or its errors.

    `turns` are all turns of the transcript, even if the request was about a part of it. `language` is the one that
    the request was planned with.
    """
    try:
        answer = read_object(text, _SCHEMA)
    except AnswerMalformedError as malformed:
        return ReadAnswer(errors=malformed.errors)
    errors = list(_find_long_lists(answer))
    if errors:
        return ReadAnswer(errors=tuple(errors))
    reader = LineReader(turns)
    insights = reader.read_insights(answer)
    words = sum(len(line.text.split()) for line in insights.summary)
    if words > MAX_SUMMARY_WORDS:
        errors.append(f"the answer.summary has {words} words and may have at most {MAX_SUMMARY_WORDS}")
    if reader.dropped_count > reader.kept_count:
        errors.append(EVIDENCE_ERROR)
    if has_wrong_language(reader, turns, language):
        errors.append(LANGUAGE_ERROR)
    if errors:
        return ReadAnswer(dropped_count=reader.dropped_count, errors=tuple(errors))
    return ReadAnswer(insights, reader.dropped_count)


def has_wrong_language(reader: LineReader, turns: Sequence[Turn], language: str | None) -> bool:
    """Return whether the lines are in another language than the consultation. Lines that repeat their quotes are in
    the language that was spoken, so they do not count.
    """
    expected = language or find_language(turn.text for turn in turns)
    written = [line.text for line in reader.lines if not repeats_quote(line)]
    return expected is not None and is_other_language(written, expected)


def _find_long_lists(answer: dict[str, object]) -> list[str]:
    note = answer["note"]
    lists = {
        **answer,
        **{f"note.{name}": lines for name, lines in (note.items() if isinstance(note, dict) else ())},
    }
    return [
        f"the answer.{name} has more than {_MOST_LINES} items"
        for name, lines in lists.items()
        if isinstance(lines, list) and len(lines) > _MOST_LINES
    ]
