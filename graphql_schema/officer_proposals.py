"""GraphQL types and root fields for proposals that a second officer decides."""

from datetime import datetime
from typing import Self

import strawberry

from app.officer_proposals import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User, to_user
from graphql_schema.problems import OfficerProposalProblem
from graphql_schema.scalars import parse_id, to_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This says how many consultations of a doctor who left have the new doctor. The worker works in batches."
    )
)
class Reassignment:
    moved_count: int = strawberry.field(
        description="This says how many consultations have the new doctor so far."
    )
    kept_for_consent_count: int = strawberry.field(
        description=(
            "This says how many consultations stay, because a participant has not consented to a text that names "
            "sharing."
        )
    )
    kept_as_sensitive_count: int = strawberry.field(
        description=(
            "This says how many consultations stay, because they are sensitive or have psychotherapy notes."
        )
    )

    @classmethod
    def of(cls, proposal: model.OfficerProposal) -> Self | None:
        if proposal.moved_count is None:
            return None
        return cls(
            moved_count=proposal.moved_count,
            kept_for_consent_count=proposal.kept_for_consent_count or 0,
            kept_as_sensitive_count=proposal.kept_as_sensitive_count or 0,
        )


@strawberry.type(
    description=(
        "This is a change about a staff member that one compliance officer proposes and a second officer approves or "
        "rejects. Only compliance officers may read it."
    )
)
class OfficerProposal(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the proposal.")
    kind: model.ProposalKind = strawberry.field(description="The kind says what the proposal changes.")
    member: User = strawberry.field(
        description="This is the login of the staff member whom the proposal concerns."
    )
    recipient: User | None = strawberry.field(
        description=(
            "This is the doctor who gets the consultations of a reassignment. It is null for every other kind."
        )
    )
    reason: model.ProposalReason = strawberry.field(
        description="This is the reason that the proposing officer gave."
    )
    status: model.ProposalStatus = strawberry.field(description="This is the status of the proposal.")
    proposed_by: User = strawberry.field(description="This officer made the proposal.")
    proposed_at: datetime = strawberry.field(description="This is when the proposal was made.")
    decided_by: User | None = strawberry.field(
        description="This officer approved or rejected the proposal. It is null before a decision."
    )
    decided_at: datetime | None = strawberry.field(
        description="This is when the officer approved or rejected the proposal. It is null before a decision."
    )
    finished_at: datetime | None = strawberry.field(
        description="This is when the worker ended its work on the proposal. It is null before that."
    )
    reassignment: Reassignment | None = strawberry.field(
        description=(
            "This counts the consultations of a reassignment. It is null before the worker begins one, and for every "
            "other kind."
        )
    )
    stored_problem: strawberry.Private[str | None]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=("This says why the proposal FAILED or was WITHDRAWN. It is null for every other status.")
    )
    def problem(self, info: Info) -> OfficerProposalProblem | None:
        return OfficerProposalProblem.of(self.stored_problem, info.context.language)

    @classmethod
    def of(cls, proposal: model.OfficerProposal) -> Self:
        return cls(
            id=to_id(proposal.id),
            kind=proposal.kind,
            member=User(id=to_id(proposal.member_id)),
            recipient=to_user(proposal.recipient_id),
            reason=proposal.reason,
            status=proposal.status,
            proposed_by=User(id=to_id(proposal.proposed_by)),
            proposed_at=proposal.proposed_at,
            decided_by=to_user(proposal.decided_by),
            decided_at=proposal.decided_at,
            finished_at=proposal.finished_at,
            reassignment=Reassignment.of(proposal),
            stored_problem=proposal.error,
        )


@strawberry.input(
    description="This filters proposals. A field of the filter that is omitted matches every proposal."
)
class OfficerProposalFilter:
    kinds: list[model.ProposalKind] | None = strawberry.field(
        default=None,
        description="The filter selects the proposals of one of these kinds. An empty list matches none.",
    )
    statuses: list[model.ProposalStatus] | None = strawberry.field(
        default=None,
        description=(
            "The filter selects the proposals with one of these statuses. An empty list matches none."
        ),
    )

    def to_model(self) -> model.ProposalFilter:
        return model.ProposalFilter(
            kinds=None if self.kinds is None else tuple(self.kinds),
            statuses=None if self.statuses is None else tuple(self.statuses),
        )


def _place(proposal: model.OfficerProposal) -> Cursor:
    return Cursor(proposal.proposed_at, proposal.id)


async def officer_proposals(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: OfficerProposalFilter | None = None,
) -> Connection[OfficerProposal] | None:
    """List the proposals of all officers, newest first."""
    page = await info.context.services.officer_proposals.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or OfficerProposalFilter()).to_model(),
        select(info, "edges", "node"),
    )
    return Connection.of(page, OfficerProposal.of, _place)


@strawberry.input(
    description="With this input, a compliance officer proposes to reset the second factor of a staff member."
)
class ResetSecondFactorInput:
    user_id: strawberry.ID = strawberry.field(
        description="This is the id of the staff member's login, which is `StaffMember.user.id`."
    )
    reason: model.ProposalReason = strawberry.field(
        description="This is DEVICE_LOST, DEVICE_REPLACED or DEVICE_COMPROMISED."
    )


@strawberry.type(description="`resetSecondFactor` returns this payload.")
class ResetSecondFactorPayload:
    officer_proposal: OfficerProposal = strawberry.field(
        description="This is the proposal, which a second officer must approve."
    )


@strawberry.input(description="With this input, a compliance officer proposes to reinstate a staff member.")
class ReinstateStaffInput:
    user_id: strawberry.ID = strawberry.field(
        description="This is the id of the staff member's login, which is `StaffMember.user.id`."
    )
    reason: model.ProposalReason = strawberry.field(
        description="This is SUSPENDED_BY_MISTAKE, RETURNED_TO_WORK or INVESTIGATION_CLOSED."
    )


@strawberry.type(description="`reinstateStaff` returns this payload.")
class ReinstateStaffPayload:
    officer_proposal: OfficerProposal = strawberry.field(
        description="This is the proposal, which a second officer must approve."
    )


@strawberry.input(
    description="With this input, a compliance officer proposes to reassign the consultations of a doctor who left."
)
class ReassignConsultationsInput:
    from_doctor_id: strawberry.ID = strawberry.field(
        description="This is the id of the login of the doctor who left and is suspended."
    )
    to_doctor_id: strawberry.ID = strawberry.field(
        description="This is the id of the login of the doctor who gets the consultations."
    )
    reason: model.ProposalReason = strawberry.field(
        description="This is LEFT_PRACTICE, RETIRED, LONG_ABSENCE or DIED."
    )


@strawberry.type(description="`reassignConsultations` returns this payload.")
class ReassignConsultationsPayload:
    officer_proposal: OfficerProposal = strawberry.field(
        description="This is the proposal, which a second officer must approve."
    )


async def reassign_consultations(
    info: Info, input: ReassignConsultationsInput
) -> ReassignConsultationsPayload | None:
    """Propose to give the consultations of a doctor who left to another doctor."""
    made = await info.context.services.officer_proposals.reassign_consultations(
        await info.context.asker(),
        parse_id(input.from_doctor_id),
        parse_id(input.to_doctor_id),
        input.reason,
    )
    return ReassignConsultationsPayload(officer_proposal=OfficerProposal.of(made))


@strawberry.input(description="With this input, a compliance officer approves a proposal of another officer.")
class ApproveOfficerProposalInput:
    officer_proposal_id: strawberry.ID = strawberry.field(
        description="This is the id of a PROPOSED proposal."
    )


@strawberry.type(description="`approveOfficerProposal` returns this payload.")
class ApproveOfficerProposalPayload:
    officer_proposal: OfficerProposal = strawberry.field(
        description="This is the proposal, which is APPROVED."
    )


@strawberry.input(description="With this input, a compliance officer rejects a proposal.")
class RejectOfficerProposalInput:
    officer_proposal_id: strawberry.ID = strawberry.field(
        description="This is the id of a PROPOSED proposal."
    )


@strawberry.type(description="`rejectOfficerProposal` returns this payload.")
class RejectOfficerProposalPayload:
    officer_proposal: OfficerProposal = strawberry.field(
        description="This is the proposal, which is REJECTED."
    )


async def reset_second_factor(info: Info, input: ResetSecondFactorInput) -> ResetSecondFactorPayload | None:
    """Propose to remove all second factors of a staff member."""
    made = await info.context.services.officer_proposals.reset_second_factor(
        await info.context.asker(), parse_id(input.user_id), input.reason
    )
    return ResetSecondFactorPayload(officer_proposal=OfficerProposal.of(made))


async def reinstate_staff(info: Info, input: ReinstateStaffInput) -> ReinstateStaffPayload | None:
    """Propose to end the suspension of a staff member."""
    made = await info.context.services.officer_proposals.reinstate(
        await info.context.asker(), parse_id(input.user_id), input.reason
    )
    return ReinstateStaffPayload(officer_proposal=OfficerProposal.of(made))


async def approve_officer_proposal(
    info: Info, input: ApproveOfficerProposalInput
) -> ApproveOfficerProposalPayload | None:
    """Approve a proposal of another officer."""
    decided = await info.context.services.officer_proposals.approve(
        await info.context.asker(), parse_id(input.officer_proposal_id)
    )
    return ApproveOfficerProposalPayload(officer_proposal=OfficerProposal.of(decided))


async def reject_officer_proposal(
    info: Info, input: RejectOfficerProposalInput
) -> RejectOfficerProposalPayload | None:
    """Reject a proposal."""
    decided = await info.context.services.officer_proposals.reject(
        await info.context.asker(), parse_id(input.officer_proposal_id)
    )
    return RejectOfficerProposalPayload(officer_proposal=OfficerProposal.of(decided))
