"""People in GraphQL."""

from datetime import datetime
from typing import Self

import strawberry

from app.staff import model
from app.texts import reason_text
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id, to_id, to_optional_id

strawberry.enum(model.StaffRole, description="What a member of staff is.")
strawberry.enum(
    model.InvitationStatus,
    name="StaffInvitationStatus",
    description="PENDING until it is settled. SENT: the person is staff; a new login has a link by mail.",
)


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


@strawberry.type(
    description="An invitation to work here. The person who invited sees its address, nobody else does."
)
class StaffInvitation:
    id: strawberry.ID
    role: model.StaffRole
    status: model.InvitationStatus
    error: str | None = strawberry.field(description="Why it FAILED, as the `reason` of an error.")
    email: str | None = strawberry.field(
        description="The address, for the person who invited it; null for everybody else."
    )
    created_at: datetime

    @classmethod
    def of(cls, invitation: model.StaffInvitation) -> Self:
        return cls(
            id=to_id(invitation.id),
            role=invitation.role,
            status=invitation.status,
            error=invitation.error,
            email=invitation.email,
            created_at=invitation.created_at,
        )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="Why it FAILED and what helps, in the reader's language."
    )
    def error_text(self, info: Info) -> str | None:
        return None if self.error is None else reason_text(self.error, info.context.language)


async def viewer(info: Info) -> Viewer:
    """Who asks."""
    return Viewer.of(await info.context.services.staff.viewer(await info.context.asker()))


async def staff_invitations(info: Info) -> list[StaffInvitation]:
    """The newest hundred invitations, the newest first."""
    found = await info.context.services.staff.invitations(await info.context.asker())
    return [StaffInvitation.of(invitation) for invitation in found]


async def invite_staff(info: Info, email: str, role: model.StaffRole) -> StaffInvitation:
    """Invites somebody to work here, by Supabase Auth's mail."""
    return StaffInvitation.of(
        await info.context.services.staff.invite(await info.context.asker(), email, role)
    )


async def suspend_staff(info: Info, user_id: strawberry.ID) -> Suspension:
    """Bans a member of staff and ends every session, at once."""
    await info.context.services.staff.suspend(await info.context.asker(), parse_id(user_id))
    return Suspension(user_id=user_id)
