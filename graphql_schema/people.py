"""GraphQL types of the people whom other types refer to: users and patients."""

from uuid import UUID

import strawberry

from graphql_schema.nodes import Node
from graphql_schema.scalars import to_id


@strawberry.type(
    description=(
        "This is a person with a login at Supabase Auth. Resguardo stores no names: the practice's own system "
        "knows them."
    )
)
class User(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the user at Supabase Auth.")


def to_user(user_id: UUID | None) -> User | None:
    """Return the user with this id, or None for None."""
    return None if user_id is None else User(id=to_id(user_id))


@strawberry.type(
    description=(
        "This is a patient of the practice. Everyone who may read a consultation may read its patient, and "
        "compliance officers may read every patient."
    )
)
class Patient(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the patient in Resguardo.")
    external_id: str = strawberry.field(
        description="This is the id of the patient in the practice's own system."
    )
