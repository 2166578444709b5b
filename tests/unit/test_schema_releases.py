"""Tests that the schema breaks no client of the last release, that every deprecation says what replaces it, and that
the wheel of a release contains the schema.
"""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_required_argument,
    is_required_input_field,
)
from graphql.utilities import find_breaking_changes

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "graphql_schema"
CURRENT = (FOLDER / "schema.graphql").read_text(encoding="utf-8")
RELEASES = sorted(
    (FOLDER / "releases").glob("*.graphql"), key=lambda path: [int(part) for part in path.stem.split(".")]
)
DEPRECATION = re.compile(r"Use `?[A-Za-z_.]+`?\. Removed after (\d{4}-\d{2}-\d{2})\.")
LAST_DAY = date(2027, 11, 30)

OLD = """
type Query {
  recording(id: ID!, at: String): Recording
  size(unit: String @deprecated(reason: "Use in. Removed after 2027-11-30."), in: String): Int
    @deprecated(reason: "Use sizeBytes. Removed after 2027-11-30.")
  list(first: Int! = 25, filter: Filter): [Recording!]
}
type Recording { id: ID!  status: Status!  sizeBytes: Int }
enum Status { READY FAILED  GONE @deprecated(reason: "Use FAILED. Removed after 2027-11-30.") }
input Filter {
  status: Status  isNew: Boolean! = true
  name: String @deprecated(reason: "Use status. Removed after 2027-11-30.")
}
"""
SIZE = OLD[OLD.index("  size(") : OLD.index("  list(")]
BREAKING = {
    "a removed field": OLD.replace("  sizeBytes: Int }", " }"),
    "a removed type": OLD.replace("Recording", "Film"),
    "a field of another type": OLD.replace("sizeBytes: Int", "sizeBytes: String"),
    "a nullable field": OLD.replace("status: Status!", "status: Status"),
    "a list in place of a field": OLD.replace("status: Status!", "status: [Status!]!"),
    "a removed enum value": OLD.replace("READY FAILED", "READY"),
    "a removed argument": OLD.replace(", at: String)", ")"),
    "an argument of another type": OLD.replace("at: String", "at: Int"),
    "an argument made required": OLD.replace("at: String)", "at: String!)"),
    "an argument without its default": OLD.replace("Int! = 25", "Int!"),
    "a new required argument": OLD.replace("(id: ID!,", "(id: ID!, by: String!,"),
    "a removed input field": OLD.replace("status: Status  isNew", "isNew"),
    "an input field without its default": OLD.replace("Boolean! = true", "Boolean!"),
    "an input field made required": OLD.replace("status: Status  isNew", "status: Status!  isNew"),
    "a new required input field": OLD.replace("input Filter {", "input Filter { by: ID! "),
    "a deprecated field removed before its last day": OLD.replace(SIZE, ""),
}
HARMLESS = {
    "nothing": OLD,
    "a new field": OLD.replace("status: Status!", "status: Status!  note: String"),
    "a new type": OLD + "type Note { text: String }",
    "a new optional argument": OLD.replace("(id: ID!,", "(id: ID!, by: String,"),
    "a new optional input field": OLD.replace("input Filter {", "input Filter { by: ID "),
    "a new enum value": OLD.replace("READY FAILED", "READY FAILED LOST"),
    "a field that is never null any more": OLD.replace("sizeBytes: Int", "sizeBytes: Int!"),
    "an argument that is optional now": OLD.replace("id: ID!, at", "id: ID, at"),
}
EXPIRED = {
    "a field": OLD.replace(SIZE, ""),
    "an argument": re.sub(r"unit: String @deprecated\(.*?\), ", "", OLD),
    "an enum value": re.sub(r"  GONE @deprecated\(.*?\)", "", OLD),
    "an input field": re.sub(r"  name: String @deprecated\(.*?\)", "", OLD),
}
"""Each removes something whose last day is LAST_DAY."""


def find_broken(before: str, after: str, today: date) -> list[str]:
    """Return what the second schema breaks for clients of the first. A deprecated element may be missing after its
    last day.
    """
    old, new = build_schema(before), build_schema(after)
    changes = [change.description for change in find_breaking_changes(old, new)]
    lost_defaults = [f"{place} is required now." for place in _required(new) & _optional(old)]
    return [one for one in changes if one not in _expired(old, today)] + sorted(lost_defaults)


def _takes(schema: GraphQLSchema) -> Iterator[tuple[str, bool]]:
    """Yield the place of each argument and each input field, and whether it is required.

    graphql-core 3.3.2 finds no breaking change if an argument of the type `Int!` loses its default.
    """
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            for name, value in kind.fields.items():
                yield f"{kind.name}.{name}", is_required_input_field(value)
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in kind.fields.items():
                for argument, taken in field.args.items():
                    yield f"{kind.name}.{name}({argument}:)", is_required_argument(taken)


def _required(schema: GraphQLSchema) -> set[str]:
    return {place for place, is_required in _takes(schema) if is_required}


def _optional(schema: GraphQLSchema) -> set[str]:
    return {place for place, is_required in _takes(schema) if not is_required}


def _expired(schema: GraphQLSchema, today: date) -> set[str]:
    """Return how graphql-core describes those removals that the deprecations of a schema permit on this day."""
    found = set()
    for place, reason in _deprecations(schema):
        last_day = DEPRECATION.fullmatch(reason)
        if last_day is not None and today > date.fromisoformat(last_day[1]):
            found |= {f"{kind} {place} was removed." for kind in ("Field", "Argument", "Enum value")}
    return found


def _deprecations(schema: GraphQLSchema) -> Iterator[tuple[str, str]]:
    """Yield the place and the reason of each deprecation."""
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLEnumType):
            members = dict(kind.values)
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            members = dict(kind.fields)
        else:
            continue
        for name, member in members.items():
            if member.deprecation_reason is not None:
                yield f"{kind.name}.{name}", member.deprecation_reason
            for argument, one in getattr(member, "args", {}).items():
                if one.deprecation_reason is not None:
                    yield f"{kind.name}.{name}({argument}:)", one.deprecation_reason


@pytest.mark.parametrize("after", BREAKING.values(), ids=BREAKING)
def test_planted_breaking_change_is_found(after: str) -> None:
    assert after != OLD
    assert find_broken(OLD, after, LAST_DAY)


@pytest.mark.parametrize("after", HARMLESS.values(), ids=HARMLESS)
def test_addition_breaks_nothing(after: str) -> None:
    assert find_broken(OLD, after, LAST_DAY) == []


@pytest.mark.parametrize("after", EXPIRED.values(), ids=EXPIRED)
def test_deprecated_element_may_be_removed_after_its_last_day(after: str) -> None:
    assert find_broken(OLD, after, LAST_DAY)
    assert find_broken(OLD, after, date(2027, 12, 1)) == []


@pytest.mark.parametrize(
    ("planted", "instead"),
    [
        ("\n  externalId: String!\n", "\n"),
        ("  startedAt: DateTime\n", "  startedAt: Date\n"),
        ("  TREATMENT\n", "\n"),
        ("first: Int! = 25", "first: Int!"),
        ("input RecordConsentInput {", "input RecordConsentInput { planted: ID!"),
    ],
    ids=[
        "removed field",
        "changed type",
        "removed enum value",
        "argument made required",
        "required input field",
    ],
)
def test_breaking_change_of_the_real_schema_is_found(planted: str, instead: str) -> None:
    assert planted in CURRENT
    after = re.sub(r"\n *\"\"\"(?:.|\n)*?\"\"\"", "", CURRENT).replace(planted, instead)
    assert find_broken(CURRENT, after, LAST_DAY)


def test_schema_breaks_no_client_of_the_last_release() -> None:
    """Compare with the newest released schema. Before the first release, compare the schema with itself."""
    newest = RELEASES[-1].read_text(encoding="utf-8") if RELEASES else CURRENT
    assert find_broken(newest, CURRENT, datetime.now(UTC).date()) == []


def test_every_deprecation_names_its_replacement_and_its_last_day() -> None:
    assert dict(_deprecations(build_schema(OLD)))["Query.size"].startswith("Use sizeBytes.")
    assert DEPRECATION.fullmatch("Use sizeBytes. Removed after 2027-11-30.")
    assert not DEPRECATION.fullmatch("No longer supported")
    wrong = {
        place for place, reason in _deprecations(build_schema(CURRENT)) if not DEPRECATION.fullmatch(reason)
    }
    assert wrong == set()


def test_wheel_contains_the_schema(tmp_path: Path) -> None:
    """The schema is an artefact of each release, for clients that generate code from it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(wheel).read("graphql_schema/schema.graphql").decode() == CURRENT
