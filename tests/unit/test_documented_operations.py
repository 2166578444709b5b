"""Every GraphQL operation that the README and the pages of `docs/` print is valid against the exported schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import graphql
import pytest

ROOT = Path(__file__).parent.parent.parent
SCHEMA = graphql.build_schema((ROOT / "graphql_schema" / "schema.graphql").read_text(encoding="utf-8"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "policies").rglob("*.md")),
]

_BLOCK = re.compile(r"^```graphql\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:query|mutation|subscription)?\s*(?:\([^`]*\))?\s*\{[^`]+\})`")
_PART = re.compile(r"`(\w+)(?:\(([^`]*)\))?\s*(\{[^`{}]*(?:\{[^`{}]*\}[^`{}]*)*\})`")
_JSON = re.compile(r'"query":\s*("(?:[^"\\]|\\.)*")')


_CODE_OF_A_PAGE = {"auth"}
"""Names of JavaScript that a page prints in the same form as a part of an operation."""


def _printed_documents(page: str) -> Iterator[str]:
    """Yield the documents that a page prints: blocks of GraphQL, messages in JSON, and operations in a sentence."""
    yield from _BLOCK.findall(page)
    for fence in _FENCE.findall(page):
        yield from (json.loads(text) for text in _JSON.findall(fence))
    yield from _INLINE.findall(_FENCE.sub("", page))


def _operations(text: str) -> list[graphql.DocumentNode]:
    """Return each operation of a text as a document of its own. Raises GraphQLSyntaxError."""
    document = graphql.parse(text)
    return [graphql.DocumentNode(definitions=(node,)) for node in document.definitions]


def _mistakes(page: Path) -> list[str]:
    found = []
    for text in _printed_documents(page.read_text(encoding="utf-8")):
        for operation in _operations(text):
            errors = graphql.validate(SCHEMA, operation)
            found += [f"{error.message} in {graphql.print_ast(operation)}" for error in errors]
    return found


def _unknown_names(page: Path) -> list[str]:
    """Return the parts of an operation, such as `recording(by) { status }`, whose names the schema lacks."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [
        f"{name}({arguments}) {selection}"
        for name, arguments, selection in _PART.findall(text)
        if not any(_has(field, arguments, selection) for field in _fields_named(name))
        and not set(re.findall(r"\w+", selection)) <= set(getattr(SCHEMA.type_map.get(name), "fields", {}))
        and name not in _CODE_OF_A_PAGE
    ]


def _fields_named(name: str) -> list[graphql.GraphQLField]:
    types = [kind for kind in SCHEMA.type_map.values() if isinstance(kind, graphql.GraphQLObjectType)]
    return [kind.fields[name] for kind in types if name in kind.fields]


def _has(field: graphql.GraphQLField, arguments: str, selection: str) -> bool:
    named = re.findall(r"^\w+|(?<=, )\w+(?=[,:]|$)", arguments.partition("{")[0])
    return set(named) <= set(field.args) and _selects(field, graphql.parse(selection).definitions[0])


def _selects(field: graphql.GraphQLField, node: object) -> bool:
    kind = graphql.get_named_type(field.type)
    nested = getattr(node, "selection_set", None)
    if nested is None:
        return True
    return isinstance(kind, graphql.GraphQLObjectType) and all(
        one.name.value in kind.fields and _selects(kind.fields[one.name.value], one)
        for one in nested.selections
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_the_parts_of_operations_of_a_page_exist(page: Path) -> None:
    assert _unknown_names(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_operations_of_a_page_are_valid(page: Path) -> None:
    assert _mistakes(page) == []


def test_operations_are_found_in_blocks_in_messages_and_in_sentences() -> None:
    blocks = '```graphql\n{ a }\nmutation { b }\n```\n```\n{"query": "subscription { c }"}\n```\n'
    page = "Ask `{ viewer { id } }`.\n" + blocks
    found = [graphql.print_ast(one) for text in _printed_documents(page) for one in _operations(text)]
    assert [text.split() for text in found] == [
        ["{", "a", "}"],
        ["mutation", "{", "b", "}"],
        ["subscription", "{", "c", "}"],
        ["{", "viewer", "{", "id", "}", "}"],
    ]
