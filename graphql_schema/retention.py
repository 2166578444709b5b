"""Retention in GraphQL: what is kept how long, what a change would delete, what is stored."""

from datetime import date, datetime
from typing import Self

import strawberry

from app.retention import model, report
from app.retention.service import JudgedPolicy
from graphql_schema.context import Info
from graphql_schema.scalars import BigInt, to_id

strawberry.enum(
    model.PolicyStatus,
    name="RetentionPolicyStatus",
    description="One is ACTIVE at a time. A PROPOSED one waits for compliance officers.",
)


@strawberry.type(description="The terms of a kind of consultation that has terms of its own.")
class RetentionTerms:
    kind: str
    recording_days: int
    signed_note_days: int


@strawberry.type(description="A version of what is kept how long.")
class RetentionPolicy:
    id: int
    name: str
    status: model.PolicyStatus
    sha256: str = strawberry.field(description="Of the file that was proposed.")
    recording_days: int
    signed_note_days: int
    kinds: list[RetentionTerms]
    minors_until_age_years: int | None = strawberry.field(
        description="What is recorded of a minor is kept at least until this birthday."
    )
    grace_days: int = strawberry.field(
        description="For how long a deletion somebody asked for can be undone."
    )
    jurisdiction: str | None = strawberry.field(description="Whose floors its terms were held against.")
    applies_to_existing: bool = strawberry.field(description="Whether it dates what is recorded already.")
    shortens: bool = strawberry.field(description="It needs two officers, as it was last judged.")
    shortened: list[str] = strawberry.field(description="Which terms now in force a PROPOSED one shortens.")
    approved_by: list[strawberry.ID]
    proposed_at: datetime
    activated_at: datetime | None

    @classmethod
    def of(cls, kept: model.KeptPolicy, shortened: tuple[str, ...] = ()) -> Self:
        policy = kept.policy
        return cls(
            id=kept.id,
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
            shortens=kept.shortens,
            shortened=list(shortened),
            approved_by=[to_id(officer) for officer in kept.approved_by],
            proposed_at=kept.proposed_at,
            activated_at=kept.activated_at,
        )

    @classmethod
    def of_judged(cls, judged: JudgedPolicy) -> Self:
        return cls.of(judged.kept, judged.shortened)


@strawberry.type(description="What a policy would delete in a month.")
class RetentionMonth:
    month: date = strawberry.field(description="Its first day.")
    recordings: int
    size_bytes: BigInt
    sooner: int = strawberry.field(description="Of these, how many sooner than it is to be today, or at all.")
    held: int = strawberry.field(description="Of these, how many are held now, and stay as long as they are.")


@strawberry.type(description="What a PROPOSED policy would do to what exists if it came into force now.")
class RetentionPreview:
    months: list[RetentionMonth]
    earliest_due_at: datetime | None

    @classmethod
    def of(cls, preview: model.Preview) -> Self:
        return cls(
            months=[
                RetentionMonth(
                    month=each.month,
                    recordings=each.recordings,
                    size_bytes=BigInt(each.size_bytes),
                    sooner=each.sooner,
                    held=each.held,
                )
                for each in preview.months
            ],
            earliest_due_at=preview.earliest_due_at,
        )


@strawberry.type(
    description="What lies in one class of the bucket and is at least so old, and younger than the next."
)
class StoredBytes:
    retention_class: str = strawberry.field(
        description="`d90`: kept 90 days. `keep`: no rule of the bucket's."
    )
    age_from_days: int
    objects: int
    size_bytes: BigInt

    @classmethod
    def of(cls, stored: report.StoredBytes) -> Self:
        return cls(
            retention_class=stored.retention_class,
            age_from_days=stored.age_from_days,
            objects=stored.objects,
            size_bytes=BigInt(stored.size_bytes),
        )


@strawberry.type(description="In US dollars, as the settings have them.")
class StoragePrices:
    gb_month: float
    class_a_million: float
    class_b_million: float
    as_of: str = strawberry.field(description="When they were looked up.")


@strawberry.type(description="What is stored, what of it goes soon, and what it costs. It names nobody.")
class StorageReport:
    size_bytes: BigInt
    stored: list[StoredBytes]
    due_recordings: int = strawberry.field(description="Within 30 days, and not held.")
    due_bytes: BigInt
    held_recordings: int = strawberry.field(description="Due within 30 days, and held: they stay.")
    held_bytes: BigInt
    storage_per_month: float = strawberry.field(description="In US dollars, of what is stored now.")
    operations_per_month: float = strawberry.field(
        description="In US dollars, the least that the last 30 days can have cost."
    )
    prices: StoragePrices

    @classmethod
    def of(cls, made: report.StorageReport) -> Self:
        return cls(
            size_bytes=BigInt(made.size_bytes),
            stored=[StoredBytes.of(each) for each in made.stored],
            due_recordings=made.coming.recordings,
            due_bytes=BigInt(made.coming.size_bytes),
            held_recordings=made.coming.held_recordings,
            held_bytes=BigInt(made.coming.held_bytes),
            storage_per_month=made.storage_per_month,
            operations_per_month=made.operations_per_month,
            prices=StoragePrices(
                gb_month=made.prices.gb_month,
                class_a_million=made.prices.class_a_million,
                class_b_million=made.prices.class_b_million,
                as_of=made.prices.as_of,
            ),
        )


async def retention_policies(info: Info) -> list[RetentionPolicy]:
    """The newest hundred, the newest first."""
    found = await info.context.services.retention.policies(await info.context.asker())
    return [RetentionPolicy.of_judged(each) for each in found]


async def retention_preview(info: Info, policy_id: int) -> RetentionPreview:
    """What a PROPOSED policy would delete, and when."""
    return RetentionPreview.of(
        await info.context.services.retention.preview(await info.context.asker(), policy_id)
    )


async def approve_retention_policy(info: Info, policy_id: int) -> RetentionPolicy:
    """One's approval; the policy comes into force with it, or with a second officer's."""
    return RetentionPolicy.of(
        await info.context.services.retention.approve(await info.context.asker(), policy_id)
    )


async def reject_retention_policy(info: Info, policy_id: int) -> RetentionPolicy:
    """Ends a proposal."""
    return RetentionPolicy.of(
        await info.context.services.retention.reject(await info.context.asker(), policy_id)
    )


async def storage_report(info: Info) -> StorageReport:
    """Bytes by age and class, what goes within 30 days, and the cost."""
    return StorageReport.of(await info.context.services.retention.storage_report(await info.context.asker()))
