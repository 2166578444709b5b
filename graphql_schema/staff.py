"""GraphQL types and root fields for the caller and staff."""

from datetime import datetime
from typing import Self

import strawberry

from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.staff import model
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.problems import StaffInvitationProblem
from graphql_schema.scalars import parse_id, to_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is the person who calls the API. Everyone who is registered may read themselves, and nobody may "
        "read another person here."
    )
)
class Viewer:
    user: User = strawberry.field(description="This is the login of the caller.")
    role: model.Role = strawberry.field(description="This is the role of the caller.")
    assurance_level: model.AssuranceLevel = strawberry.field(
        description="This says how strongly the session of the request was authenticated."
    )
    patient: Patient | None = strawberry.field(
        description=(
            "This is the patient whose login the caller uses. It is null for doctors and compliance officers."
        )
    )

    @classmethod
    def of(cls, viewer: model.Viewer) -> Self:
        return cls(
            user=User(id=to_id(viewer.user_id)),
            role=viewer.role,
            assurance_level=viewer.assurance_level,
            patient=_patient(viewer),
        )


def _patient(viewer: model.Viewer) -> Patient | None:
    if viewer.patient_id is None or viewer.patient_external_id is None:
        return None
    return Patient(id=to_id(viewer.patient_id), external_id=viewer.patient_external_id)


@strawberry.type(
    description=(
        "This is a member of staff: a doctor or a compliance officer. Resguardo keeps the members who were "
        "suspended. Only compliance officers may read it."
    )
)
class StaffMember(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the membership.")
    user: User = strawberry.field(description="This is the login of the staff member.")
    role: model.StaffRole = strawberry.field(description="This is the role of the staff member.")
    status: model.StaffStatus = strawberry.field(
        description="The status says whether the staff member has access."
    )
    created_at: datetime = strawberry.field(description="This is when the person became a staff member.")
    role_given_at: datetime = strawberry.field(
        description=(
            "This is when the person last got the role, as a new member, with a change of the role, or with a "
            "reinstatement."
        )
    )
    published_name: str | None = strawberry.field(
        description=(
            "This is the name that compliance publishes for the member. It is null until an officer sets it."
        )
    )
    last_used_at: datetime | None = strawberry.field(
        description=(
            "This is when the person last used the login with success, as the audit log says. Refused attempts do "
            "not count. It is null if the person never used it."
        )
    )
    suspended_at: datetime | None = strawberry.field(
        description="This is when the staff member was suspended. It is null for an active member."
    )

    @classmethod
    def of(cls, member: model.StaffMember) -> Self:
        return cls(
            id=to_id(member.id),
            user=User(id=to_id(member.user_id)),
            role=member.role,
            status=member.status,
            created_at=member.created_at,
            role_given_at=member.role_given_at,
            published_name=member.published_name,
            last_used_at=member.last_used_at,
            suspended_at=member.suspended_at,
        )


@strawberry.input(
    description="This filters staff members. A field of the filter that is omitted matches every member."
)
class StaffMemberFilter:
    roles: list[model.StaffRole] | None = strawberry.field(
        default=None,
        description=("The filter selects the members with one of these roles. An empty list matches none."),
    )
    statuses: list[model.StaffStatus] | None = strawberry.field(
        default=None,
        description=(
            "The filter selects the members with one of these statuses. An empty list matches none."
        ),
    )

    def to_model(self) -> model.StaffFilter:
        return model.StaffFilter(
            roles=None if self.roles is None else tuple(self.roles),
            statuses=None if self.statuses is None else tuple(self.statuses),
        )


@strawberry.type(
    description=(
        "This is an invitation of a staff member by email. Only compliance officers may read it, and only the "
        "officer who sent it can read the invited address."
    )
)
class StaffInvitation(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the invitation.")
    role: model.StaffRole = strawberry.field(description="This is the role that the invited person gets.")
    status: model.InvitationStatus = strawberry.field(
        description="The status says whether the invitation waits, was sent, or failed."
    )
    email: str | None = strawberry.field(
        description=(
            "This is the invited email address. It is null for a compliance officer who did not send the "
            "invitation."
        )
    )
    created_at: datetime = strawberry.field(description="This is when the invitation was made.")
    stored_problem: strawberry.Private[str | None]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says why the invitation FAILED. It is null if it did not fail."
    )
    def problem(self, info: Info) -> StaffInvitationProblem | None:
        return StaffInvitationProblem.of(self.stored_problem, info.context.language)

    @classmethod
    def of(cls, invitation: model.StaffInvitation) -> Self:
        return cls(
            id=to_id(invitation.id),
            role=invitation.role,
            status=invitation.status,
            email=invitation.email,
            created_at=invitation.created_at,
            stored_problem=invitation.error,
        )


async def viewer(info: Info) -> Viewer:
    """Return the caller."""
    return Viewer.of(await info.context.services.staff.viewer(await info.context.asker(), select(info)))


def _member_place(member: model.StaffMember) -> Cursor:
    return Cursor(member.created_at, member.id)


async def staff(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: StaffMemberFilter | None = None,
) -> Connection[StaffMember] | None:
    """List the staff members, newest first. Only compliance officers may list staff members."""
    page = await info.context.services.staff.members(
        await info.context.asker(),
        page_request(first, after),
        (filter or StaffMemberFilter()).to_model(),
        select(info, "edges", "node"),
    )
    return Connection.of(page, StaffMember.of, _member_place)


def _invitation_place(invitation: model.StaffInvitation) -> Cursor:
    return Cursor(invitation.created_at, invitation.id)


async def staff_invitations(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[StaffInvitation] | None:
    """List the staff invitations, newest first. Only compliance officers may list invitations."""
    page = await info.context.services.staff.invitations(
        await info.context.asker(), page_request(first, after), select(info, "edges", "node")
    )
    return Connection.of(page, StaffInvitation.of, _invitation_place)


@strawberry.input(description="With this input, a compliance officer invites a staff member.")
class InviteStaffInput:
    email: str = strawberry.field(
        description="This is the email address of the invited person, in at most 254 ASCII characters."
    )
    role: model.StaffRole = strawberry.field(description="This is the role that the person gets.")


@strawberry.type(description="`inviteStaff` returns this payload.")
class InviteStaffPayload:
    staff_invitation: StaffInvitation = strawberry.field(
        description="This is the invitation, which is PENDING."
    )


async def invite_staff(info: Info, input: InviteStaffInput) -> InviteStaffPayload | None:
    """Invite a staff member by an email that Supabase Auth sends."""
    invited = await info.context.services.staff.invite(await info.context.asker(), input.email, input.role)
    return InviteStaffPayload(staff_invitation=StaffInvitation.of(invited))


@strawberry.input(
    description="With this input, a compliance officer sets the published name of a staff member."
)
class PublishStaffNameInput:
    user_id: strawberry.ID = strawberry.field(
        description="This is the id of the staff member's login, which is `StaffMember.user.id`."
    )
    published_name: str | None = strawberry.field(
        description="This is the name, in at most 100 characters. Null removes the name."
    )


@strawberry.type(description="`publishStaffName` returns this payload.")
class PublishStaffNamePayload:
    staff_member: StaffMember = strawberry.field(description="This is the staff member with the new name.")


async def publish_staff_name(info: Info, input: PublishStaffNameInput) -> PublishStaffNamePayload | None:
    """Set or remove the published name of a staff member."""
    named = await info.context.services.staff.publish_name(
        await info.context.asker(), parse_id(input.user_id), input.published_name
    )
    return PublishStaffNamePayload(staff_member=StaffMember.of(named))


@strawberry.input(description="With this input, a compliance officer suspends a staff member.")
class SuspendStaffInput:
    user_id: strawberry.ID = strawberry.field(
        description="This is the id of the staff member's login, which is `StaffMember.user.id`."
    )


@strawberry.type(description="`suspendStaff` returns this payload.")
class SuspendStaffPayload:
    staff_member: StaffMember = strawberry.field(description="This is the staff member, who is SUSPENDED.")


async def suspend_staff(info: Info, input: SuspendStaffInput) -> SuspendStaffPayload | None:
    """Ban a staff member and end all their sessions at once."""
    suspended = await info.context.services.staff.suspend(await info.context.asker(), parse_id(input.user_id))
    return SuspendStaffPayload(staff_member=StaffMember.of(suspended))
