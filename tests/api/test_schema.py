"""Tests of the exported GraphQL schema, and of the parts that the API hides in production."""

import subprocess
import sys
from pathlib import Path

import pytest
from graphql import (
    GraphQLObjectType,
    build_schema,
    get_named_type,
    parse,
)

from app.settings import Environment
from graphql_schema.document_limits import Limits, TooComplex, find_excess
from graphql_schema.schema import make_schema
from tests.api.harness import ApiHarness, asgi_client
from tests.api.small_api import small_app

pytestmark = pytest.mark.anyio

EXPORTED = Path(__file__).parent.parent.parent / "graphql_schema" / "schema.graphql"
INTROSPECTIONS = ["{ __schema { types { name } } }", '{ __type(name: "Query") { name } }']


def test_exported_schema_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "app.cli", "schema"], capture_output=True, text=True, check=True, timeout=60
    )
    assert printed.stdout == EXPORTED.read_text(encoding="utf-8")


def test_every_root_field_has_a_description() -> None:
    schema = build_schema(EXPORTED.read_text(encoding="utf-8"))
    for root in (schema.query_type, schema.mutation_type):
        assert root is not None
        assert not [name for name, field in root.fields.items() if not field.description]


def test_every_own_type_has_a_description_or_is_an_enum() -> None:
    schema = build_schema(EXPORTED.read_text(encoding="utf-8"))
    ours = {name: kind for name, kind in schema.type_map.items() if not name.startswith("__")}
    bare = {name for name, kind in ours.items() if not kind.description and not hasattr(kind, "values")}
    assert bare <= {"Query", "Mutation", "String", "Int", "Float", "Boolean", "ID"}


def test_only_root_fields_and_pages_below_an_object_have_a_page_size() -> None:
    schema = build_schema(EXPORTED.read_text(encoding="utf-8"))
    paged = {
        (kind.name, name)
        for kind in schema.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        for name, field in kind.fields.items()
        if "first" in field.args
    }
    assert {(parent, name) for parent, name in paged if parent != "Query"} == {
        ("BreachAssessment", "patients"),
        ("BreachAssessment", "recordings"),
        ("Consultation", "recordings"),
        ("Consultation", "shares"),
        ("Consultation", "sharingAuthorizations"),
        ("ReviewCase", "events"),
    }


@pytest.mark.parametrize("document", INTROSPECTIONS)
async def test_development_answers_introspection(harness: ApiHarness, document: str) -> None:
    assert await harness.stranger().ask(document)


@pytest.mark.parametrize("document", INTROSPECTIONS)
async def test_production_answers_no_introspection(document: str) -> None:
    result = await make_schema(is_production=True).execute(document)
    assert result.data is None
    assert result.errors
    assert "introspection" in result.errors[0].message


async def test_production_suggests_no_names(harness: ApiHarness) -> None:
    document = "{ recording(by: {id: 1}) { statu } }"
    suggested = (await (await harness.clinician()).send(document)).error
    assert (suggested.code, "status" in suggested.message) == ("GRAPHQL_VALIDATION_FAILED", True)
    result = await make_schema(is_production=True).execute(document)
    assert result.errors
    assert "status" not in result.errors[0].message


async def test_only_development_serves_graphiql(harness: ApiHarness) -> None:
    page = await harness.http.get("/graphql", headers={"Accept": "text/html"})
    assert (page.status_code, "graphiql" in page.text.lower()) == (200, True)
    assert harness.settings.environment is Environment.DEVELOPMENT
    async with asgi_client(small_app(is_production=True)) as http:
        assert (await http.get("/graphql", headers={"Accept": "text/html"})).status_code == 405


def _every_field(kind: GraphQLObjectType, *above: GraphQLObjectType) -> str:
    """Return a GraphQL selection of all fields of a type, including all fields of the types nested in it. The
    selection leaves out the fields that lead back to a type above.
    """
    parts = []
    for name, field in kind.fields.items():
        nested = get_named_type(field.type)
        if not isinstance(nested, GraphQLObjectType):
            parts.append(name)
        elif nested not in (kind, *above) and (shown := _every_field(nested, kind, *above)):
            parts.append(f"{name} {{ {shown} }}")
    return " ".join(parts)


def test_largest_pages_of_recordings_with_every_field_are_allowed_and_more_are_refused() -> None:
    """One page with everything that a recording shows is allowed, and so are two pages without the consultations."""
    schema = build_schema(EXPORTED.read_text(encoding="utf-8"))
    recording = schema.type_map["Recording"]
    assert isinstance(recording, GraphQLObjectType)
    page = "edges { node { ...f } cursor } pageInfo { hasNextPage endCursor }"
    consultation = schema.type_map["Consultation"]
    assert isinstance(consultation, GraphQLObjectType)

    def excess_of(pages: int, *without: GraphQLObjectType) -> TooComplex | None:
        fragment = f"fragment f on Recording {{ {_every_field(recording, *without)} }}"
        fields = " ".join(f"page{n}: recordings(first: 100) {{ {page} }}" for n in range(pages))
        return find_excess(Limits(), parse(f"{{ {fields} }} {fragment}"))

    assert excess_of(1) is None
    assert excess_of(2, consultation) is None
    for excess in (excess_of(2), excess_of(4, consultation)):
        assert excess is not None
        assert excess.reason == "too_many_selections"
