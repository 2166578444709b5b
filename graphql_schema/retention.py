"""GraphQL types and root fields for retention policies and the storage report."""

import re
from datetime import date, datetime
from typing import Self

import strawberry

from app.errors import InvalidInput
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.retention import model
from app.retention import storage_report as storage_model
from app.retention.service import JudgedPolicy
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.scalars import BigInt, to_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "These are the retention terms of one kind of consultation. Only compliance officers may read them."
    )
)
class RetentionTerms:
    kind: str = strawberry.field(description="This is the kind of consultation to which the terms apply.")
    recording_days: int = strawberry.field(
        description="The policy keeps recordings of this kind for this many days."
    )
    signed_note_days: int = strawberry.field(
        description="The policy keeps recordings of this kind with a signed note for this many days."
    )


@strawberry.type(
    description=(
        "This is a version of the retention policy, which the operator proposes and compliance officers "
        "approve. Only compliance officers may read it."
    )
)
class RetentionPolicy(Node):
    id: strawberry.ID = strawberry.field(
        description="This is the id of this version of the retention policy, which is a number."
    )
    name: str = strawberry.field(description="The name of the policy, as its file says.")
    status: model.PolicyStatus = strawberry.field(
        description="This is the status of this version of the policy."
    )
    sha256: str = strawberry.field(description="This is the SHA-256 of the policy file that was proposed.")
    recording_days: int = strawberry.field(
        description="The policy keeps recordings for this many days, if their kind has no term of its own."
    )
    signed_note_days: int = strawberry.field(
        description=(
            "The policy keeps recordings with a signed note for this many days, if their kind has no term of "
            "its own."
        )
    )
    kinds: list[RetentionTerms] = strawberry.field(
        description="These are the terms of those kinds of consultations that have their own."
    )
    minors_until_age_years: int | None = strawberry.field(
        description="This is the age in years until which recordings of a minor are kept at least."
    )
    grace_days: int = strawberry.field(
        description="This is the number of days during which a requested deletion can be undone."
    )
    jurisdiction: str | None = strawberry.field(
        description="This is the jurisdiction whose minimum retention terms apply."
    )
    applies_to_existing: bool = strawberry.field(
        description="This says whether the policy also applies to existing recordings."
    )
    needs_second_approval: bool = strawberry.field(
        description=(
            "If it is true, two compliance officers must approve the policy, because it shortens a retention "
            "term. The database checks this at the proposal and again at each approval, and the value is the "
            "latest result."
        )
    )
    shortened_terms: list[str] = strawberry.field(
        description=(
            "These are the places of the terms in force that a PROPOSED policy would shorten, such as "
            "`default.recording_days` or `kinds.surgery.signed_note_days`. The list is empty for a policy that "
            "is not PROPOSED, and while no policy is in force."
        )
    )
    approved_by: list[User] = strawberry.field(
        description=(
            "These are the compliance officers who have approved this version, first approval first."
        )
    )
    proposed_at: datetime = strawberry.field(description="This is when this version was proposed.")
    activated_at: datetime | None = strawberry.field(
        description="This is when this version came into force. It is null before that."
    )

    @classmethod
    def of(cls, judged: JudgedPolicy) -> Self:
        kept, policy = judged.kept, judged.kept.policy
        return cls(
            id=strawberry.ID(str(kept.id)),
            name=policy.name,
            status=kept.status,
            sha256=kept.sha256,
            recording_days=policy.default.recording_days,
            signed_note_days=policy.default.signed_note_days,
            kinds=[
                RetentionTerms(
                    kind=kind, recording_days=each.recording_days, signed_note_days=each.signed_note_days
                )
                for kind, each in sorted(policy.kinds.items())
            ],
            minors_until_age_years=policy.minors_until_age_years,
            grace_days=policy.grace_days,
            jurisdiction=policy.jurisdiction,
            applies_to_existing=policy.applies_to_existing,
            needs_second_approval=kept.shortens,
            shortened_terms=list(judged.shortened),
            approved_by=[User(id=to_id(officer)) for officer in kept.approved_by],
            proposed_at=kept.proposed_at,
            activated_at=kept.activated_at,
        )


@strawberry.type(
    description=(
        "These are the recordings and the signed notes that a PROPOSED retention policy would delete in one month."
    )
)
class RetentionMonth:
    starts_on: date = strawberry.field(description="This is the first day of the month of the deletions.")
    recording_count: int = strawberry.field(
        description="This says how many recordings the policy would delete in the month."
    )
    size_bytes: BigInt = strawberry.field(
        description="This is the size of the recordings that the policy would delete in the month."
    )
    sooner_count: int = strawberry.field(
        description=(
            "This says how many recordings of the month the ACTIVE policy would delete later or would not "
            "delete at all."
        )
    )
    held_count: int = strawberry.field(
        description=(
            "This says how many recordings of the month are under a legal hold now and are therefore kept."
        )
    )
    signed_note_count: int = strawberry.field(
        description="This says how many signed notes the policy would destroy in the month."
    )
    held_signed_note_count: int = strawberry.field(
        description=(
            "This says how many signed notes of the month are under a legal hold now and are therefore kept."
        )
    )


@strawberry.type(
    description=(
        "This is the effect that a PROPOSED retention policy would have on existing recordings and signed notes if "
        "it came into force now."
    )
)
class RetentionPreview:
    months: list[RetentionMonth] = strawberry.field(
        description="These are the months in which the policy would delete recordings or signed notes, in order."
    )
    first_deletion_at: datetime | None = strawberry.field(
        description=(
            "This is when the policy would delete the first recording. It is null if it would delete none."
        )
    )

    @classmethod
    def of(cls, preview: model.Preview) -> Self:
        return cls(
            months=[
                RetentionMonth(
                    starts_on=each.month,
                    recording_count=each.recordings,
                    size_bytes=BigInt(each.size_bytes),
                    sooner_count=each.sooner,
                    held_count=each.held,
                    signed_note_count=each.notes,
                    held_signed_note_count=each.held_notes,
                )
                for each in preview.months
            ],
            first_deletion_at=preview.earliest_due_at,
        )


@strawberry.type(
    description=(
        "These are the bytes of one retention class in one range of ages. Each range of ages ends where the "
        "range of the next row begins (its `ageFromDays`)."
    )
)
class StoredBytes:
    retention_class: str = strawberry.field(
        description=(
            "This is the retention class of the objects. The bucket keeps objects of the class `d90` for 90 "
            "days. No lifecycle rule of the bucket deletes objects of the class `keep`."
        )
    )
    age_from_days: int = strawberry.field(description="The range begins at this age in days, inclusive.")
    object_count: int = strawberry.field(description="This says how many objects are in the range.")
    size_bytes: BigInt = strawberry.field(description="This is the size of the objects in the range.")

    @classmethod
    def of(cls, stored: storage_model.StoredBytes) -> Self:
        return cls(
            retention_class=stored.retention_class,
            age_from_days=stored.age_from_days,
            object_count=stored.objects,
            size_bytes=BigInt(stored.size_bytes),
        )


@strawberry.type(description="These are the configured prices of storage in US dollars.")
class StoragePrices:
    storage_usd_per_gb_month: float = strawberry.field(
        description="This is the price of one stored gigabyte in a month."
    )
    class_a_usd_per_million: float = strawberry.field(
        description="This is the price of a million requests of class A, such as uploads."
    )
    class_b_usd_per_million: float = strawberry.field(
        description="This is the price of a million requests of class B, such as downloads."
    )
    as_of: str = strawberry.field(
        description="This is the day, month or year in which somebody looked up the prices."
    )


@strawberry.type(
    description=(
        "A report on the stored bytes, the upcoming deletions and the cost of storage. The "
        "storage report names no person."
    )
)
class StorageReport:
    size_bytes: BigInt = strawberry.field(description="This is the size of all stored objects.")
    stored_bytes: list[StoredBytes] = strawberry.field(
        description="These are the stored bytes by retention class and age."
    )
    due_recording_count: int = strawberry.field(
        description="This many recordings become due within 30 days and are under no legal hold."
    )
    due_bytes: BigInt = strawberry.field(
        description=(
            "This is the size of the recordings that become due within 30 days and are under no hold."
        )
    )
    held_recording_count: int = strawberry.field(
        description="This many recordings become due within 30 days and are kept because of a legal hold."
    )
    held_bytes: BigInt = strawberry.field(
        description=(
            "This is the size of the recordings that become due within 30 days and are kept because of a hold."
        )
    )
    storage_usd_per_month: float = strawberry.field(
        description="This is the monthly cost of the stored bytes in US dollars."
    )
    requests_usd_per_month: float = strawberry.field(
        description=(
            "This is a lower bound of the cost of requests to the bucket in the last 30 days, in US dollars."
        )
    )
    prices: StoragePrices = strawberry.field(
        description="These are the prices with which the report computes the cost."
    )

    @classmethod
    def of(cls, made: storage_model.StorageReport) -> Self:
        return cls(
            size_bytes=BigInt(made.size_bytes),
            stored_bytes=[StoredBytes.of(each) for each in made.stored],
            due_recording_count=made.changes.recordings,
            due_bytes=BigInt(made.changes.size_bytes),
            held_recording_count=made.changes.held_recordings,
            held_bytes=BigInt(made.changes.held_bytes),
            storage_usd_per_month=made.storage_per_month,
            requests_usd_per_month=made.operations_per_month,
            prices=StoragePrices(
                storage_usd_per_gb_month=made.prices.gb_month,
                class_a_usd_per_million=made.prices.class_a_million,
                class_b_usd_per_million=made.prices.class_b_million,
                as_of=made.prices.as_of,
            ),
        )


def _place(judged: JudgedPolicy) -> Cursor:
    return Cursor.of_number(judged.kept.id)


async def retention_policies(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[RetentionPolicy] | None:
    """List retention policies, newest first."""
    page = await info.context.services.retention.page(
        await info.context.asker(), page_request(first, after), select(info, "edges", "node").paths
    )
    return Connection.of(page, RetentionPolicy.of, _place)


async def retention_preview(info: Info, policy_id: strawberry.ID) -> RetentionPreview | None:
    """Return how many recordings a PROPOSED retention policy would delete in each month."""
    return RetentionPreview.of(
        await info.context.services.retention.preview(await info.context.asker(), _policy_id(policy_id))
    )


@strawberry.input(description="With this input, a compliance officer approves a retention policy.")
class ApproveRetentionPolicyInput:
    policy_id: strawberry.ID = strawberry.field(description="This is the id of a PROPOSED retention policy.")


@strawberry.type(
    description=(
        "`approveRetentionPolicy` returns this payload. If the policy comes into force and applies to existing "
        "recordings, their `retentionEndsAt` changes too, which the payload does not show."
    )
)
class ApproveRetentionPolicyPayload:
    retention_policy: RetentionPolicy = strawberry.field(
        description="The approved policy, which is ACTIVE, or still PROPOSED until a second officer approves it."
    )
    superseded_policy: RetentionPolicy | None = strawberry.field(
        description=(
            "This is the policy that was in force until now, which is SUPERSEDED. The value is null if the "
            "approved policy is not in force yet, or is the first policy."
        )
    )


@strawberry.input(description="With this input, a compliance officer rejects a retention policy.")
class RejectRetentionPolicyInput:
    policy_id: strawberry.ID = strawberry.field(description="This is the id of a PROPOSED retention policy.")


@strawberry.type(description="`rejectRetentionPolicy` returns this payload.")
class RejectRetentionPolicyPayload:
    retention_policy: RetentionPolicy = strawberry.field(
        description=("This is the policy, which is REJECTED.")
    )


def _policy_id(value: strawberry.ID) -> int:
    """Return the number that the id of a retention policy represents. Raises InvalidInput (bad_id)."""
    if re.fullmatch("0|[1-9][0-9]{0,8}", value) is None:
        raise InvalidInput("bad_id")
    return int(value)


async def approve_retention_policy(
    info: Info, input: ApproveRetentionPolicyInput
) -> ApproveRetentionPolicyPayload | None:
    """Approve a policy. A policy comes into force with its first approval, or with the approval of a second officer
    if it shortens a term.
    """
    approval = await info.context.services.retention.approve(
        await info.context.asker(), _policy_id(input.policy_id)
    )
    superseded = approval.superseded
    return ApproveRetentionPolicyPayload(
        retention_policy=RetentionPolicy.of(approval.approved),
        superseded_policy=None if superseded is None else RetentionPolicy.of(superseded),
    )


async def reject_retention_policy(
    info: Info, input: RejectRetentionPolicyInput
) -> RejectRetentionPolicyPayload | None:
    """Reject a proposed policy."""
    rejected = await info.context.services.retention.reject(
        await info.context.asker(), _policy_id(input.policy_id)
    )
    return RejectRetentionPolicyPayload(retention_policy=RetentionPolicy.of(rejected))


async def storage_report(info: Info) -> StorageReport | None:
    """Return the stored bytes by age and retention class, the deletions of the next 30 days, and the cost."""
    return StorageReport.of(await info.context.services.retention.report_storage(await info.context.asker()))
