"""Tests that the schema breaks no client of the last release, and that every deprecation says what replaces it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLObjectType, GraphQLSchema, build_schema
from graphql.utilities import BreakingChange, find_breaking_changes

FOLDER = Path(__file__).parents[2] / "graphql_schema"
RELEASES = sorted(
    (FOLDER / "releases").glob("*.graphql"), key=lambda path: [int(part) for part in path.stem.split(".")]
)
DEPRECATION = re.compile(r"Use `?[A-Za-z_.]+`?\. Removed after \d{4}-\d{2}-\d{2}\.")

OLD = """
type Query { recording(id: ID!): Recording  size: Int @deprecated(reason: "Use sizeBytes. Removed after 2027-11-30.") }
type Recording { id: ID!  status: Status! }
enum Status { READY FAILED }
"""
BREAKING = {
    "a removed field": OLD.replace("id: ID!  status", "status"),
    "a nullable field": OLD.replace("status: Status!", "status: Status"),
    "a removed enum value": OLD.replace("READY FAILED", "READY"),
    "a new required argument": OLD.replace("(id: ID!)", "(id: ID!, at: String!)"),
}
HARMLESS = {
    "nothing": OLD,
    "a new field": OLD.replace("status: Status!", "status: Status!  note: String"),
    "a new optional argument": OLD.replace("(id: ID!)", "(id: ID!, at: String)"),
}


def _current() -> GraphQLSchema:
    return build_schema((FOLDER / "schema.graphql").read_text(encoding="utf-8"))


def _breaking(before: str, after: GraphQLSchema) -> list[BreakingChange]:
    return find_breaking_changes(build_schema(before), after)


def _deprecations(schema: GraphQLSchema) -> Iterator[tuple[str, str]]:
    """Yield the place and the reason of every deprecation."""
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLEnumType):
            members = dict(kind.values)
        elif isinstance(kind, GraphQLObjectType | GraphQLInputObjectType):
            members = dict(kind.fields)
        else:
            continue
        for name, member in members.items():
            if member.deprecation_reason is not None:
                yield f"{kind.name}.{name}", member.deprecation_reason
            for argument, one in getattr(member, "args", {}).items():
                if one.deprecation_reason is not None:
                    yield f"{kind.name}.{name}({argument})", one.deprecation_reason


@pytest.mark.parametrize("after", BREAKING.values(), ids=BREAKING)
def test_planted_breaking_change_is_found(after: str) -> None:
    assert _breaking(OLD, build_schema(after))


@pytest.mark.parametrize("after", HARMLESS.values(), ids=HARMLESS)
def test_addition_breaks_nothing(after: str) -> None:
    assert _breaking(OLD, build_schema(after)) == []


def test_schema_breaks_no_client_of_the_last_release() -> None:
    """Compare with the newest released schema. Before the first release, compare the schema with itself."""
    newest = RELEASES[-1] if RELEASES else FOLDER / "schema.graphql"
    broken = _breaking(newest.read_text(encoding="utf-8"), _current())
    assert [change.description for change in broken] == [], f"{newest.name} promised this to clients"


def test_every_deprecation_names_its_replacement_and_its_last_day() -> None:
    assert dict(_deprecations(build_schema(OLD)))["Query.size"] == "Use sizeBytes. Removed after 2027-11-30."
    assert DEPRECATION.fullmatch("Use sizeBytes. Removed after 2027-11-30.")
    assert not DEPRECATION.fullmatch("No longer supported")
    wrong = {place for place, reason in _deprecations(_current()) if not DEPRECATION.fullmatch(reason)}
    assert wrong == set()
