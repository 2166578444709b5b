"""Refuses the JSON schemas that OpenAI refuses for structured outputs with `strict`.

The limits are those of OpenAI's guide "Structured model outputs": depth 10, 5,000 properties, 1,000 enum values,
120,000 characters of names and values, and 15,000 characters for an enum of more than 250 values (as public code
quotes them, checked 2026-11-30).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from devstack.openai.refusals import Refusal

_MAX_DEPTH: Final = 10
_MAX_PROPERTIES: Final = 5_000
_MAX_ENUM_VALUES: Final = 1_000
_MAX_CHARACTERS: Final = 120_000
_LARGE_ENUM: Final = 250
_MAX_LARGE_ENUM_CHARACTERS: Final = 15_000
_KEYWORDS: Final = frozenset(
    (
        *(
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "enum",
            "const",
            "anyOf",
            "$ref",
        ),
        *("$defs", "description", "title", "pattern", "format", "minimum", "maximum", "exclusiveMinimum"),
        *("exclusiveMaximum", "multipleOf", "minItems", "maxItems"),
    )
)
_TYPES: Final = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))


@dataclass
class _Counts:
    properties: int = 0
    enum_values: int = 0
    characters: int = 0
    references: set[str] = field(default_factory=set)


def check_schema(name: object, schema: object, strict: object, param: str) -> Mapping[str, Any]:
    """Return the schema. Raises Refusal (400 invalid_json_schema) if OpenAI would refuse it."""
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) is None:
        raise Refusal(400, "Invalid schema name", param=f"{param}.name", code="invalid_value")
    if strict is not True:
        raise Refusal(400, "The stand-in answers only strict schemas", param=f"{param}.strict")
    problem = next(_problems(schema), None)
    if problem is not None or not isinstance(schema, dict):
        message = f"Invalid schema for response_format '{name}': {problem}"
        raise Refusal(400, message, param=f"{param}.schema", code="invalid_json_schema")
    return schema


def _problems(schema: object) -> Iterator[str]:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield "schema must be a JSON Schema of 'type: \"object\"'"
        return
    definitions = schema.get("$defs", {})
    counts = _Counts()
    yield from _walk(schema, 1, counts)
    for name, definition in definitions.items():
        counts.characters += len(name)
        yield from _walk(definition, 1, counts)
    missing = counts.references - {f"#/$defs/{name}" for name in definitions}
    if missing:
        yield "a reference has no definition"
    if counts.properties > _MAX_PROPERTIES:
        yield "too many properties"
    if counts.enum_values > _MAX_ENUM_VALUES:
        yield "too many enum values"
    if counts.characters > _MAX_CHARACTERS:
        yield "too many characters"


def _walk(schema: object, depth: int, counts: _Counts) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield "a schema must be an object"
    elif depth > _MAX_DEPTH:
        yield "nested too deep"
    elif schema.keys() - _KEYWORDS:
        yield "a keyword is not permitted"
    elif "$ref" in schema:
        counts.references.add(str(schema["$ref"]))
    else:
        yield from _walk_value(schema, depth, counts)


def _walk_value(schema: Mapping[str, Any], depth: int, counts: _Counts) -> Iterator[str]:
    listed = _types(schema)
    if "anyOf" not in schema and not set(listed) <= _TYPES:
        yield "schema must have a 'type' key"
    yield from _check_enum(schema.get("enum"), counts)
    for each in schema.get("anyOf", ()):
        yield from _walk(each, depth + 1, counts)
    if "array" in listed:
        yield from _walk(schema.get("items"), depth + 1, counts)
    if "object" in listed:
        yield from _walk_object(schema, depth, counts)


def _walk_object(schema: Mapping[str, Any], depth: int, counts: _Counts) -> Iterator[str]:
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is not False:
        yield "'additionalProperties' is required to be supplied and to be false"
    if sorted(schema.get("required", ())) != sorted(properties):
        yield "'required' is required to be an array including every key in properties"
    counts.properties += len(properties)
    for name, each in properties.items():
        counts.characters += len(name)
        yield from _walk(each, depth + 1, counts)


def _check_enum(values: object, counts: _Counts) -> Iterator[str]:
    if values is None:
        return
    if not isinstance(values, list) or not values:
        yield "an enum must have values"
        return
    characters = sum(len(one) for one in values if isinstance(one, str))
    counts.enum_values += len(values)
    counts.characters += characters
    if len(values) > _LARGE_ENUM and characters > _MAX_LARGE_ENUM_CHARACTERS:
        yield "an enum is too large"


def blank(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> object:
    """Return the emptiest value that follows the schema."""
    if "$ref" in schema:
        return blank(definitions[str(schema["$ref"]).rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return blank(schema["anyOf"][-1], definitions)
    types = _types(schema)
    if "null" in types:
        return None
    if "enum" in schema:
        return schema["enum"][0]
    if "object" in types:
        return {name: blank(each, definitions) for name, each in schema.get("properties", {}).items()}
    return {"array": [], "string": "", "boolean": False}.get(types[0], 0)


def _types(schema: Mapping[str, Any]) -> list[Any]:
    types = schema.get("type")
    return types if isinstance(types, list) else [types]
