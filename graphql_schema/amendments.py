"""GraphQL types and root fields of requests to amend a patient's record (45 CFR 164.526)."""

from datetime import date, datetime

import strawberry

from app.access_requests.model import Channel, ExtensionReason
from app.amendments import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.access_requests import AccessRequestExtension
from graphql_schema.connections import Connection
from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.references import ConsultationBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


@strawberry.type(description="This is a statement of an amendment. Nothing changes or removes it.")
class AmendmentStatement:
    kind: model.AmendmentStatementKind = strawberry.field(description="This says what the statement is.")
    text: str | None = strawberry.field(
        description=(
            "This is the text of the statement. It is null if the key of the text was destroyed with the patient's "
            "record."
        )
    )
    persons_to_inform: str | None = strawberry.field(
        description=(
            "This names the persons whom the practice informs of an accepted amendment. Only a statement of the kind "
            "AMENDMENT can have it."
        )
    )
    made_by: User = strawberry.field(description="This person added the statement.")
    made_at: datetime = strawberry.field(description="This is when the statement was added.")


@strawberry.type(
    description=(
        "This is a request to amend a part of a consultation's record (45 CFR 164.526), with its decision and its "
        "statements. The patient, the doctor of the consultation and compliance may read it."
    )
)
class Amendment(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the amendment, a UUID.")
    patient: Patient = strawberry.field(
        description="This is the patient whose record the amendment is about."
    )
    consultation: Consultation = strawberry.field(
        description="This is the consultation whose record the amendment is about."
    )
    part: model.AmendmentPart = strawberry.field(description="This is the part of the record to amend.")
    recording_id: strawberry.ID | None = strawberry.field(
        description="This is the id of the recording to which the part belongs. It can be null for the part RECORD."
    )
    status: model.AmendmentStatus = strawberry.field(description="This is the status of the request.")
    channel: Channel = strawberry.field(description="This says how the request arrived.")
    is_by_representative: bool = strawberry.field(
        description="This says whether the patient's representative asked for the amendment."
    )
    received_on: date = strawberry.field(
        description="This is the day in UTC on which the practice received the request."
    )
    due_on: date = strawberry.field(
        description=(
            "This is the deadline of the request, as a day in UTC: 60 days after receipt, extended once by at most 30 "
            "days."
        )
    )
    is_overdue: bool = strawberry.field(
        description="This says whether the deadline has passed and the request is still OPEN."
    )
    extension: AccessRequestExtension | None = strawberry.field(
        description="This is the extension of the deadline. It is null if the deadline was not extended."
    )
    decided_by: User | None = strawberry.field(
        description="This officer accepted or denied the amendment. It is null before that."
    )
    decided_at: datetime | None = strawberry.field(
        description="This is when the amendment was accepted or denied. It is null before that."
    )
    denial_ground: model.AmendmentDenialGround | None = strawberry.field(
        description="This is the ground of the denial. It is null if the amendment was not denied."
    )
    inclusion_asked_at: datetime | None = strawberry.field(
        description=(
            "This is when the patient asked that the request and the denial go with future disclosures of the record. "
            "It is null if the patient did not ask."
        )
    )
    created_at: datetime = strawberry.field(description="This is when the request was filed in the API.")
    statements: list[AmendmentStatement] = strawberry.field(
        description="These are the statements, in the order in which they were added. There are at most four."
    )


@strawberry.input(description="This filters amendments. A field that is omitted matches all.")
class AmendmentFilter:
    consultation: ConsultationBy | None = strawberry.field(
        default=None, description="Selects the amendments of this consultation's record."
    )


@strawberry.input(description="With this input, a signed-in patient asks for an amendment.")
class RequestAmendmentInput:
    consultation: ConsultationBy = strawberry.field(
        description="This is the consultation of the patient that the request is about."
    )
    part: model.AmendmentPart = strawberry.field(description="This is the part of the record to amend.")
    recording_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="This is the id of the recording to which the part belongs. Every part except RECORD requires it.",
    )
    text: str = strawberry.field(description="This is the text of the request, with 1 to 10,000 characters.")
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.input(
    description="This is a request for an amendment by a patient or a representative that arrived in writing."
)
class RecordAmendmentRequestInput:
    consultation: ConsultationBy = strawberry.field(
        description="This is the consultation that the request is about."
    )
    part: model.AmendmentPart = strawberry.field(description="This is the part of the record to amend.")
    recording_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="This is the id of the recording to which the part belongs. Every part except RECORD requires it.",
    )
    text: str = strawberry.field(description="This is the text of the request, with 1 to 10,000 characters.")
    received_on: date = strawberry.field(
        description=(
            "This is the day on which the practice received the request, at most 90 days ago. The deadline counts from "
            "it."
        )
    )
    is_by_representative: bool = strawberry.field(
        default=False, description="This says whether the patient's representative wrote the request."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.input(description="With this input, a compliance officer extends the deadline of an amendment.")
class ExtendAmendmentInput:
    amendment_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN amendment.")
    reason: ExtensionReason = strawberry.field(description="This says why the practice needs more time.")
    days: int = strawberry.field(
        default=model.MAX_EXTENSION_DAYS, description="The deadline moves by this many days: 1 to 30."
    )


@strawberry.input(description="With this input, a compliance officer accepts an amendment.")
class AcceptAmendmentInput:
    amendment_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN amendment.")
    text: str = strawberry.field(
        description="This is the amendment that is added to the record, with 1 to 10,000 characters."
    )
    persons_to_inform: str | None = strawberry.field(
        default=None,
        description=(
            "This names the persons whom the practice informs of the amendment (45 CFR 164.526(c)(3)), with 1 to 2,000 "
            "characters."
        ),
    )


@strawberry.input(description="With this input, a compliance officer denies an amendment.")
class DenyAmendmentInput:
    amendment_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN amendment.")
    ground: model.AmendmentDenialGround = strawberry.field(description="This is the ground of the denial.")
    text: str = strawberry.field(
        description="This explains the denial to the patient in plain language, with 1 to 10,000 characters."
    )


@strawberry.input(description="With this input, a patient disagrees with a denial.")
class DisputeAmendmentInput:
    amendment_id: strawberry.ID = strawberry.field(description="This is the id of a DENIED amendment.")
    text: str = strawberry.field(
        description="This is the statement of disagreement, with 1 to 10,000 characters."
    )


@strawberry.input(description="With this input, a compliance officer answers a statement of disagreement.")
class RebutAmendmentInput:
    amendment_id: strawberry.ID = strawberry.field(
        description="This is the id of a DENIED amendment with a statement of disagreement."
    )
    text: str = strawberry.field(description="This is the rebuttal, with 1 to 10,000 characters.")


@strawberry.input(
    description="With this input, a patient asks that a request and its denial go with future disclosures."
)
class IncludeAmendmentInput:
    amendment_id: strawberry.ID = strawberry.field(description="This is the id of a DENIED amendment.")


@strawberry.type
class AmendmentPayload:
    """The base of the results of the mutations that change an amendment. The schema does not contain it."""

    amendment: Amendment = strawberry.field(description="This is the amendment after the change.")


@strawberry.type(description="`requestAmendment` returns the new amendment, which is OPEN.")
class RequestAmendmentPayload(AmendmentPayload):
    pass


@strawberry.type(description="`recordAmendmentRequest` returns the new amendment, which is OPEN.")
class RecordAmendmentRequestPayload(AmendmentPayload):
    pass


@strawberry.type(description="`extendAmendment` returns the amendment with its new deadline.")
class ExtendAmendmentPayload(AmendmentPayload):
    pass


@strawberry.type(description="`acceptAmendment` returns the amendment, which is ACCEPTED.")
class AcceptAmendmentPayload(AmendmentPayload):
    pass


@strawberry.type(description="`denyAmendment` returns the amendment, which is DENIED.")
class DenyAmendmentPayload(AmendmentPayload):
    pass


@strawberry.type(description="`disputeAmendment` returns the amendment with the statement of disagreement.")
class DisputeAmendmentPayload(AmendmentPayload):
    pass


@strawberry.type(description="`rebutAmendment` returns the amendment with the rebuttal.")
class RebutAmendmentPayload(AmendmentPayload):
    pass


@strawberry.type(description="`includeAmendment` returns the amendment, which goes with future disclosures.")
class IncludeAmendmentPayload(AmendmentPayload):
    pass


async def amendments(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AmendmentFilter | None = None,
) -> Connection[Amendment] | None:
    """List the amendments that the caller may see, newest first."""
    page = await info.context.services.amendments.page(
        await info.context.asker(),
        page_request(first, after),
        filter.consultation.to_model() if filter and filter.consultation else None,
        select(info, "edges", "node"),
    )
    return Connection.of(page, lambda one: shown(Amendment, one.row), lambda one: one.place)


async def request_amendment(info: Info, input: RequestAmendmentInput) -> RequestAmendmentPayload | None:
    """File a request of the signed-in patient."""
    selection = select(info, "amendment")
    filed = await info.context.services.amendments.request(
        await info.context.asker(),
        model.NewAmendment(
            input.consultation.to_model(),
            input.part,
            parse_id(input.recording_id) if input.recording_id is not None else None,
            input.text,
        ),
        selection,
        idempotency_key=input.idempotency_key,
    )
    return RequestAmendmentPayload(amendment=shown(Amendment, filed))


async def record_amendment_request(
    info: Info, input: RecordAmendmentRequestInput
) -> RecordAmendmentRequestPayload | None:
    """File a request that arrived in writing."""
    filed = await info.context.services.amendments.record(
        await info.context.asker(),
        model.NewAmendment(
            input.consultation.to_model(),
            input.part,
            parse_id(input.recording_id) if input.recording_id is not None else None,
            input.text,
            input.received_on,
            input.is_by_representative,
        ),
        select(info, "amendment"),
        idempotency_key=input.idempotency_key,
    )
    return RecordAmendmentRequestPayload(amendment=shown(Amendment, filed))


async def extend_amendment(info: Info, input: ExtendAmendmentInput) -> ExtendAmendmentPayload | None:
    """Extend the deadline of an amendment."""
    selection = select(info, "amendment")
    changed = await info.context.services.amendments.extend(
        await info.context.asker(),
        parse_id(input.amendment_id),
        input.days,
        input.reason,
        selection,
    )
    return ExtendAmendmentPayload(amendment=shown(Amendment, changed))


async def accept_amendment(info: Info, input: AcceptAmendmentInput) -> AcceptAmendmentPayload | None:
    """Accept an amendment."""
    selection = select(info, "amendment")
    changed = await info.context.services.amendments.accept(
        await info.context.asker(),
        parse_id(input.amendment_id),
        input.text,
        input.persons_to_inform,
        selection,
    )
    return AcceptAmendmentPayload(amendment=shown(Amendment, changed))


async def deny_amendment(info: Info, input: DenyAmendmentInput) -> DenyAmendmentPayload | None:
    """Deny an amendment."""
    selection = select(info, "amendment")
    changed = await info.context.services.amendments.deny(
        await info.context.asker(),
        parse_id(input.amendment_id),
        input.ground,
        input.text,
        selection,
    )
    return DenyAmendmentPayload(amendment=shown(Amendment, changed))


async def dispute_amendment(info: Info, input: DisputeAmendmentInput) -> DisputeAmendmentPayload | None:
    """Add the patient's statement of disagreement."""
    selection = select(info, "amendment")
    changed = await info.context.services.amendments.dispute(
        await info.context.asker(), parse_id(input.amendment_id), input.text, selection
    )
    return DisputeAmendmentPayload(amendment=shown(Amendment, changed))


async def rebut_amendment(info: Info, input: RebutAmendmentInput) -> RebutAmendmentPayload | None:
    """Add the practice's rebuttal."""
    selection = select(info, "amendment")
    changed = await info.context.services.amendments.rebut(
        await info.context.asker(), parse_id(input.amendment_id), input.text, selection
    )
    return RebutAmendmentPayload(amendment=shown(Amendment, changed))


async def include_amendment(info: Info, input: IncludeAmendmentInput) -> IncludeAmendmentPayload | None:
    """Note that the request and the denial go with future disclosures."""
    selection = select(info, "amendment")
    changed = await info.context.services.amendments.include(
        await info.context.asker(), parse_id(input.amendment_id), selection
    )
    return IncludeAmendmentPayload(amendment=shown(Amendment, changed))
