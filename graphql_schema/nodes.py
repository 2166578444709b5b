"""The interface of every type with an id."""

from typing import Any

import strawberry


@strawberry.interface(
    description=(
        "A node is a thing with an id that no other thing of its type has and that never changes, so that a "
        "client's cache can keep the thing under its type and its id. The API has no field that returns a "
        "thing only by its id."
    )
)
class Node:
    id: strawberry.ID = strawberry.field(
        description="This is the id of the thing, which is a UUID, or a number for a retention policy."
    )

    @classmethod
    def is_type_of(cls, _value: Any, _info: Any) -> bool:
        """Return True. A field has one declared type, so that a row of the database needs no check of its type."""
        return True
