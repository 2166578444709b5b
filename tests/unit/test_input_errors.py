"""The API's error for an invalid input value names the value's position and the expected type, and never contains
the value.
"""

import asyncio
import json
import logging
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
import strawberry
from strawberry.schema.config import StrawberryConfig

from app.texts import Language
from graphql_schema.document_limits import Limits, limit_extensions
from graphql_schema.error_masking import MaskedSchema
from graphql_schema.scalars import SCALARS, BigInt
from tests.api.small_api import SECRET, Context


@strawberry.enum
class Color(Enum):
    RED = "red"


@strawberry.input
class Item:
    starts_at: datetime
    color: Color = Color.RED
    size: BigInt | None = None
    inner: "Item | None" = None
    numbers: list[int] | None = None


@strawberry.input
class Wanted:
    id: UUID
    items: list[Item]
    matrix: list[list[int]] | None = None


@strawberry.type
class Query:
    @strawberry.field
    def take(self, wanted: Wanted) -> bool:
        return True

    @strawberry.field
    def count(self, n: int = 1, ns: list[int] | None = None, color: Color | None = None) -> int:
        return n


SCHEMA = MaskedSchema(
    Query,
    config=StrawberryConfig(scalar_map=SCALARS),
    extensions=limit_extensions(Limits(), allow_introspection=False),
)
ITEM = {"startsAt": "2026-11-21T15:00:00Z"}
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
TAKE = "query ($input: Wanted!) { take(wanted: $input) }"


def _errors(query: str, variables: dict[str, Any] | None = None, language: Language = "en") -> list[Any]:
    ran = SCHEMA.execute(query, variable_values=variables, context_value=Context(language, "r1"))
    return [error.formatted for error in asyncio.run(ran).errors or ()]


def _wanted(**changed: Any) -> dict[str, Any]:
    return {"input": {"id": ID, "items": [ITEM, ITEM]} | changed}


@pytest.mark.parametrize(
    ("variables", "place", "expected"),
    [
        ({}, "$input", "Wanted!"),
        ({"input": None}, "$input", "Wanted!"),
        ({"input": SECRET}, "$input", "Wanted!"),
        ({"input": [SECRET]}, "$input", "Wanted!"),
        (_wanted(id=SECRET), "$input.id", "UUID!"),
        (_wanted(id=None), "$input.id", "UUID!"),
        ({"input": {"items": [], "matrix": None}}, "$input.id", "UUID!"),
        (_wanted(items=SECRET), "$input.items", "[Item!]!"),
        (_wanted(items=[ITEM, SECRET]), "$input.items[1]", "Item!"),
        (_wanted(items=[ITEM, None]), "$input.items[1]", "Item!"),
        (_wanted(items=[ITEM, {"startsAt": SECRET}]), "$input.items[1].startsAt", "DateTime!"),
        (_wanted(items=[ITEM, {"startsAt": {"a": SECRET}}]), "$input.items[1].startsAt", "DateTime!"),
        (_wanted(items=[ITEM, {"color": "RED"}]), "$input.items[1].startsAt", "DateTime!"),
        (_wanted(items={"startsAt": SECRET}), "$input.items.startsAt", "DateTime!"),
        (_wanted(items=[ITEM | {"color": SECRET}]), "$input.items[0].color", "Color!"),
        (_wanted(items=[ITEM | {"size": SECRET}]), "$input.items[0].size", "BigInt"),
        (_wanted(items=[ITEM | {"size": 5.5}]), "$input.items[0].size", "BigInt"),
        (_wanted(items=[ITEM | {"size": True}]), "$input.items[0].size", "BigInt"),
        (_wanted(items=[ITEM | {"size": 2**70}]), "$input.items[0].size", "BigInt"),
        (_wanted(items=[ITEM | {"numbers": [1, SECRET]}]), "$input.items[0].numbers[1]", "Int!"),
        (
            _wanted(items=[ITEM | {"inner": {"startsAt": SECRET}}]),
            "$input.items[0].inner.startsAt",
            "DateTime!",
        ),
        (_wanted(matrix=[[1], [2, SECRET]]), "$input.matrix[1][1]", "Int!"),
        (_wanted(matrix=[[1], [2, 2**40]]), "$input.matrix[1][1]", "Int!"),
    ],
)
def test_bad_variable_is_told_by_its_place_and_the_expected_type(
    variables: dict[str, Any], place: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        (error,) = _errors(TAKE, variables)
    assert error["message"] == (
        f"The value of the variable 'input' is not valid: {expected} is expected at '{place}'. Correct the request."
    )
    assert error["extensions"] == {
        "code": "INVALID_INPUT",
        "reason": "BAD_VARIABLE",
        "retryable": False,
        "requestId": "r1",
        "details": {"variable": "input", "inputPath": place, "expectedType": expected},
    }
    assert SECRET not in json.dumps(error)
    assert SECRET not in caplog.text


def test_every_bad_part_of_a_variable_is_told() -> None:
    errors = _errors(TAKE, _wanted(id=SECRET, items=[ITEM | {"color": SECRET}, {"startsAt": SECRET}]))
    assert [error["extensions"]["details"]["inputPath"] for error in errors] == [
        "$input.id",
        "$input.items[0].color",
        "$input.items[1].startsAt",
    ]
    assert SECRET not in json.dumps(errors)


def test_bad_variable_is_told_in_spanish() -> None:
    (error,) = _errors(TAKE, _wanted(id=SECRET), "es")
    assert error["message"] == (
        "El valor de la variable 'input' no es válido: se espera UUID! en '$input.id'. Corrija la solicitud."
    )


def test_unknown_field_of_a_variable_is_named_and_its_value_is_not() -> None:
    (error,) = _errors(TAKE, _wanted(items=[ITEM | {"startAt": SECRET}]))
    assert error["extensions"]["reason"] == "UNKNOWN_INPUT_FIELD"
    assert error["extensions"]["details"]["inputPath"] == "$input.items[0].startAt"
    assert error["extensions"]["details"]["expectedType"] == "Item"
    assert "'$input.items[0].startAt'" in error["message"]
    assert SECRET not in json.dumps(error)


@pytest.mark.parametrize("name", [SECRET, "", "a" * 65, "\u00f1", "items[0].id"])
def test_unknown_field_that_is_no_name_is_not_repeated(name: str) -> None:
    (error,) = _errors(TAKE, _wanted(**{name: SECRET}))
    assert error["extensions"]["details"]["inputPath"] == "$input"
    assert error["extensions"]["details"]["expectedType"] == "Wanted!"
    assert SECRET not in json.dumps(error)


@pytest.mark.parametrize(
    ("literal", "place", "expected"),
    [
        (f'"{SECRET}"', "wanted", "Wanted!"),
        ("null", "wanted", "Wanted!"),
        (f'{{id: "{SECRET}", items: []}}', "wanted.id", "UUID!"),
        (f'{{items: "{SECRET}", id: "{ID}"}}', "wanted.items", "[Item!]!"),
        (f'{{id: "{ID}", items: [{{startsAt: "{SECRET}"}}]}}', "wanted.items[0].startsAt", "DateTime!"),
        (f'{{id: "{ID}", items: [{{color: RED}}]}}', "wanted.items[0].startsAt", "DateTime!"),
        (f'{{id: "{ID}", items: [], matrix: [[1, "{SECRET}"]]}}', "wanted.matrix[0][1]", "Int!"),
        (f'{{id: "{ID}", items: """{SECRET}"""}}', "wanted.items", "[Item!]!"),
    ],
)
def test_bad_literal_is_told_by_its_place_and_the_expected_type(
    literal: str, place: str, expected: str
) -> None:
    for _ in ("new", "from the cache"):
        (error,) = _errors(f"{{ take(wanted: {literal}) }}")
        assert (
            error["message"]
            == f"The value at '{place}' is not valid: {expected} is expected. Correct the request."
        )
        extensions = error["extensions"]
        assert (extensions["code"], extensions["reason"]) == ("INVALID_INPUT", "BAD_LITERAL")
        assert (extensions["details"]["inputPath"], extensions["details"]["expectedType"]) == (
            place,
            expected,
        )
        assert error["locations"]
        assert SECRET not in json.dumps(error)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (f'query ($n: Int = "{SECRET}") {{ count(n: $n) }}', "$n"),
        (f'{{ count @skip(if: "{SECRET}") }}', "if"),
        (f'{{ count(ns: [1, "{SECRET}"]) }}', "ns[1]"),
        (f'{{ count(color: "{SECRET}") }}', "color"),
        ("{ count(color: AnaTorres) }", "color"),
        ("{ count(n: 99999999999) }", "n"),
        (f'{{ count(n: 1, ns: {{a: "{SECRET}"}}) }}', "ns"),
    ],
)
def test_bad_literal_anywhere_is_told_without_its_value(query: str, place: str) -> None:
    (error,) = _errors(query)
    assert error["extensions"]["details"]["inputPath"] == place
    for value in (SECRET, "AnaTorres", "99999999999"):
        assert value not in json.dumps(error)


def test_unknown_field_of_a_literal_is_named() -> None:
    (error,) = _errors(f'{{ take(wanted: {{id: "{ID}", items: [], other: "{SECRET}"}}) }}')
    assert error["extensions"]["reason"] == "UNKNOWN_INPUT_FIELD"
    assert error["extensions"]["details"]["inputPath"] == "wanted.other"
    assert SECRET not in json.dumps(error)


@pytest.mark.parametrize(
    ("query", "variables", "place", "expected"),
    [
        ("query ($n: Int = 1) { count(n: $n) }", {"n": None}, "n", "Int!"),
        ("query ($n: Int) { count(ns: [$n]) }", {"n": None}, "ns[0]", "Int!"),
        ("query ($n: Int) { count(ns: [1, $n]) }", {}, "ns[1]", "Int!"),
    ],
)
def test_bad_argument_is_told_by_its_place_and_the_expected_type(
    query: str, variables: dict[str, Any], place: str, expected: str
) -> None:
    (error,) = _errors(query, variables)
    if error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED":  # A list of Int is not a list of Int!
        assert "'$n'" in error["message"]
        return
    assert error["extensions"]["reason"] == "BAD_ARGUMENT"
    details = error["extensions"]["details"]
    assert (details["inputPath"], details["expectedType"]) == (place, expected)
    assert error["path"] == ["count"]


@pytest.mark.parametrize(
    "query",
    [
        f'{{ count "{SECRET}" }}',
        f'{{ count(n: 1) "" "{SECRET}" }}',
        f'"{SECRET}',
        f'{{ count(n: """{SECRET}""" """{SECRET}""") }}',
        '{ count(color: "O" AnaTorres") }',
        '{ count(color: "\\uAnaT") }',
        '{ count(color: "\\u{AnaTorres}") }',
        "{ count(n: 12AnaTorres) }",
        "{ count( 31415926 ) }",
        "{ count( 3.1415926 ) }",
        f"# {SECRET}\n{{",
        f'query A {{ count }} "{SECRET}" {{ count }}',
    ],
)
def test_syntax_error_tells_no_value_of_the_document(query: str) -> None:
    errors = _errors(query)
    assert {error["extensions"]["code"] for error in errors} <= {
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
    }
    assert errors
    for value in (SECRET, "AnaT", "1415926"):
        assert value not in json.dumps(errors)


@pytest.mark.parametrize("size", [0, 5, -3, 5e3, 2**53 - 1])
def test_whole_number_of_53_bits_is_taken(size: float) -> None:
    assert _errors(TAKE, _wanted(items=[ITEM | {"size": size}])) == []
