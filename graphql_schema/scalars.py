"""The scalar BigInt, which GraphQL lacks, and the conversion of ids."""

from typing import NewType
from uuid import UUID

import strawberry

from app.errors import InvalidInput

_MAX_BIG_INT = 2**63 - 1


def _whole_number(value: object) -> int:
    """Return a whole number of at most 64 bits. A float without a fraction, such as `5e3`, is accepted. Raises
    ValueError for any other value, including text.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_BIG_INT:
        raise ValueError("not a whole number of 64 bits")
    return value


BigInt = NewType("BigInt", int)
BIG_INT = strawberry.scalar(
    name="BigInt",
    description=(
        "A whole number that may need more than 32 bits, such as a size in bytes. The API writes "
        "a BigInt as a JSON number."
    ),
    serialize=int,
    parse_value=_whole_number,
)


def parse_id(value: strawberry.ID) -> UUID:
    """Return the UUID that a GraphQL id represents. Raises InvalidInput (bad_id)."""
    try:
        return UUID(value)
    except ValueError as error:
        raise InvalidInput("bad_id") from error


def parse_optional_id(value: strawberry.ID | None) -> UUID | None:
    """Return the UUID that a GraphQL id represents, or None for None."""
    return None if value is None else parse_id(value)


def to_id(value: UUID) -> strawberry.ID:
    """Return the GraphQL id that represents a UUID."""
    return strawberry.ID(str(value))


def to_optional_id(value: UUID | None) -> strawberry.ID | None:
    """Return the GraphQL id that represents a UUID, or None for None."""
    return None if value is None else to_id(value)


def big(value: int | None) -> BigInt | None:
    """Return a whole number as a BigInt, or None for None."""
    return None if value is None else BigInt(value)
