"""A page of recordings with every field below it fits the limits on a document, in its written form and expanded."""

from collections.abc import Iterator
from pathlib import Path

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

from graphql_schema.document_limits import Limits, find_excess
from graphql_schema.document_sizes import measure_operation

EXPORTED = Path(__file__).parent.parent.parent / "graphql_schema" / "schema.graphql"
SCHEMA = build_schema(EXPORTED.read_text(encoding="utf-8"))


def select_everything(kind: GraphQLObjectType, path: tuple[str, ...]) -> str:
    """Return a selection of every field of a type, and of every type nested in it. A type is not entered again below
    itself, and neither is a page, because each page is a root field of its own or is read for one consultation.
    """
    return " ".join(_select_each(kind, path))


def _select_each(kind: GraphQLObjectType, path: tuple[str, ...]) -> Iterator[str]:
    for name, field in kind.fields.items():
        nested = get_named_type(field.type)
        if not isinstance(nested, GraphQLObjectType):
            yield name
        elif nested.name not in path and not nested.name.endswith("Connection"):
            yield f"{name} {{ {select_everything(nested, (*path, nested.name))} }}"


def _whole_page(first: int) -> str:
    recording = SCHEMA.type_map["Recording"]
    assert isinstance(recording, GraphQLObjectType)
    everything = select_everything(recording, ("Recording",))
    page_info = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
    return f"{{ recordings(first: {first}) {{ edges {{ node {{ {everything} }} cursor }} {page_info} }} }}"


def test_page_of_fifty_recordings_with_everything_on_it_fits_the_limits() -> None:
    document = parse(_whole_page(50))
    assert validate(SCHEMA, document) == []
    assert find_excess(Limits(), document) is None
    assert measure_operation(document).selections > 40


def test_page_of_fifty_recordings_with_everything_on_it_has_few_enough_tokens() -> None:
    lexer, count = Lexer(Source(_whole_page(50))), 0
    while lexer.advance().kind is not TokenKind.EOF:
        count += 1
    assert count <= Limits().tokens
