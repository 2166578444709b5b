"""GraphQL inputs, results and root fields of the mutations that change an access request."""

from datetime import date

import strawberry

from app.access_requests import model
from app.postgres.selection import Selection
from graphql_schema.access_requests import AccessRequest
from graphql_schema.consents import RepresentativeInput
from graphql_schema.context import Info
from graphql_schema.references import ConsultationBy, PatientBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, parse_optional_id
from graphql_schema.selected_fields import select


@strawberry.type
class AccessRequestPayload:
    """The base of the results of all mutations that change an access request. The schema does not contain it."""

    access_request: AccessRequest = strawberry.field(
        description="This is the access request after the change."
    )


def select_request(info: Info) -> Selection:
    """Return what the client selects of the changed access request."""
    return select(info, "accessRequest")


@strawberry.input(description="This is an access request that a signed-in patient files.")
class RequestAccessInput:
    consultation: ConsultationBy | None = strawberry.field(
        default=None,
        description=(
            "This is the consultation with the requested recordings. If `consultation` is omitted, the patient "
            "requests all recordings."
        ),
    )
    representative: RepresentativeInput | None = strawberry.field(
        default=None,
        description=(
            "This is the representative who files the request for the patient, if the patient does not file it "
            "in person."
        ),
    )


@strawberry.input(description="This is a patient's access request that arrived in writing.")
class RecordAccessRequestInput:
    patient: PatientBy = strawberry.field(description="This is the patient who wrote the request.")
    received_on: date = strawberry.field(
        description=(
            "This is the day on which the practice received the request, at most 60 days ago. The deadline of "
            "30 days for the access request counts from the day of receipt."
        )
    )
    consultation: ConsultationBy | None = strawberry.field(
        default=None,
        description=(
            "This is the consultation with the requested recordings. If `consultation` is omitted, the patient "
            "requests all recordings."
        ),
    )
    representative: RepresentativeInput | None = strawberry.field(
        default=None, description="This is the representative who wrote the request for the patient."
    )


@strawberry.type(
    description="`requestAccess` returns the new access request, or the one that is already open."
)
class RequestAccessPayload(AccessRequestPayload):
    pass


@strawberry.type(
    description="`recordAccessRequest` returns the new access request, or the one that is already open."
)
class RecordAccessRequestPayload(AccessRequestPayload):
    pass


@strawberry.input(description="With this input, an access request is withdrawn.")
class WithdrawAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of an open access request, which the patient filed or a compliance officer entered."
    )


@strawberry.type(description="`withdrawAccessRequest` returns the access request, which is WITHDRAWN.")
class WithdrawAccessRequestPayload(AccessRequestPayload):
    pass


@strawberry.input(description="With this input, a compliance officer approves an access request.")
class ApproveAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of an OPEN access request, or of an approved one without an encrypted copy."
        )
    )


@strawberry.type(description="`approveAccessRequest` returns the access request, which is APPROVED.")
class ApproveAccessRequestPayload(AccessRequestPayload):
    pass


@strawberry.input(description="With this input, a compliance officer denies an access request.")
class DenyAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="This is the id of an OPEN access request."
    )
    ground: model.DenialGround = strawberry.field(
        description="This is the ground of the denial in 45 CFR 164.524(a)."
    )
    determined_by_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the user id of the clinician who determined that harm is likely. A reviewable ground "
            "needs the clinician, and every other ground must have none."
        ),
    )


@strawberry.type(description="`denyAccessRequest` returns the access request, which is DENIED.")
class DenyAccessRequestPayload(AccessRequestPayload):
    pass


@strawberry.input(
    description="With this input, a compliance officer extends the deadline of an access request."
)
class ExtendAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="This is the id of an OPEN access request."
    )
    reason: model.ExtensionReason = strawberry.field(
        description="This says why the practice needs more time."
    )
    days: int = strawberry.field(
        default=model.MAX_EXTENSION_DAYS, description="The deadline moves by this many days: 1 to 30."
    )


@strawberry.type(description="`extendAccessRequest` returns the access request with its new deadline.")
class ExtendAccessRequestPayload(AccessRequestPayload):
    pass


@strawberry.input(
    description=(
        "With this input, a patient or a compliance officer asks for the review of a denied access request."
    )
)
class AskAccessReviewInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="This is the id of an access request that was DENIED on a reviewable ground."
    )


@strawberry.type(
    description=(
        "`askAccessReview` returns the access request, which is OPEN until the outcome of the review is "
        "recorded."
    )
)
class AskAccessReviewPayload(AccessRequestPayload):
    pass


@strawberry.input(description="With this input, a compliance officer records the outcome of a review.")
class RecordAccessReviewInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="This is the id of a denied access request whose review was asked for."
    )
    reviewer_id: strawberry.ID = strawberry.field(
        description=(
            "This is the user id of the clinician who reviewed the denial, and who took no part in it."
        )
    )
    outcome: model.ReviewOutcome = strawberry.field(description="This is the outcome of the review.")


@strawberry.type(
    description="`recordAccessReview` returns the access request with the outcome of the review."
)
class RecordAccessReviewPayload(AccessRequestPayload):
    pass


async def request_access(info: Info, input: RequestAccessInput) -> RequestAccessPayload | None:
    """File an access request for the signed-in patient."""
    filed = await info.context.services.access_requests.file(
        await info.context.asker(),
        input.consultation.to_model() if input.consultation else None,
        input.representative.to_model() if input.representative else None,
        select_request(info),
    )
    return RequestAccessPayload(access_request=shown(AccessRequest, filed))


async def record_access_request(
    info: Info, input: RecordAccessRequestInput
) -> RecordAccessRequestPayload | None:
    """File an access request that arrived in writing."""
    filed = await info.context.services.access_requests.file_written(
        await info.context.asker(),
        input.patient.to_model(),
        input.consultation.to_model() if input.consultation else None,
        input.received_on,
        input.representative.to_model() if input.representative else None,
        select_request(info),
    )
    return RecordAccessRequestPayload(access_request=shown(AccessRequest, filed))


async def withdraw_access_request(
    info: Info, input: WithdrawAccessRequestInput
) -> WithdrawAccessRequestPayload | None:
    """Withdraw the patient's own request or, for compliance, a written one. After the withdrawal of an access
    request, its recordings may be destroyed.
    """
    withdrawn = await info.context.services.access_requests.withdraw(
        await info.context.asker(), parse_id(input.access_request_id), select_request(info)
    )
    return WithdrawAccessRequestPayload(access_request=shown(AccessRequest, withdrawn))


async def approve_access_request(
    info: Info, input: ApproveAccessRequestInput
) -> ApproveAccessRequestPayload | None:
    """Approve an access request and queue the job that makes its encrypted copy."""
    approved = await info.context.services.access_requests.approve(
        await info.context.asker(), parse_id(input.access_request_id), select_request(info)
    )
    return ApproveAccessRequestPayload(access_request=shown(AccessRequest, approved))


async def deny_access_request(info: Info, input: DenyAccessRequestInput) -> DenyAccessRequestPayload | None:
    """Deny an access request on a ground of 45 CFR 164.524(a)."""
    denied = await info.context.services.access_requests.deny(
        await info.context.asker(),
        parse_id(input.access_request_id),
        input.ground,
        parse_optional_id(input.determined_by_id),
        select_request(info),
    )
    return DenyAccessRequestPayload(access_request=shown(AccessRequest, denied))


async def extend_access_request(
    info: Info, input: ExtendAccessRequestInput
) -> ExtendAccessRequestPayload | None:
    """Extend the deadline of an access request."""
    extended = await info.context.services.access_requests.extend(
        await info.context.asker(),
        parse_id(input.access_request_id),
        input.days,
        input.reason,
        select_request(info),
    )
    return ExtendAccessRequestPayload(access_request=shown(AccessRequest, extended))


async def ask_access_review(info: Info, input: AskAccessReviewInput) -> AskAccessReviewPayload | None:
    """Ask for the review of a denial, for the patient or, after a written request, for compliance."""
    asked = await info.context.services.access_requests.ask_review(
        await info.context.asker(), parse_id(input.access_request_id), select_request(info)
    )
    return AskAccessReviewPayload(access_request=shown(AccessRequest, asked))


async def record_access_review(
    info: Info, input: RecordAccessReviewInput
) -> RecordAccessReviewPayload | None:
    """Record the outcome of a review in which another professional examined the denial of an access request."""
    reviewed = await info.context.services.access_requests.record_review(
        await info.context.asker(),
        parse_id(input.access_request_id),
        parse_id(input.reviewer_id),
        input.outcome,
        select_request(info),
    )
    return RecordAccessReviewPayload(access_request=shown(AccessRequest, reviewed))
