"""GraphQL types of access requests (45 CFR 164.524), and the root field that lists them."""

from datetime import date, datetime

import strawberry

from app.access_requests import model
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.texts import Language, access_request_words
from graphql_schema.connections import Connection
from graphql_schema.consents import Representative
from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.problems import AccessExportProblem
from graphql_schema.scalars import BigInt
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is the extension of the 30-day deadline of an access request. Everyone who may read the access "
        "request may read it."
    )
)
class AccessRequestExtension:
    reason: model.ExtensionReason = strawberry.field(
        description="This is the reason for the extension, of which the practice informs the patient."
    )
    extended_at: datetime = strawberry.field(
        description="This is when a compliance officer extended the deadline."
    )


@strawberry.type(
    description=(
        "This is the denial of an access request: its ground, and the patient's right to a review. Everyone "
        "who may read the access request may read it."
    )
)
class AccessDenial:
    ground: model.DenialGround = strawberry.field(description="The request was denied on this ground.")
    determined_by: User | None = strawberry.field(
        description=(
            "This is the professional who determined that harm is likely. The value is null if the ground of "
            "the denial requires no decision by a professional."
        )
    )
    review_asked_at: datetime | None = strawberry.field(
        description="This is when the patient asked for the review. It is null if nobody has asked."
    )
    reviewed_by: User | None = strawberry.field(
        description="This is the clinician who reviewed the denial. It is null before the review."
    )
    reviewed_at: datetime | None = strawberry.field(
        description="This is when the outcome of the review was recorded. It is null before that."
    )
    review_outcome: model.ReviewOutcome | None = strawberry.field(
        description="This is the outcome of the review. It is null before the review."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says whether the patient may ask for a review of the denial."
    )
    def is_reviewable(root: strawberry.Parent[Row]) -> bool:
        return model.DenialGround(root["ground"]).is_reviewable

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "The message says the ground of the denial, and the patient's rights to a review and to a "
            "complaint, in the reader's language."
        )
    )
    def message(root: strawberry.Parent[Row], info: Info) -> str:
        return _denial_text(model.DenialGround(root["ground"]), root["review_outcome"], info.context.language)


@strawberry.type(
    description=(
        "This is the encrypted copy of an access request. Everyone who may read the access request may read "
        "its status. Only the patient gets a URL of it, and only compliance its secret."
    )
)
class AccessExport:
    status: model.ExportStatus = strawberry.field(description="This is the status of the encrypted copy.")
    size_bytes: BigInt | None = strawberry.field(
        description="This is the size of the encrypted copy. The value is null until the copy is READY."
    )
    file_count: int | None = strawberry.field(description="This says how many media files the copy contains.")
    signed_note_count: int | None = strawberry.field(
        description="This says how many signed notes the copy contains."
    )
    missing_file_count: int | None = strawberry.field(
        description=(
            "This says how many media files the encrypted copy lacks because the worker found them missing or "
            "changed. The manifest in the encrypted copy names the files that the copy lacks."
        )
    )
    expires_at: datetime | None = strawberry.field(
        description="This is when the worker deletes the encrypted copy."
    )
    secret_revealed_at: datetime | None = strawberry.field(
        description=(
            "This is when a compliance officer read the secret of the copy, in order to give it to the patient "
            "by telephone or post."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This says why the encrypted copy FAILED. It is null if it did not fail. If compliance approves "
            "the access request again, the worker tries again to make the encrypted copy."
        )
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> AccessExportProblem | None:
        return AccessExportProblem.of(root["problem"], info.context.language)


@strawberry.type(
    description=(
        "This is a request for a copy of a patient's recordings (45 CFR 164.524). The patient and compliance "
        "may read it."
    )
)
class AccessRequest(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the access request, a UUID.")
    patient: Patient = strawberry.field(description="This is the patient whose recordings are requested.")
    consultation: Consultation | None = strawberry.field(
        description=(
            "This is the consultation with the requested recordings. The value null means that the patient "
            "requests all recordings."
        )
    )
    status: model.AccessRequestStatus = strawberry.field(description="This is the status of the request.")
    channel: model.Channel = strawberry.field(
        description="The channel says how the request reached the practice."
    )
    representative: Representative | None = strawberry.field(
        description="This representative filed the request for the patient. It is null if nobody did."
    )
    received_on: date = strawberry.field(
        description="This is the day in UTC on which the practice received the request."
    )
    due_on: date = strawberry.field(
        description=(
            "This is the deadline of the request, as a day in UTC: 30 days after receipt, extended once by at "
            "most 30 days."
        )
    )
    is_overdue: bool = strawberry.field(
        description=(
            "This says whether the deadline has passed and the request is still not decided or fulfilled."
        )
    )
    extension: AccessRequestExtension | None = strawberry.field(
        description="This is the extension of the deadline. It is null if the deadline was not extended."
    )
    decided_at: datetime | None = strawberry.field(
        description="This is when the request was approved or denied. It is null before that."
    )
    denial: AccessDenial | None = strawberry.field(
        description="This is the denial of the request. It is null if the request is not denied."
    )
    export: AccessExport | None = strawberry.field(
        description="The encrypted copy of the recordings, or null before the request is approved."
    )
    fulfilled_at: datetime | None = strawberry.field(
        description="This is when the request was fulfilled. It is null before that."
    )
    created_at: datetime = strawberry.field(description="This is when the request was filed in the API.")


@strawberry.input(
    description=(
        "This filters access requests. A field of the filter that is omitted matches every access request."
    )
)
class AccessRequestFilter:
    statuses: list[model.AccessRequestStatus] | None = strawberry.field(
        default=None,
        description="Selects the requests with one of these statuses. An empty list selects none.",
    )


async def access_requests(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AccessRequestFilter | None = None,
) -> Connection[AccessRequest] | None:
    """List access requests, newest first: the patient's own, or all for compliance."""
    page = await info.context.services.access_requests.page(
        await info.context.asker(),
        page_request(first, after),
        filter.statuses if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


def _denial_text(ground: model.DenialGround, outcome: str | None, language: Language) -> str:
    words = access_request_words(language)
    if outcome == model.ReviewOutcome.REVERSED:
        return words["denial_reversed"]
    if outcome == model.ReviewOutcome.UPHELD:
        review = words["denial_upheld"]
    else:
        review = words["denial_reviewable" if ground.is_reviewable else "denial_unreviewable"]
    return " ".join((words[f"denial_{ground.value}"], review, words["denial_complaint"]))
