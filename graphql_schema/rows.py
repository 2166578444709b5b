"""Rows that the composer has read, in place of objects of a GraphQL type."""

from typing import Any, TypeVar, cast

from app.postgres.composer import Row

Kind = TypeVar("Kind")


def shown(_kind: type[Kind], row: Row) -> Kind:
    """Return a row as an object of a GraphQL type with the same fields. Strawberry resolves the fields of the row with
    `resolve_by_name`.
    """
    return cast("Kind", row)


def resolve_by_name(source: Any, name: str) -> object:
    """Return the value of a field of a row, or of an object of a GraphQL type."""
    return source[name] if isinstance(source, dict) else getattr(source, name)
