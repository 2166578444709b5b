"""GraphQL types and root fields for access requests (45 CFR 164.524)."""

from datetime import date, datetime
from typing import Self

import strawberry

from app.access_requests import model
from app.access_requests.service import AccessRequests
from app.consents.model import Relationship
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.texts import Language, access_request_words
from graphql_schema.connections import Connection
from graphql_schema.consents import Representative, RepresentativeInput
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User, to_user
from graphql_schema.problems import AccessExportProblem
from graphql_schema.references import ConsultationBy, PatientBy
from graphql_schema.scalars import BigInt, Url, big, parse_id, parse_optional_id, to_id, to_optional_id
from graphql_schema.selected_fields import selected


@strawberry.type(description="The extension of the 30-day deadline of an access request.")
class AccessRequestExtension:
    reason: model.ExtensionReason = strawberry.field(
        description="The reason for the extension, of which the practice informs the patient."
    )
    extended_at: datetime = strawberry.field(description="When a compliance officer extended the deadline.")


@strawberry.type(
    description="The denial of an access request: its ground, and the patient's right to a review."
)
class AccessDenial:
    ground: model.DenialGround = strawberry.field(description="The ground on which the request was denied.")
    is_reviewable: bool = strawberry.field(
        description="Whether the patient may ask for a review of the denial."
    )
    determined_by: User | None = strawberry.field(
        description=(
            "The professional who determined that harm is likely. The value is "
            "null if the ground of the denial requires no decision by a professional."
        )
    )
    review_asked_at: datetime | None = strawberry.field(
        description="When the patient asked for the review. The value is null if nobody has asked."
    )
    reviewed_by: User | None = strawberry.field(
        description="The clinician who reviewed the denial, or null before the review."
    )
    reviewed_at: datetime | None = strawberry.field(
        description="When the outcome of the review was recorded, or null before that."
    )
    review_outcome: model.ReviewOutcome | None = strawberry.field(
        description="The outcome of the review, or null before the review."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "The denial as a text in the reader's language: its ground, and the patient's rights to a "
            "review and to a complaint."
        )
    )
    def message(self, info: Info) -> str:
        return _denial_text(self.ground, self.review_outcome, info.context.language)


@strawberry.type(description="The encrypted copy of an access request.")
class AccessExport:
    status: model.ExportStatus = strawberry.field(description="The status of the encrypted copy.")
    size_bytes: BigInt | None = strawberry.field(
        description="The size of the encrypted copy. The value is null until the copy is READY."
    )
    file_count: int | None = strawberry.field(description="How many media files the copy contains.")
    missing_file_count: int | None = strawberry.field(
        description=(
            "How many media files the encrypted copy lacks because the worker found them missing "
            "or changed. The manifest in the encrypted copy names the files that the copy lacks."
        )
    )
    expires_at: datetime | None = strawberry.field(description="When the worker deletes the encrypted copy.")
    secret_revealed_at: datetime | None = strawberry.field(
        description=(
            "When a compliance officer read the secret of the copy, in order to give it to the "
            "patient by telephone or post."
        )
    )
    stored_problem: strawberry.Private[str | None]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "Why the encrypted copy FAILED, or null. If compliance approves the access request again, the worker "
            "tries again to make the encrypted copy."
        )
    )
    def problem(self, info: Info) -> AccessExportProblem | None:
        return AccessExportProblem.of(self.stored_problem, info.context.language)


@strawberry.type(
    description=("A request for a copy of a patient's recordings. The patient and compliance may read it.")
)
class AccessRequest(Node):
    id: strawberry.ID = strawberry.field(description="The id of the access request, a UUID.")
    patient_id: strawberry.ID = strawberry.field(
        description="The id of the patient whose recordings are requested."
    )
    consultation_id: strawberry.ID | None = strawberry.field(
        description=(
            "The consultation with the requested recordings. The value null means that the patient "
            "requests all recordings."
        )
    )
    status: model.AccessRequestStatus = strawberry.field(description="The status of the request.")
    channel: model.Channel = strawberry.field(description="How the request reached the practice.")
    representative: Representative | None = strawberry.field(
        description="The representative who filed the request for the patient, or null."
    )
    received_on: date = strawberry.field(
        description="The day in UTC on which the practice received the request."
    )
    due_on: date = strawberry.field(
        description=(
            "The deadline of the request, as a day in UTC: 30 days after receipt, extended once by at "
            "most 30 days."
        )
    )
    is_overdue: bool = strawberry.field(
        description="Whether the deadline has passed and the request is still not decided or fulfilled."
    )
    extension: AccessRequestExtension | None = strawberry.field(
        description="The extension of the deadline, or null if it was not extended."
    )
    decided_at: datetime | None = strawberry.field(
        description="When the request was approved or denied, or null before that."
    )
    denial: AccessDenial | None = strawberry.field(
        description="The denial of the request, or null if it is not denied."
    )
    export: AccessExport | None = strawberry.field(
        description="The encrypted copy of the recordings, or null before the request is approved."
    )
    fulfilled_at: datetime | None = strawberry.field(
        description="When the request was fulfilled, or null before that."
    )
    created_at: datetime = strawberry.field(description="When the request was filed in the API.")

    @classmethod
    def of(cls, request: model.AccessRequest) -> Self:
        return cls(
            id=to_id(request.id),
            patient_id=to_id(request.patient_id),
            consultation_id=to_optional_id(request.consultation_id),
            status=request.status,
            channel=request.channel,
            representative=_representative(request.representative_relationship, request.representative_name),
            received_on=request.received_on,
            due_on=request.due_on,
            is_overdue=request.is_overdue,
            extension=_extension(request),
            decided_at=request.decided_at,
            denial=_denial(request),
            export=_export(request),
            fulfilled_at=request.fulfilled_at,
            created_at=request.created_at,
        )


@strawberry.type(
    description=(
        "A presigned URL of the encrypted copy of an access request. The practice gives the "
        "patient the secret of the copy by telephone or post."
    )
)
class AccessExportUrl:
    url: Url = strawberry.field(description="The presigned URL, which is a secret.")
    expires_at: datetime = strawberry.field(description="The time until which the URL is valid.")
    expires_in_seconds: int = strawberry.field(
        description="How many seconds the URL is valid from now on, for clients whose clock is wrong."
    )
    instructions: str = strawberry.field(
        description="Instructions for opening the copy, in the reader's language."
    )


@strawberry.input(description="An access request that a signed-in patient files.")
class RequestAccessInput:
    consultation: ConsultationBy | None = strawberry.field(
        default=None,
        description=(
            "The consultation with the requested recordings. If `consultation` is omitted, the patient "
            "requests all recordings."
        ),
    )
    representative: RepresentativeInput | None = strawberry.field(
        default=None,
        description=(
            "The representative who files the request for the patient, if the patient does not file "
            "it in person."
        ),
    )


@strawberry.input(description="A patient's access request that arrived in writing.")
class RecordAccessRequestInput:
    patient: PatientBy = strawberry.field(description="The patient who wrote the request.")
    received_on: date = strawberry.field(
        description=(
            "The day on which the practice received the request, at most 60 days ago. The "
            "deadline of 30 days for the access request counts from the day of receipt."
        )
    )
    consultation: ConsultationBy | None = strawberry.field(
        default=None,
        description=(
            "The consultation with the requested recordings. If `consultation` is omitted, the patient "
            "requests all recordings."
        ),
    )
    representative: RepresentativeInput | None = strawberry.field(
        default=None, description="The representative who wrote the request for the patient."
    )


def _representative(relationship: Relationship | None, name: str | None) -> Representative | None:
    return Representative(relationship=relationship, name=name) if relationship and name else None


def _extension(request: model.AccessRequest) -> AccessRequestExtension | None:
    reason, at = request.extension_reason, request.extended_at
    return AccessRequestExtension(reason=reason, extended_at=at) if reason and at else None


def _denial(request: model.AccessRequest) -> AccessDenial | None:
    if request.denial_ground is None:
        return None
    return AccessDenial(
        ground=request.denial_ground,
        is_reviewable=request.denial_ground.is_reviewable,
        determined_by=to_user(request.determined_by),
        review_asked_at=request.review_asked_at,
        reviewed_by=to_user(request.reviewed_by),
        reviewed_at=request.reviewed_at,
        review_outcome=request.review_outcome,
    )


def _export(request: model.AccessRequest) -> AccessExport | None:
    if request.export_status is None:
        return None
    return AccessExport(
        status=request.export_status,
        stored_problem=request.export_error,
        size_bytes=big(request.export_size_bytes),
        file_count=request.export_recordings,
        missing_file_count=request.export_missing,
        expires_at=request.export_expires_at,
        secret_revealed_at=request.secret_revealed_at,
    )


def _denial_text(ground: model.DenialGround, outcome: model.ReviewOutcome | None, language: Language) -> str:
    words = access_request_words(language)
    if outcome is model.ReviewOutcome.REVERSED:
        return words["denial_reversed"]
    if outcome is model.ReviewOutcome.UPHELD:
        review = words["denial_upheld"]
    else:
        review = words["denial_reviewable" if ground.is_reviewable else "denial_unreviewable"]
    return " ".join((words[f"denial_{ground.value}"], review, words["denial_complaint"]))


@strawberry.input(
    description="A filter for access requests. A filter field that is omitted matches every access request."
)
class AccessRequestFilter:
    statuses: list[model.AccessRequestStatus] | None = strawberry.field(
        default=None,
        description="Selects the requests with one of these statuses. An empty list selects all requests.",
    )


def _service(info: Info) -> AccessRequests:
    return info.context.services.access_requests


def _place(request: model.AccessRequest) -> Cursor:
    return Cursor(request.created_at, request.id)


async def access_requests(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AccessRequestFilter | None = None,
) -> Connection[AccessRequest] | None:
    """List access requests, newest first: the patient's own, or all for compliance."""
    page = await _service(info).page(
        await info.context.asker(),
        page_request(first, after),
        tuple(filter.statuses or ()) if filter else (),
        selected(info, "edges", "node"),
    )
    return Connection.of(page, AccessRequest.of, _place)


@strawberry.type(description="The result of `requestAccess`.")
class RequestAccessPayload:
    access_request: AccessRequest = strawberry.field(description="The access request, which is OPEN.")


@strawberry.type(description="The result of `recordAccessRequest`.")
class RecordAccessRequestPayload:
    access_request: AccessRequest = strawberry.field(description="The access request, which is OPEN.")


@strawberry.input(description="The input with which an access request is withdrawn.")
class WithdrawAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of an open access request, which the patient filed or a compliance officer entered."
    )


@strawberry.type(description="The result of `withdrawAccessRequest`.")
class WithdrawAccessRequestPayload:
    access_request: AccessRequest = strawberry.field(description="The access request, which is WITHDRAWN.")


@strawberry.input(description="The input with which a compliance officer approves an access request.")
class ApproveAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of an OPEN access request, or of an approved one without an encrypted copy."
    )


@strawberry.type(description="The result of `approveAccessRequest`.")
class ApproveAccessRequestPayload:
    access_request: AccessRequest = strawberry.field(description="The access request, which is APPROVED.")


@strawberry.input(description="The input with which a compliance officer denies an access request.")
class DenyAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(description="The id of an OPEN access request.")
    ground: model.DenialGround = strawberry.field(
        description="The ground of the denial in 45 CFR 164.524(a)."
    )
    determined_by_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "The user id of the clinician who determined that harm is likely. A reviewable ground needs the "
            "clinician, and every other ground must have none."
        ),
    )


@strawberry.type(description="The result of `denyAccessRequest`.")
class DenyAccessRequestPayload:
    access_request: AccessRequest = strawberry.field(description="The access request, which is DENIED.")


@strawberry.input(
    description="The input with which a compliance officer extends the deadline of an access request."
)
class ExtendAccessRequestInput:
    access_request_id: strawberry.ID = strawberry.field(description="The id of an OPEN access request.")
    reason: model.ExtensionReason = strawberry.field(description="Why the practice needs more time.")
    days: int = strawberry.field(
        default=model.MAX_EXTENSION_DAYS, description="By how many days the deadline moves: 1 to 30."
    )


@strawberry.type(description="The result of `extendAccessRequest`.")
class ExtendAccessRequestPayload:
    access_request: AccessRequest = strawberry.field(description="The access request with its new deadline.")


@strawberry.input(description="The input with which the review of a denied access request is asked for.")
class AskAccessReviewInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of an access request that was DENIED on a reviewable ground."
    )


@strawberry.type(description="The result of `askAccessReview`.")
class AskAccessReviewPayload:
    access_request: AccessRequest = strawberry.field(
        description="The access request, which is OPEN until the outcome of the review is recorded."
    )


@strawberry.input(description="The input with which a compliance officer records the outcome of a review.")
class RecordAccessReviewInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of a denied access request whose review was asked for."
    )
    reviewer_id: strawberry.ID = strawberry.field(
        description="The user id of the clinician who reviewed the denial, and who took no part in it."
    )
    outcome: model.ReviewOutcome = strawberry.field(description="The outcome of the review.")


@strawberry.type(description="The result of `recordAccessReview`.")
class RecordAccessReviewPayload:
    access_request: AccessRequest = strawberry.field(
        description="The access request with the outcome of the review."
    )


@strawberry.input(description="The input with which a patient gets a URL of the encrypted copy.")
class IssueAccessExportUrlInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of the patient's own access request, whose encrypted copy is READY."
    )


@strawberry.type(description="The result of `issueAccessExportUrl`.")
class IssueAccessExportUrlPayload:
    access_export_url: AccessExportUrl = strawberry.field(
        description="The URL of the encrypted copy, for a few minutes."
    )


@strawberry.input(
    description="The input with which a compliance officer reads the secret of an encrypted copy."
)
class RevealAccessExportSecretInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="The id of an access request whose encrypted copy is READY."
    )


@strawberry.type(description="The result of `revealAccessExportSecret`.")
class RevealAccessExportSecretPayload:
    secret: str = strawberry.field(
        description=(
            "The secret that opens the encrypted copy, which consists of twenty letters and digits, and four "
            "hyphens. The API returns the secret only once, and then erases it."
        )
    )


async def request_access(info: Info, input: RequestAccessInput) -> RequestAccessPayload | None:
    """File an access request for the signed-in patient."""
    filed = await _service(info).file(
        await info.context.asker(),
        input.consultation.to_model() if input.consultation else None,
        input.representative.to_model() if input.representative else None,
    )
    return RequestAccessPayload(access_request=AccessRequest.of(filed))


async def record_access_request(
    info: Info, input: RecordAccessRequestInput
) -> RecordAccessRequestPayload | None:
    """File an access request that arrived in writing."""
    filed = await _service(info).file_written(
        await info.context.asker(),
        input.patient.to_model(),
        input.consultation.to_model() if input.consultation else None,
        input.received_on,
        input.representative.to_model() if input.representative else None,
    )
    return RecordAccessRequestPayload(access_request=AccessRequest.of(filed))


async def withdraw_access_request(
    info: Info, input: WithdrawAccessRequestInput
) -> WithdrawAccessRequestPayload | None:
    """Withdraw the patient's own request or, for compliance, a written one. After the withdrawal of an access
    request, its recordings may be destroyed.
    """
    withdrawn = await _service(info).withdraw(await info.context.asker(), parse_id(input.access_request_id))
    return WithdrawAccessRequestPayload(access_request=AccessRequest.of(withdrawn))


async def approve_access_request(
    info: Info, input: ApproveAccessRequestInput
) -> ApproveAccessRequestPayload | None:
    """Approve an access request and queue the job that makes its encrypted copy."""
    approved = await _service(info).approve(await info.context.asker(), parse_id(input.access_request_id))
    return ApproveAccessRequestPayload(access_request=AccessRequest.of(approved))


async def deny_access_request(info: Info, input: DenyAccessRequestInput) -> DenyAccessRequestPayload | None:
    """Deny an access request on a ground of 45 CFR 164.524(a)."""
    denied = await _service(info).deny(
        await info.context.asker(),
        parse_id(input.access_request_id),
        input.ground,
        parse_optional_id(input.determined_by_id),
    )
    return DenyAccessRequestPayload(access_request=AccessRequest.of(denied))


async def extend_access_request(
    info: Info, input: ExtendAccessRequestInput
) -> ExtendAccessRequestPayload | None:
    """Extend the deadline of an access request."""
    extended = await _service(info).extend(
        await info.context.asker(), parse_id(input.access_request_id), input.days, input.reason
    )
    return ExtendAccessRequestPayload(access_request=AccessRequest.of(extended))


async def ask_access_review(info: Info, input: AskAccessReviewInput) -> AskAccessReviewPayload | None:
    """Ask for the review of a denial, for the patient or, after a written request, for compliance."""
    asked = await _service(info).ask_review(await info.context.asker(), parse_id(input.access_request_id))
    return AskAccessReviewPayload(access_request=AccessRequest.of(asked))


async def record_access_review(
    info: Info, input: RecordAccessReviewInput
) -> RecordAccessReviewPayload | None:
    """Record the outcome of a review in which another professional examined the denial of an access request."""
    reviewed = await _service(info).record_review(
        await info.context.asker(),
        parse_id(input.access_request_id),
        parse_id(input.reviewer_id),
        input.outcome,
    )
    return RecordAccessReviewPayload(access_request=AccessRequest.of(reviewed))


async def issue_access_export_url(
    info: Info, input: IssueAccessExportUrlInput
) -> IssueAccessExportUrlPayload | None:
    """Issue a URL that downloads the encrypted copy of an access request for a few minutes."""
    issued = await _service(info).issue_url(await info.context.asker(), parse_id(input.access_request_id))
    return IssueAccessExportUrlPayload(
        access_export_url=AccessExportUrl(
            url=Url(issued.url),
            expires_at=issued.expires_at,
            expires_in_seconds=issued.expires_in_seconds,
            instructions=access_request_words(info.context.language)["how_to_open"],
        )
    )


async def reveal_access_export_secret(
    info: Info, input: RevealAccessExportSecretInput
) -> RevealAccessExportSecretPayload | None:
    """Reveal once the secret that opens the encrypted copy of an access request."""
    secret = await _service(info).reveal_secret(await info.context.asker(), parse_id(input.access_request_id))
    return RevealAccessExportSecretPayload(secret=secret)
