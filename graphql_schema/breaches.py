"""GraphQL types of breach assessments and sanctions, and the root fields that list them."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from app.breaches import model
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.connections import Connection, nested_page
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.root_fields import ARGUMENTS
from graphql_schema.scalars import BigInt
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.recordings import Recording


@strawberry.type(
    description=(
        "This is one of the four factors of a risk assessment (45 CFR 164.402(2)). Compliance officers who may read "
        "the assessment may read it."
    )
)
class BreachFactor:
    factor: model.BreachFactorKind = strawberry.field(description="This says which factor it is.")
    risk: model.BreachRisk = strawberry.field(
        description="This is the risk that the factor adds to the probability of a compromise."
    )
    rationale: str = strawberry.field(
        description="This is why the officer came to this risk. It should name nobody: ids are enough."
    )
    recorded_by: User = strawberry.field(description="This officer recorded the factor.")
    recorded_at: datetime = strawberry.field(description="This is when the officer recorded the factor.")


@strawberry.type(
    description=(
        "This is a notice of a breach that the practice has sent. Compliance officers who may read the assessment may "
        "read it."
    )
)
class BreachNotice:
    kind: model.BreachNoticeKind = strawberry.field(description="This says to whom the notice was sent.")
    method: model.BreachNoticeMethod = strawberry.field(description="This says how the notice was sent.")
    jurisdiction: str | None = strawberry.field(
        description="This is the state or jurisdiction of a notice to the media. It is null for every other notice."
    )
    sent_on: date = strawberry.field(description="This is the day on which the notice was sent.")
    late_reason: model.BreachLateReason | None = strawberry.field(
        description="This says why the notice was sent after its deadline. It is null if it was sent in time."
    )
    recorded_by: User = strawberry.field(description="This officer recorded the notice.")
    recorded_at: datetime = strawberry.field(description="This is when the officer recorded the notice.")


@strawberry.type(
    description=(
        "This is a notice that a breach needs, with its deadline. Compliance officers who may read the assessment may "
        "read it."
    )
)
class NeededBreachNotice:
    kind: model.BreachNoticeKind = strawberry.field(description="This says to whom the notice must be sent.")
    jurisdiction: str | None = strawberry.field(
        description=(
            "This is the state or jurisdiction in which more than 500 affected patients live. It is null for other "
            "notices, and if the decision stated no residents."
        )
    )
    due_on: date = strawberry.field(description="This is the last day for the notice, in UTC.")
    sent_on: date | None = strawberry.field(
        description="This is the day on which the first such notice was sent. It is null before that."
    )


@strawberry.type(
    description=(
        "This is a sanction against a member of staff (45 CFR 164.530(e)). Compliance officers may read the sanctions "
        "against others."
    )
)
class Sanction(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the sanction, a UUID.")
    member: User = strawberry.field(description="The sanction is against this member of staff.")
    category: model.SanctionCategory = strawberry.field(description="This is the category of the violation.")
    measure: model.SanctionMeasure = strawberry.field(description="This is what the practice imposed.")
    imposed_on: date = strawberry.field(description="This is the day on which the sanction was imposed.")
    recorded_by: User = strawberry.field(description="This officer recorded the sanction.")
    created_at: datetime = strawberry.field(description="This is when the officer recorded the sanction.")


@strawberry.type(
    description=(
        "This is a recording that an incident affects. Compliance officers who may read the assessment may read it."
    )
)
class BreachRecording(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the recording.")
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description="This is the recording, without any content."
    )


@strawberry.type(
    description=(
        "This is the assessment of a possible breach (45 CFR 164.402 to 164.414). Compliance officers may read all "
        "assessments except those of which they are the subject."
    )
)
class BreachAssessment(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the assessment, a UUID.")
    subject: User | None = strawberry.field(
        description=(
            "The assessment is about the access of this member of staff. It is null if no member of staff is suspected."
        )
    )
    status: model.BreachStatus = strawberry.field(description="This is the status of the assessment.")
    count_status: model.BreachCountStatus = strawberry.field(
        description="This says whether the worker has read the affected patients from the audit log."
    )
    event_count: BigInt = strawberry.field(
        description="This is the number of audit events of the incident that the worker has read."
    )
    patient_count: int = strawberry.field(
        description="This is the number of patients whose data these events showed."
    )
    recording_count: int = strawberry.field(
        description="This is the number of recordings that these events named."
    )
    discovered_on: date = strawberry.field(
        description=(
            "This is the first day in UTC on which the practice knew of the incident, or should have known of it."
        )
    )
    due_on: date = strawberry.field(
        description="This is the last day for the notices, in UTC: 60 days after the discovery."
    )
    next_due_on: date | None = strawberry.field(
        description=(
            "This is the last day for the next step, which is the decision or the next notice. It is null if nothing "
            "is left to do."
        )
    )
    is_overdue: bool = strawberry.field(
        description="This says whether the last day for the next step has passed."
    )
    delay_statement: model.DelayStatement | None = strawberry.field(
        description=(
            "This says how law enforcement asked for a delay of the notices. It is null if nobody asked for a delay."
        )
    )
    delay_ends_on: date | None = strawberry.field(
        description="This is the day before which law enforcement wants no notice. It is null without a delay."
    )
    factors: list[BreachFactor] = strawberry.field(
        description="These are the recorded factors, at most four."
    )
    decision: model.BreachDecision | None = strawberry.field(
        description="This is the decision on the assessment. It is null while the assessment is OPEN."
    )
    decided_by: User | None = strawberry.field(
        description="This officer decided on the assessment. It is null while the assessment is OPEN."
    )
    decided_at: datetime | None = strawberry.field(
        description="This is when the officer decided. It is null while the assessment is OPEN."
    )
    late_reason: model.BreachLateReason | None = strawberry.field(
        description="This says why the decision came after the deadline. It is null if it came in time."
    )
    document: str | None = strawberry.field(
        description=(
            "This is the sealed record of the decision: JSON with ids, counts and digests. It is null while the "
            "assessment is OPEN."
        )
    )
    sha256: str | None = strawberry.field(
        description=(
            "This is the SHA-256 of `document`, in hex. It is the digest of the audit event `breach.seal`, and null "
            "while the assessment is OPEN."
        )
    )
    audit_event_id: strawberry.ID | None = strawberry.field(
        description=(
            "This is the id of the audit event `breach.seal`, whose receipt proves the decision. It is null while the "
            "assessment is OPEN."
        )
    )
    needed_notices: list[NeededBreachNotice] = strawberry.field(
        description="These are the notices that a breach needs, with their deadlines. Other decisions need none."
    )
    notices: list[BreachNotice] = strawberry.field(
        description="These are the notices that were sent, oldest first."
    )
    sanctions: list[Sanction] = strawberry.field(
        description="These are the sanctions that followed, oldest first."
    )
    opened_by: User = strawberry.field(description="This officer opened the assessment.")
    created_at: datetime = strawberry.field(description="This is when the officer opened the assessment.")
    closed_at: datetime | None = strawberry.field(
        description="This is when nothing was left to do. It is null before that."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the affected patients in pages of at most 25, in the order in which the worker found them. "
            "Compliance officers who may read the assessment may read them."
        )
    )
    def patients(
        root: strawberry.Parent[Row],
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="The page has at most this many patients, from 1 to 25.")
        ] = DEFAULT_PAGE_SIZE,
        after: Annotated[str | None, strawberry.argument(description=ARGUMENTS["after"])] = None,
    ) -> Connection[Patient]:
        return Connection.of_rows(nested_page(root, "patients", first, after))

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the affected recordings in pages of at most 25, in the order in which the worker found them. "
            "Compliance officers who may read the assessment may read them."
        )
    )
    def recordings(
        root: strawberry.Parent[Row],
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="The page has at most this many recordings, from 1 to 25.")
        ] = DEFAULT_PAGE_SIZE,
        after: Annotated[str | None, strawberry.argument(description=ARGUMENTS["after"])] = None,
    ) -> Connection[BreachRecording]:
        return Connection.of_rows(nested_page(root, "recordings", first, after))


@strawberry.input(
    description="This filters breach assessments. A field of the filter that is omitted matches every assessment."
)
class BreachAssessmentFilter:
    statuses: list[model.BreachStatus] | None = strawberry.field(
        default=None,
        description="Selects the assessments with one of these statuses. An empty list selects none.",
    )


async def breach_assessments(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: BreachAssessmentFilter | None = None,
) -> Connection[BreachAssessment] | None:
    """List the assessments of possible breaches, newest first."""
    page = await info.context.services.breaches.page(
        await info.context.asker(),
        page_request(first, after),
        filter.statuses if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def sanctions(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[Sanction] | None:
    """List the sanctions, newest first."""
    page = await info.context.services.breaches.sanctions_page(
        await info.context.asker(), page_request(first, after), select(info, "edges", "node")
    )
    return Connection.of_rows(page)
