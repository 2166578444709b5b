"""GraphQL types and root fields for the caller and staff."""

from datetime import datetime
from typing import Self

import strawberry

from app.staff import model
from app.texts import reason_text
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id, to_id, to_optional_id


@strawberry.type(description="The calling person.")
class Viewer:
    user_id: strawberry.ID
    role: str = strawberry.field(description="The caller's role: `clinician`, `compliance` or `patient`.")
    aal: str = strawberry.field(
        description="The assurance level of the session: `aal2` after a second factor."
    )
    patient_id: strawberry.ID | None

    @classmethod
    def of(cls, viewer: model.Viewer) -> Self:
        return cls(
            user_id=to_id(viewer.user_id),
            role=viewer.role,
            aal=viewer.aal,
            patient_id=to_optional_id(viewer.patient_id),
        )


@strawberry.type(description="A suspended staff member.")
class Suspension:
    user_id: strawberry.ID


@strawberry.type(
    description=(
        "An invitation of a staff member by email. Only the officer who sent the invitation can "
        "read the invited address."
    )
)
class StaffInvitation:
    id: strawberry.ID
    role: model.StaffRole
    status: model.InvitationStatus
    error: str | None = strawberry.field(
        description="The code of the reason why the invitation FAILED, or null."
    )
    email: str | None = strawberry.field(
        description=(
            "The invited email address, for the officer who sent the invitation. The value is "
            "null for a compliance officer who did not send the invitation."
        )
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
        description="The reason why the invitation FAILED and its remedy, in the reader's language."
    )
    def error_text(self, info: Info) -> str | None:
        return None if self.error is None else reason_text(self.error, info.context.language)


async def viewer(info: Info) -> Viewer:
    """Return the caller."""
    return Viewer.of(await info.context.services.staff.viewer(await info.context.asker()))


async def staff_invitations(info: Info) -> list[StaffInvitation] | None:
    """List the newest hundred staff invitations, newest first."""
    found = await info.context.services.staff.invitations(await info.context.asker())
    return [StaffInvitation.of(invitation) for invitation in found]


@strawberry.input(description="The input with which a compliance officer invites a staff member.")
class InviteStaffInput:
    email: str = strawberry.field(
        description="The email address of the invited person, in at most 254 ASCII characters."
    )
    role: model.StaffRole = strawberry.field(description="The role that the person gets.")


@strawberry.type(description="The result of `inviteStaff`.")
class InviteStaffPayload:
    staff_invitation: StaffInvitation = strawberry.field(description="The invitation, which is PENDING.")


async def invite_staff(info: Info, input: InviteStaffInput) -> InviteStaffPayload | None:
    """Invite a staff member by an email that Supabase Auth sends."""
    invited = await info.context.services.staff.invite(await info.context.asker(), input.email, input.role)
    return InviteStaffPayload(staff_invitation=StaffInvitation.of(invited))


async def suspend_staff(info: Info, user_id: strawberry.ID) -> Suspension | None:
    """Ban a staff member and end all their sessions at once."""
    await info.context.services.staff.suspend(await info.context.asker(), parse_id(user_id))
    return Suspension(user_id=user_id)
