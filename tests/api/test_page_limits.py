"""A page of recordings, consultations, access requests or legal holds with every field below it fits the limits on a
document, in its written form and expanded.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLObjectType,
    Source,
    TokenKind,
    build_schema,
    get_named_type,
    parse,
    validate,
)
from graphql.language import Lexer

from graphql_schema.document_limits import Limits, find_excess, find_page_excess
from graphql_schema.document_sizes import measure_operation

EXPORTED = Path(__file__).parent.parent.parent / "graphql_schema" / "schema.graphql"
SCHEMA = build_schema(EXPORTED.read_text(encoding="utf-8"))


NESTED = {"recordings": 25, "shares": 5, "sharingAuthorizations": 5}
"""The page sizes below the items of a page."""


def select_everything(kind: GraphQLObjectType, path: tuple[str, ...]) -> str:
    """Return a selection of every field of a type, and of every type nested in it. A type is not entered again below
    itself, and neither is a page of such a type.
    """
    return " ".join(_select_each(kind, path))


def _select_each(kind: GraphQLObjectType, path: tuple[str, ...]) -> Iterator[str]:
    for name, field in kind.fields.items():
        nested = get_named_type(field.type)
        if not isinstance(nested, GraphQLObjectType):
            yield name
        elif nested.name.removesuffix("Connection") not in path:
            size = f"(first: {NESTED[name]})" if nested.name.endswith("Connection") else ""
            yield f"{name}{size} {{ {select_everything(nested, (*path, nested.name))} }}"


def whole_page(field: str, first: int) -> str:
    """Return a query of one page of a list with every field of its items."""
    connection = get_named_type(SCHEMA.query_type.fields[field].type) if SCHEMA.query_type else None
    assert isinstance(connection, GraphQLObjectType)
    return f"{{ {field}(first: {first}) {{ {select_everything(connection, ())} }} }}"


PAGES = [("recordings", 50), ("consultations", 50), ("accessRequests", 25), ("legalHolds", 25)]


@pytest.mark.parametrize(("field", "first"), PAGES)
def test_page_with_everything_on_it_fits_the_limits(field: str, first: int) -> None:
    document = parse(whole_page(field, first))
    assert validate(SCHEMA, document) == []
    assert find_excess(Limits(), document) is None
    assert find_page_excess(Limits(), document, SCHEMA, None) is None
    assert measure_operation(document).selections > 40


def test_page_of_consultations_has_their_recordings_on_it() -> None:
    assert "recordings(first: 25) { edges { node { id" in whole_page("consultations", 50)


@pytest.mark.parametrize(("field", "first"), PAGES)
def test_page_with_everything_on_it_has_few_enough_tokens(field: str, first: int) -> None:
    lexer, count = Lexer(Source(whole_page(field, first))), 0
    while lexer.advance().kind is not TokenKind.EOF:
        count += 1
    assert count <= Limits().tokens
