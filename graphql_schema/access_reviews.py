"""GraphQL types and root fields for the reviews of the access of staff."""

from datetime import datetime
from typing import Self

import strawberry

from app.access_reviews import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.staff.model import StaffRole
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User, to_user
from graphql_schema.scalars import parse_id, to_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is a review of the access of all active staff members, which a second officer approves every quarter. "
        "Only compliance officers may read it."
    )
)
class StaffAccessReview(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the review.")
    status: model.AccessReviewStatus = strawberry.field(
        description="The status says whether the review is open, decided or carried out."
    )
    started_by: User = strawberry.field(description="This officer started the review.")
    started_at: datetime = strawberry.field(description="This is when the officer started the review.")
    decided_by: User | None = strawberry.field(
        description="This officer approved or rejected the review. It is null before that."
    )
    decided_at: datetime | None = strawberry.field(
        description="This is when the officer approved or rejected the review. It is null before that."
    )
    finished_at: datetime | None = strawberry.field(
        description="This is when the worker ended its work on the review. It is null before that."
    )
    sha256: str | None = strawberry.field(
        description=(
            "This is the SHA-256 of the entries as they were approved, in hex. The audit event of the approval has the "
            "same digest. It is null for a review that is not approved."
        )
    )

    @classmethod
    def of(cls, review: model.AccessReview) -> Self:
        return cls(
            id=to_id(review.id),
            status=review.status,
            started_by=User(id=to_id(review.started_by)),
            started_at=review.started_at,
            decided_by=to_user(review.decided_by),
            decided_at=review.decided_at,
            finished_at=review.finished_at,
            sha256=review.sha256,
        )


@strawberry.type(
    description=(
        "This is the entry of an access review about one staff member, with the last use and the decision. Only "
        "compliance officers may read it."
    )
)
class StaffAccessReviewEntry(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the entry.")
    member: User = strawberry.field(description="This is the login of the staff member.")
    joined_at: datetime = strawberry.field(description="This is when the person became a staff member.")
    role: StaffRole = strawberry.field(description="This is the role of the staff member.")
    role_given_at: datetime = strawberry.field(description="This is when the person got the role.")
    last_used_at: datetime | None = strawberry.field(
        description="This is when the person last used the login. It is null if the person never used it."
    )
    is_unused: bool = strawberry.field(
        description="This says whether the review proposes to remove the access, because nobody used it."
    )
    decision: model.AccessDecision = strawberry.field(
        description="This says whether the member keeps the access."
    )
    decided_by: User | None = strawberry.field(
        description="This officer changed the decision. It is null if nobody changed the proposed decision."
    )
    outcome: model.AccessOutcome | None = strawberry.field(
        description="This says what happened to the access after the approval. It is null before that."
    )

    @classmethod
    def of(cls, entry: model.AccessReviewEntry) -> Self:
        return cls(
            id=to_id(entry.id),
            member=User(id=to_id(entry.member_id)),
            joined_at=entry.member_since,
            role=entry.role,
            role_given_at=entry.role_given_at,
            last_used_at=entry.last_used_at,
            is_unused=entry.is_unused,
            decision=entry.decision,
            decided_by=to_user(entry.decided_by),
            outcome=entry.outcome,
        )


def _review_place(review: model.AccessReview) -> Cursor:
    return Cursor(review.started_at, review.id)


def _entry_place(entry: model.AccessReviewEntry) -> Cursor:
    return Cursor(entry.member_since, entry.id)


async def staff_access_reviews(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[StaffAccessReview] | None:
    """List the access reviews, newest first."""
    page = await info.context.services.access_reviews.page(
        await info.context.asker(), page_request(first, after), select(info, "edges", "node")
    )
    return Connection.of(page, StaffAccessReview.of, _review_place)


async def staff_access_review_entries(
    info: Info, review_id: strawberry.ID, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[StaffAccessReviewEntry] | None:
    """List the entries of one access review, newest member first."""
    page = await info.context.services.access_reviews.entries(
        await info.context.asker(),
        parse_id(review_id),
        page_request(first, after),
        select(info, "edges", "node"),
    )
    return Connection.of(page, StaffAccessReviewEntry.of, _entry_place)


@strawberry.input(
    description="With this input, a compliance officer starts a review of the access of all staff."
)
class StartStaffAccessReviewInput:
    unused_after_days: int = strawberry.field(
        default=model.UNUSED_AFTER_DAYS,
        description=(
            "The review proposes to remove the access that nobody used for this many days, from 30 to 366."
        ),
    )


@strawberry.type(description="`startStaffAccessReview` returns this payload.")
class StartStaffAccessReviewPayload:
    staff_access_review: StaffAccessReview = strawberry.field(
        description="This is the review, which is OPEN."
    )


@strawberry.input(
    description="With this input, a compliance officer decides about the access of one staff member."
)
class DecideStaffAccessInput:
    review_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN review.")
    user_id: strawberry.ID = strawberry.field(
        description="This is the id of the staff member's login, which is `StaffMember.user.id`."
    )
    decision: model.AccessDecision = strawberry.field(
        description="This says whether the member keeps the access."
    )


@strawberry.type(description="`decideStaffAccess` returns this payload.")
class DecideStaffAccessPayload:
    staff_access_review_entry: StaffAccessReviewEntry = strawberry.field(
        description="This is the entry with the new decision."
    )


@strawberry.input(
    description="With this input, a compliance officer approves an access review of another officer."
)
class ApproveStaffAccessReviewInput:
    review_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN review.")


@strawberry.type(description="`approveStaffAccessReview` returns this payload.")
class ApproveStaffAccessReviewPayload:
    staff_access_review: StaffAccessReview = strawberry.field(
        description="This is the review, which is APPROVED."
    )


@strawberry.input(description="With this input, a compliance officer rejects an access review.")
class RejectStaffAccessReviewInput:
    review_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN review.")


@strawberry.type(description="`rejectStaffAccessReview` returns this payload.")
class RejectStaffAccessReviewPayload:
    staff_access_review: StaffAccessReview = strawberry.field(
        description="This is the review, which is REJECTED."
    )


async def start_staff_access_review(
    info: Info, input: StartStaffAccessReviewInput
) -> StartStaffAccessReviewPayload | None:
    """Start a review of the access of all active staff members."""
    started = await info.context.services.access_reviews.start(
        await info.context.asker(), input.unused_after_days
    )
    return StartStaffAccessReviewPayload(staff_access_review=StaffAccessReview.of(started))


async def decide_staff_access(info: Info, input: DecideStaffAccessInput) -> DecideStaffAccessPayload | None:
    """Change the decision of an open review about one staff member."""
    changed = await info.context.services.access_reviews.decide(
        await info.context.asker(), parse_id(input.review_id), parse_id(input.user_id), input.decision
    )
    return DecideStaffAccessPayload(staff_access_review_entry=StaffAccessReviewEntry.of(changed))


async def approve_staff_access_review(
    info: Info, input: ApproveStaffAccessReviewInput
) -> ApproveStaffAccessReviewPayload | None:
    """Approve a review that another officer started."""
    settled = await info.context.services.access_reviews.settle(
        await info.context.asker(), parse_id(input.review_id), is_approved=True
    )
    return ApproveStaffAccessReviewPayload(staff_access_review=StaffAccessReview.of(settled))


async def reject_staff_access_review(
    info: Info, input: RejectStaffAccessReviewInput
) -> RejectStaffAccessReviewPayload | None:
    """Reject a review."""
    settled = await info.context.services.access_reviews.settle(
        await info.context.asker(), parse_id(input.review_id), is_approved=False
    )
    return RejectStaffAccessReviewPayload(staff_access_review=StaffAccessReview.of(settled))
