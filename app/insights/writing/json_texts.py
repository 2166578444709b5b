"""Reads the JSON of a model's answer, and compares it with the schema. Pure.

A service may not enforce the schema, so every answer is checked here. An error names a place and a rule, and never
contains a text of the answer.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NoReturn

from app.insights.writing.schema import Schema

MAX_CHARACTERS: Final = 1_000_000
MAX_ERRORS: Final = 20
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class AnswerMalformedError(ValueError):
    """The text is not one JSON object as the schema requires. `errors` are public: they contain no text of it."""

    def __init__(self, *errors: str) -> None:
        super().__init__("the answer is malformed")
        self.errors = errors


def read_object(text: str, schema: Schema) -> dict[str, Any]:
    """Return the object that the text contains. Raises AnswerMalformedError if it does not follow the schema.

    Of JSON schema, this reads what `schema` writes: objects, arrays, strings, enums, null and references.
    """
    value = _read_json(text)
    errors = tuple(islice(_compare(value, schema, schema["$defs"], "the answer"), MAX_ERRORS))
    if errors or not isinstance(value, dict):
        raise AnswerMalformedError(*errors)
    return value


def _read_json(text: str) -> object:
    if len(text) > MAX_CHARACTERS:
        raise AnswerMalformedError(f"the answer has more than {MAX_CHARACTERS} characters")
    try:
        return json.loads(
            _without_fence(text),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=float,  # Python limits the length of an int, and the schemas have no numbers
        )
    except AnswerMalformedError:
        raise
    except RecursionError:
        raise AnswerMalformedError("the answer is nested too deep") from None
    except ValueError:
        # The error of the parser contains the answer, so it is not the cause of this one.
        raise AnswerMalformedError("the answer is not one complete JSON object") from None


def _without_fence(text: str) -> str:
    """Return the text without the Markdown fence that some models write around JSON."""
    stripped = text.strip()
    if not (stripped.startswith("```") and stripped.endswith("```")):
        return text
    return stripped.removesuffix("```").partition("\n")[2]


def _without_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AnswerMalformedError("an object has the same key twice")
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise AnswerMalformedError("NaN and Infinity are no JSON")


def _compare(value: object, schema: Schema, definitions: Mapping[str, Schema], place: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[str(schema["$ref"]).rpartition("/")[2]]
    allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if _type_of(value) not in allowed:
        yield f"{place} must be {' or '.join(allowed)}"
    elif isinstance(value, str) and _SURROGATE.search(value):
        yield f"{place} has half of a surrogate pair"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place} is none of the allowed values"
    elif isinstance(value, dict):
        yield from _compare_object(value, schema["properties"], definitions, place)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _compare(item, schema["items"], definitions, f"{place}[{number}]")


def _compare_object(
    value: Mapping[str, object],
    properties: Mapping[str, Schema],
    definitions: Mapping[str, Schema],
    place: str,
) -> Iterator[str]:
    if value.keys() - properties.keys():
        yield f"{place} has an unknown key"
    for name, schema in properties.items():
        if name in value:
            yield from _compare(value[name], schema, definitions, f"{place}.{name}")
        else:
            yield f"{place} has no {name}"


def _type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "other"
