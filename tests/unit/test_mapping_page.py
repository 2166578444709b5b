"""All operations, fields and settings that `docs/coming-from-a-signaling-server.md` attributes to Resguardo exist."""

import re
from pathlib import Path

import graphql
import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "coming-from-a-signaling-server.md").read_text(encoding="utf-8")
SCHEMA = graphql.build_schema((ROOT / "graphql_schema" / "schema.graphql").read_text(encoding="utf-8"))
NOT_OURS = {"SUPABASE_SERVICE_ROLE_KEY", "OPENAI_MODEL"}
ROOTS = [kind.fields for kind in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type) if kind]


def _here() -> str:
    """Return the right column of every table, which names the operations and settings of Resguardo."""
    rows = [line.strip("|\n ").split("|") for line in PAGE.splitlines() if line.startswith("|")]
    return "\n".join(row[-1] for row in rows)


def _arguments(name: str) -> set[str]:
    """Return the names of the arguments of this GraphQL operation, and of the fields of its input objects."""
    field = next(fields[name] for fields in ROOTS if name in fields)
    found = set(field.args)
    for argument in field.args.values():
        kind = graphql.get_named_type(argument.type)
        if isinstance(kind, graphql.GraphQLInputObjectType):
            found |= set(kind.fields)
    return found


def test_every_operation_of_the_page_takes_the_arguments_that_it_names() -> None:
    calls = re.findall(r"`(\w+)\(([^`]*?)\)(?: \{[^`]*\})?`", _here())
    assert len(calls) > 12, "the search finds hardly any"
    for name, arguments in calls:
        assert any(name in fields for fields in ROOTS), name
        assert set(re.findall(r"[a-zA-Z]+", arguments.replace("true", ""))) <= _arguments(name), name


def test_every_field_of_a_recording_that_the_page_names_exists() -> None:
    recording = SCHEMA.type_map["Recording"]
    assert isinstance(recording, graphql.GraphQLObjectType)
    named = set(re.findall(r"`Recording\.(\w+)", PAGE))
    assert named <= set(recording.fields)
    assert {"id", "egressId", "roomName", "status", "sizeBytes", "durationSeconds", "startedAt"} <= named


def test_every_status_of_a_recording_is_mapped() -> None:
    statuses = SCHEMA.type_map["RecordingStatus"]
    assert isinstance(statuses, graphql.GraphQLEnumType)
    assert {one for one in statuses.values if f"`{one}`" not in PAGE} == set()


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", PAGE)) - NOT_OURS)
)
def test_every_setting_of_the_page_exists(name: str) -> None:
    assert f"\n{name}=" in (ROOT / ".env.example").read_text(encoding="utf-8") or name == "NOT_FOUND"


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
