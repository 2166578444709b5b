"""Tests of which parts of an error the API sends to the client, and of which parts it logs."""

import asyncio
import json
import logging
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension

from app.errors import AppError, UpstreamFailed
from app.failures import describe_failure
from app.texts import Language
from graphql_schema.error_masking import MaskedSchema
from tests.api.small_api import SECRET, Context, Query, small_schema

NOTHING_ELSE = {"reason": None, "retryable": False, "requestId": "r1", "details": None}
"""The extensions of an error without a reason, except the code."""


def _errors(
    query: str, language: Language = "en", schema: Any = None, **options: Any
) -> list[dict[str, Any]]:
    result = asyncio.run(
        (schema or small_schema()).execute(query, context_value=Context(language, "r1"), **options)
    )
    return [dict(error.formatted) for error in result.errors or ()]


def test_app_error_is_told_with_code_reason_and_detail() -> None:
    (error,) = _errors('{ kinds(kind: "live") }')
    assert (
        error["message"]
        == "This consultation is already being recorded: 0f8f. Stop that recording before you start another."
    )
    assert error["path"] == ["kinds"]
    assert error["extensions"] == {
        "code": "CONFLICT",
        "reason": "LIVE_RECORDING_EXISTS",
        "retryable": False,
        "requestId": "r1",
        "details": {"recordingId": "0f8f"},
    }


def test_app_error_is_told_in_the_readers_language() -> None:
    (error,) = _errors('{ kinds(kind: "consent") }', "es")
    assert error["message"] == "Falta el consentimiento de: paciente, médico. Pídaselo primero."
    (error,) = _errors('{ kinds(kind: "quota") }')
    assert error["extensions"]["retryable"] is True


@pytest.mark.parametrize("query", ["{ broken }", "{ unserialisable }", "{ hello x: broken }"])
def test_bug_is_masked_and_logged_by_type_and_place_only(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (error,) = _errors(query)
    assert error["extensions"] == NOTHING_ELSE | {"code": "INTERNAL"}
    assert SECRET not in json.dumps(error)
    assert SECRET not in caplog.text
    assert query not in caplog.text
    (record,) = caplog.records
    assert "request=r1" in record.getMessage()
    assert record.exc_info is None


def test_log_of_a_bug_names_its_frames(caplog: pytest.LogCaptureFixture) -> None:
    _errors("{ broken }")
    assert "builtins.ValueError at " in caplog.text
    assert "small_api.py:" in caplog.text
    assert "Query.broken" in caplog.text


@pytest.mark.parametrize(
    ("query", "variables", "reason", "name"),
    [
        ("query ($n: Int!) { hello(times: $n) }", {"n": SECRET}, "bad_variable", "n"),
        ("query ($n: Int!) { hello(times: $n) }", {}, "bad_variable", "n"),
        ("query ($id: UUID!) { byId(id: $id) }", {"id": SECRET}, "bad_variable", "id"),
        ("query ($n: Int = 1) { hello(times: $n) }", {"n": None}, "bad_argument", "times"),
    ],
)
def test_bad_variable_is_named_without_its_value(
    query: str, variables: dict[str, object], reason: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (error,) = _errors(query, variable_values=variables)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert error["extensions"]["reason"] == reason.upper()
    assert f"'{name}'" in error["message"]
    assert SECRET not in json.dumps(error)
    assert not caplog.records


def test_variables_nested_too_deeply_are_bad_input() -> None:
    @strawberry.input
    class Nested:
        inner: "Nested | None" = None

    globals()["Nested"] = Nested

    @strawberry.type
    class Deep:
        @strawberry.field
        def take(self, nested: Nested | None = None) -> bool:
            return nested is None

    value: dict[str, object] = {}
    for _ in range(400):
        value = {"inner": value}
    (error,) = _errors(
        "query ($v: Nested) { take(nested: $v) }", schema=MaskedSchema(Deep), variable_values={"v": value}
    )
    assert error["extensions"]["code"] == "INVALID_INPUT"


def test_mistakes_of_the_document_pass_through_with_their_place() -> None:
    (error,) = _errors("{\n  nothing\n}")
    assert error["message"] == "Cannot query field 'nothing' on type 'Query'."
    assert error["locations"] == [{"line": 2, "column": 3}]
    assert error["extensions"] == NOTHING_ELSE | {"code": "GRAPHQL_VALIDATION_FAILED"}
    (error,) = _errors("{\n  hello(")
    assert error["message"] == (
        "The GraphQL document has a syntax error at the position that `locations` gives. Correct the request."
    )
    assert error["locations"] == [{"line": 2, "column": 9}]
    assert error["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"


def test_resolvers_own_graphql_error_and_bare_app_error_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    @strawberry.type
    class Careless:
        @strawberry.field
        def graphql(self) -> str:
            raise GraphQLError(SECRET, extensions={"secret": SECRET})

        @strawberry.field
        def bare(self) -> str:
            raise AppError(SECRET)

    for query in ("{ graphql }", "{ bare }"):
        (error,) = _errors(query, schema=MaskedSchema(Careless))
        assert error["extensions"] == NOTHING_ELSE | {"code": "INTERNAL"}
        assert SECRET not in json.dumps(error) + caplog.text


def test_failing_extension_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(SchemaExtension):
        def on_execute(self) -> Any:
            raise RuntimeError(SECRET)
            yield

    (error,) = _errors("{ hello }", schema=MaskedSchema(Query, extensions=[Failing]))
    assert error["extensions"]["code"] == "INTERNAL"
    assert SECRET not in json.dumps(error) + caplog.text
    assert "RuntimeError" in caplog.text


def test_upstream_failure_is_told_and_logged_by_its_causes_type(caplog: pytest.LogCaptureFixture) -> None:
    @strawberry.type
    class Far:
        @strawberry.field
        def away(self) -> str:
            raise UpstreamFailed("storage_failed", recording_id="0f8f", status=503) from ConnectionError(
                SECRET
            )

    (error,) = _errors("{ away }", schema=MaskedSchema(Far))
    assert error["extensions"]["details"] == {"recordingId": "0f8f"}, "the status is for operators"
    assert error["extensions"]["retryable"] is True
    assert "ConnectionError" in caplog.text
    assert SECRET not in caplog.text


def test_detail_cannot_replace_the_code() -> None:
    @strawberry.type
    class Sly:
        @strawberry.field
        def refuse(self) -> str:
            raise UpstreamFailed("storage_failed", code="OK", request_id="r2")

    (error,) = _errors("{ refuse }", schema=MaskedSchema(Sly))
    assert error["extensions"]["code"] == "UPSTREAM_FAILED"
    assert error["extensions"]["requestId"] == "r1"


def test_context_without_language_or_id_is_served_in_english() -> None:
    result = asyncio.run(small_schema().execute('{ kinds(kind: "quota") }', context_value=None))
    assert result.errors is not None
    assert result.errors[0].extensions is not None
    assert result.errors[0].extensions["requestId"] is None


def test_description_of_a_group_names_the_types_inside() -> None:
    group = ExceptionGroup(SECRET, [ValueError(SECRET), KeyError(SECRET)])
    described = describe_failure(group)
    assert described == "builtins.ExceptionGroup[builtins.ValueError, builtins.KeyError] at no frame"
