"""Tests that the root fields of the schema are nullable, so that one failed root field never hides another."""

from collections.abc import Iterator

from graphql import GraphQLField, GraphQLObjectType, is_non_null_type

from graphql_schema.schema import make_schema

NEVER_NULL = {"viewer"}


def _root_fields() -> Iterator[tuple[str, GraphQLField]]:
    schema = make_schema(is_production=False)._schema
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        assert isinstance(root, GraphQLObjectType)
        yield from root.fields.items()


def test_every_root_field_is_nullable_except_the_viewer() -> None:
    fields = list(_root_fields())
    assert len(fields) > 50
    assert {name for name, field in fields if is_non_null_type(field.type)} == NEVER_NULL
