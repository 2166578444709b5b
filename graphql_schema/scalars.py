"""The scalars and ids that GraphQL lacks."""

from typing import NewType
from uuid import UUID

import strawberry

from app.errors import InvalidInput

_MAX_BIG_INT = 2**63 - 1


def _whole_number(value: object) -> int:
    """A whole number of 64 bits, also one written as `5e3`. Raises ValueError for anything else, text included."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_BIG_INT:
        raise ValueError("not a whole number of 64 bits")
    return value


BigInt = NewType("BigInt", int)
BIG_INT = strawberry.scalar(
    name="BigInt",
    description="A whole number beyond 32 bits, such as a size in bytes, as a JSON number.",
    serialize=int,
    parse_value=_whole_number,
)


def parse_id(value: strawberry.ID) -> UUID:
    """The UUID of an id. Raises InvalidInput (bad_id)."""
    try:
        return UUID(value)
    except ValueError as error:
        raise InvalidInput("bad_id") from error


def parse_optional_id(value: strawberry.ID | None) -> UUID | None:
    """The same, where there is one."""
    return None if value is None else parse_id(value)


def to_id(value: UUID) -> strawberry.ID:
    """The id of a UUID."""
    return strawberry.ID(str(value))


def to_optional_id(value: UUID | None) -> strawberry.ID | None:
    """The same, where there is one."""
    return None if value is None else to_id(value)


def big(value: int | None) -> BigInt | None:
    """A whole number of any size, where there is one."""
    return None if value is None else BigInt(value)
