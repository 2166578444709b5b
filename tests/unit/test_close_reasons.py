"""Tests of the reasons with which the API closes WebSockets."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLEnumType, build_schema

from app.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    RateLimited,
    Timeout,
    Unauthenticated,
    UpstreamFailed,
)
from app.http.websocket_messages import translate_session_error
from app.texts.reasons import load_reasons

ROOT = Path(__file__).parents[2]
KINDS = {
    kind.code: kind
    for kind in (
        Conflict,
        Forbidden,
        InvalidInput,
        NotFound,
        RateLimited,
        Timeout,
        Unauthenticated,
        UpstreamFailed,
    )
}
REGISTERED = [
    (KINDS[code], name)
    for name, reason in sorted(load_reasons().items())
    for code in reason.codes
    if code in KINDS
]


def _printed() -> frozenset[str]:
    schema = build_schema((ROOT / "graphql_schema/schema.graphql").read_text(encoding="utf-8"))
    reasons = schema.type_map["ErrorReason"]
    assert isinstance(reasons, GraphQLEnumType)
    return frozenset(reasons.values)


PRINTED = _printed()


def _sentences() -> Iterator[str]:
    """Yield the texts in the close frames that the API writes in its code."""
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("ConnectionEndedError"), args=[_, ast.Constant(str(text))]):
                    yield text
                case ast.Call(func=ast.Name("ConnectionEndedError"), args=[_, ast.JoinedStr(parts)]):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "1" for part in parts
                    )


@pytest.mark.parametrize(("kind", "name"), REGISTERED)
def test_close_reason_of_a_registered_reason_is_a_value_of_the_printed_enum(
    kind: type[AppError], name: str
) -> None:
    reason = translate_session_error(kind(name)).reason
    assert reason == (name.upper() if "caller" in load_reasons()[name].readers else "")
    assert reason in PRINTED | {""}


def test_close_reason_of_an_unregistered_reason_is_empty() -> None:
    assert translate_session_error(UpstreamFailed("unregistered")).reason == ""


def test_other_close_reasons_are_sentences() -> None:
    sentences = list(_sentences())
    assert len(sentences) > 5
    for sentence in sentences:
        assert sentence[0].isupper(), sentence
        assert " " in sentence
        assert sentence not in {name.upper() for name in load_reasons()}
