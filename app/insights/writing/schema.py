"""The JSON schemas of a model's answers, in OpenAI's strict form. Pure.

A schema has the names of the turns as one shared enum, so that a service that enforces schemas cannot cite an unknown
turn. It contains no text of a patient.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from app.insights.drafts import HighlightReason, Responsible
from app.insights.writing.transcript_lines import turn_id

INSIGHTS: Final = "consultation_insights"
ANSWER: Final = "consultation_answer"
MAX_ENUM_VALUES: Final = 1_000
"""OpenAI's limit of the values of an enum."""
MAX_ENUM_CHARACTERS: Final = 15_000
"""OpenAI's limit of the characters of an enum with more than 250 values."""

Schema = Mapping[str, Any]
_LINES: Final[Schema] = {"type": "array", "items": {"$ref": "#/$defs/line"}}
_TURN: Final[Schema] = {"$ref": "#/$defs/turn"}
_CITATION: Final[Schema] = {"$ref": "#/$defs/citation"}
_TEXT: Final[Schema] = {"type": "string"}


def insights_schema(numbers: Iterable[int]) -> Schema:
    """Return the schema of insights that may cite the turns with the numbers, at least one."""
    citations = {"type": "array", "items": _CITATION}
    return _with_definitions(
        numbers,
        summary=_LINES,
        key_points=_LINES,
        action_items=_array(
            text=_TEXT,
            who={"type": ["string", "null"], "enum": [*(each.value for each in Responsible), None]},
            when={"type": ["string", "null"]},
            citations=citations,
        ),
        topics=_array(name=_TEXT, citation=_CITATION),
        chapters=_array(title=_TEXT, first_turn=_TURN, citation=_CITATION),
        highlights=_array(
            text=_TEXT,
            reason={"type": "string", "enum": [each.value for each in HighlightReason]},
            first_turn=_TURN,
            last_turn=_TURN,
            citations=citations,
        ),
        note=_object(subjective=_LINES, objective=_LINES, assessment=_LINES, plan=_LINES),
    )


def answer_schema(numbers: Iterable[int]) -> Schema:
    """Return the schema of an answer to a question. An answer without a line says that the turns have no answer."""
    return _with_definitions(numbers, answer=_LINES)


def with_any_turn(schema: Schema) -> Schema:
    """Return the schema with any text as the name of a turn. A line that cites an unknown turn is dropped like a line
    with an altered quote, so it is no error of the whole answer.
    """
    return {**schema, "$defs": {**schema["$defs"], "turn": _TEXT}}


def _with_definitions(numbers: Iterable[int], **properties: Schema) -> Schema:
    definitions = {
        "turn": {"type": "string", "enum": [turn_id(number) for number in numbers]},
        "citation": _object(turn=_TURN, quote=_TEXT),
        "line": _object(text=_TEXT, citations={"type": "array", "items": _CITATION}),
    }
    return {**_object(**properties), "$defs": definitions}


def _array(**properties: Schema) -> Schema:
    return {"type": "array", "items": _object(**properties)}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
