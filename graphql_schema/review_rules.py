"""GraphQL types and root fields for the rules of the review."""

import re
from datetime import datetime
from typing import Self

import strawberry

from app.errors import InvalidInput
from app.review import model
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.scalars import BigInt, to_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description="This says whether a rule of the review is evaluated, and how much it matched in the last 30 days."
)
class ReviewRuleState:
    rule: model.ReviewRule = strawberry.field(
        description="This is the rule whose state the object describes."
    )
    status: model.ReviewRuleStatus = strawberry.field(description="This says whether the rule is evaluated.")
    matched_event_count: BigInt = strawberry.field(
        description="The rule matched this many of the events that were evaluated in the last 30 days."
    )
    evaluated_event_count: BigInt = strawberry.field(
        description="This many events were evaluated in the last 30 days, by all rules together."
    )
    is_matching_too_much: bool = strawberry.field(
        description=(
            "If it is true, the rule matched more than half of at least 1,000 events, and its settings should be "
            "changed. Its cases stay bounded."
        )
    )

    @classmethod
    def of(cls, state: model.RuleState) -> Self:
        return cls(
            rule=state.rule,
            status=state.status,
            matched_event_count=BigInt(state.matched_count),
            evaluated_event_count=BigInt(state.evaluated_count),
            is_matching_too_much=state.matches_too_much,
        )


@strawberry.type(
    description=(
        "This is a version of the rules of the review, which the owner of the database proposes. Only compliance "
        "officers may read it."
    )
)
class ReviewPolicy(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the version, a number.")
    name: str = strawberry.field(description="This is the name that the file gives the version.")
    status: model.ReviewPolicyStatus = strawberry.field(
        description="This says whether the version is in force."
    )
    sha256: str = strawberry.field(description="This is the SHA-256 of the file, in hex.")
    source: str = strawberry.field(description="This is the file policies/review.toml as it was proposed.")
    proposed_at: datetime = strawberry.field(description="This is when the version was proposed.")
    activated_at: datetime | None = strawberry.field(
        description="This is when the version came into force. It is null before that."
    )
    approved_by: list[User] = strawberry.field(description="These officers have approved the version.")

    @classmethod
    def of(cls, policy: model.ReviewPolicy) -> Self:
        return cls(
            id=strawberry.ID(str(policy.id)),
            name=policy.name,
            status=policy.status,
            sha256=policy.sha256,
            source=policy.source,
            proposed_at=policy.proposed_at,
            activated_at=policy.activated_at,
            approved_by=[User(id=to_id(officer)) for officer in policy.approved_by],
        )


@strawberry.type(
    description="These are the rules of the review in force, and the versions that are in force or proposed."
)
class ReviewRules:
    rules: list[ReviewRuleState] = strawberry.field(
        description="These are the rules in force. The list is empty if no version is in force."
    )
    policies: list[ReviewPolicy] = strawberry.field(
        description="These are the version in force and the proposed versions, newest first, at most 20."
    )


@strawberry.input(description="With this input, a compliance officer approves rules of the review.")
class ApproveReviewPolicyInput:
    policy_id: strawberry.ID = strawberry.field(description="This is the id of a PROPOSED version.")


@strawberry.type(description="`approveReviewPolicy` returns this payload.")
class ApproveReviewPolicyPayload:
    review_policy: ReviewPolicy = strawberry.field(
        description="The version is ACTIVE, or still PROPOSED until a second officer approves it."
    )


@strawberry.input(description="With this input, a compliance officer rejects rules of the review.")
class RejectReviewPolicyInput:
    policy_id: strawberry.ID = strawberry.field(description="This is the id of a PROPOSED version.")


@strawberry.type(description="`rejectReviewPolicy` returns this payload.")
class RejectReviewPolicyPayload:
    review_policy: ReviewPolicy = strawberry.field(description="This is the version, which is REJECTED.")


async def review_rules(info: Info) -> ReviewRules | None:
    """Read the rules of the review."""
    states, policies = await info.context.services.review_rules.read(
        await info.context.asker(), select(info).paths
    )
    return ReviewRules(
        rules=[ReviewRuleState.of(state) for state in states],
        policies=[ReviewPolicy.of(policy) for policy in policies],
    )


async def approve_review_policy(
    info: Info, input: ApproveReviewPolicyInput
) -> ApproveReviewPolicyPayload | None:
    """Approve rules of the review."""
    approved = await info.context.services.review_rules.approve(
        await info.context.asker(), _policy_id(input.policy_id)
    )
    return ApproveReviewPolicyPayload(review_policy=ReviewPolicy.of(approved))


async def reject_review_policy(
    info: Info, input: RejectReviewPolicyInput
) -> RejectReviewPolicyPayload | None:
    """Reject rules of the review."""
    rejected = await info.context.services.review_rules.reject(
        await info.context.asker(), _policy_id(input.policy_id)
    )
    return RejectReviewPolicyPayload(review_policy=ReviewPolicy.of(rejected))


def _policy_id(value: strawberry.ID) -> int:
    """Return the id as a number. Raises InvalidInput (bad_id)."""
    if re.fullmatch("0|[1-9][0-9]{0,8}", value) is None:
        raise InvalidInput("bad_id")
    return int(value)
