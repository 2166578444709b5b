"""People in GraphQL."""

from typing import Self

import strawberry

from app.staff import model
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id, to_id, to_optional_id


@strawberry.type(description="The person who asks.")
class Viewer:
    user_id: strawberry.ID
    role: str = strawberry.field(description="`clinician`, `compliance` or `patient`.")
    aal: str = strawberry.field(description="`aal2` after a second factor.")
    patient_id: strawberry.ID | None

    @classmethod
    def of(cls, viewer: model.Viewer) -> Self:
        return cls(
            user_id=to_id(viewer.user_id),
            role=viewer.role,
            aal=viewer.aal,
            patient_id=to_optional_id(viewer.patient_id),
        )


@strawberry.type(description="A member of staff who may do nothing any more.")
class Suspension:
    user_id: strawberry.ID


async def viewer(info: Info) -> Viewer:
    """Who asks."""
    return Viewer.of(await info.context.services.staff.viewer(await info.context.asker()))


async def suspend_staff(info: Info, user_id: strawberry.ID) -> Suspension:
    """Bans a member of staff and ends every session, at once."""
    await info.context.services.staff.suspend(await info.context.asker(), parse_id(user_id))
    return Suspension(user_id=user_id)
