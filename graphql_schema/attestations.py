"""GraphQL types and root fields of the attestations of the monthly review."""

from datetime import datetime

import strawberry

from app.attestations import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.rows import shown
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is the attestation of an officer that the activity of a month was reviewed, and what was found (45 CFR "
        "164.308(a)(1)(ii)(D)). Compliance officers may read the attestations of all officers."
    )
)
class Attestation(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the attestation, a UUID.")
    month: str = strawberry.field(description="This is the reviewed month in UTC, such as `2026-10`.")
    attested_by: User = strawberry.field(description="This officer attested the month.")
    findings: list[model.ReviewFinding] = strawberry.field(
        description="These are the findings of the review."
    )
    note: str | None = strawberry.field(
        description="This is the officer's note. It should name nobody. It is null if there is none."
    )
    document: str = strawberry.field(
        description=(
            "This is the sealed record of the attestation: JSON with ids, findings, the counts of the month, and the "
            "digest of the note."
        )
    )
    sha256: str = strawberry.field(
        description=(
            "This is the SHA-256 of `document`, in hex. It is the digest of the audit event `attestation.seal`."
        )
    )
    audit_event_id: strawberry.ID = strawberry.field(
        description="This is the id of the audit event `attestation.seal`, whose receipt proves the attestation."
    )
    created_at: datetime = strawberry.field(description="This is when the officer attested the month.")


@strawberry.input(description="With this input, a compliance officer attests the review of a month.")
class AttestReviewInput:
    month: str = strawberry.field(
        description="This is the reviewed month in UTC, such as `2026-10`. It must be over."
    )
    findings: list[model.ReviewFinding] = strawberry.field(
        description="These are the findings of the review, each once. NOTHING cannot be combined with another finding."
    )
    note: str | None = strawberry.field(
        default=None, description="This is a note of 1 to 2,000 characters, which should name nobody."
    )


@strawberry.type(description="`attestReview` returns the attestation, which nobody can change.")
class AttestReviewPayload:
    attestation: Attestation = strawberry.field(
        description="This is the attestation, as the audit log has sealed it."
    )


async def attestations(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[Attestation] | None:
    """List the attestations of all officers, newest first."""
    page = await info.context.services.attestations.page(
        await info.context.asker(), page_request(first, after), select(info, "edges", "node")
    )
    return Connection.of_rows(page)


async def attest_review(info: Info, input: AttestReviewInput) -> AttestReviewPayload | None:
    """Attest the review of a month, and seal the attestation in the audit log."""
    made = await info.context.services.attestations.attest(
        await info.context.asker(),
        model.AttestationOrder.of(input.month, input.findings, input.note),
        select(info, "attestation"),
    )
    return AttestReviewPayload(attestation=shown(Attestation, made))
