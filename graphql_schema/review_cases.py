"""GraphQL types and root fields for review cases."""

from datetime import datetime
from typing import Annotated

import strawberry

from app.audit.model import Outcome
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.review import model
from graphql_schema.connections import Connection, nested_page
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.references import DateTimeRangeInput
from graphql_schema.root_fields import ARGUMENTS
from graphql_schema.rows import shown
from graphql_schema.scalars import BigInt, parse_id, parse_optional_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is an audit event that a review case lists. It contains ids and no values. `auditEvents` shows all "
        "details of the event."
    )
)
class ReviewCaseEvent(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the audit event.")
    recorded_at: datetime = strawberry.field(
        description="This is when the event was recorded, by the database's clock."
    )
    occurred_at: datetime | None = strawberry.field(
        description=(
            "This is when the event happened, by the clock of the service that reported it. It is null for an "
            "event that Resguardo recorded itself."
        )
    )
    actor: User | None = strawberry.field(
        description="This is the person who acted. It is null if a service acted or the event was redacted."
    )
    action: str = strawberry.field(description="This names the action, such as `recording.read`.")
    outcome: Outcome = strawberry.field(description="This is the result of the action.")
    reason: str | None = strawberry.field(
        description="This is the code of the reason for the outcome. It is null if there is none."
    )
    basis: str = strawberry.field(description="This says why the person had access, as in `auditEvents`.")
    address: str | None = strawberry.field(
        description="The request came from this network address. It is null for a service."
    )
    patient_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of those patients of the event that the case names in `patientIds`."
    )
    consultation_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of those consultations of the event that the case names."
    )


@strawberry.type(
    description=(
        "This is a review case: activity in the audit log that a rule found, and that an officer must review (45 CFR "
        "164.308(a)(1)(ii)(D)). A rule opens one case for each subject and day. Compliance officers may read all "
        "cases except those about their own activity."
    )
)
class ReviewCase(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the case, a UUID.")
    rule: model.ReviewRule = strawberry.field(description="This rule opened the case.")
    subject: User | None = strawberry.field(
        description=(
            "This is the member of staff whose activity the case is about. It is null if the case is about no member "
            "of staff."
        )
    )
    status: model.ReviewCaseStatus = strawberry.field(description="This is the status of the case.")
    event_count: BigInt = strawberry.field(
        description=(
            "This is the number of events that the case is about. The case lists only `listedEventCount` of these "
            "events."
        )
    )
    listed_event_count: int = strawberry.field(
        description="This is the number of events that the case lists, at most 1,000."
    )
    patient_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of the patients whom the events concern, at most 100."
    )
    consultation_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of the consultations that the events concern, at most 100."
    )
    has_more_patients: bool = strawberry.field(
        description="This says whether the events concern further patients or consultations."
    )
    first_event_at: datetime | None = strawberry.field(
        description="This is when the earliest event was recorded. It is null if the case has no event."
    )
    last_event_at: datetime | None = strawberry.field(
        description="This is when the latest event was recorded. It is null if the case has no event."
    )
    opened_at: datetime = strawberry.field(description="This is when the case was opened.")
    assigned_to: User | None = strawberry.field(
        description="This is the officer to whom the case is assigned. It is null if the case is not assigned."
    )
    disposition: model.Disposition | None = strawberry.field(
        description="This is the category of the decision. It is null while the case is OPEN."
    )
    disposition_text: str | None = strawberry.field(
        description="This is what the officer found. It is null while the case is OPEN."
    )
    decided_by: User | None = strawberry.field(
        description="This is the officer who decided the case. It is null while the case is OPEN."
    )
    decided_at: datetime | None = strawberry.field(
        description="This is when the officer decided the case. It is null while the case is OPEN."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the events that the case lists, in pages of at most 25, newest first. No page can be "
            "nested in this page again."
        )
    )
    def events(
        root: strawberry.Parent[Row],
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="The page has at most this many events, from 1 to 25.")
        ] = DEFAULT_PAGE_SIZE,
        after: Annotated[str | None, strawberry.argument(description=ARGUMENTS["after"])] = None,
    ) -> Connection[ReviewCaseEvent]:
        return Connection.of_rows(nested_page(root, "events", first, after))


@strawberry.input(
    description="This filters review cases. A field of the filter that is omitted matches every case."
)
class ReviewCaseFilter:
    statuses: list[model.ReviewCaseStatus] | None = strawberry.field(
        default=None,
        description="Selects the cases with one of these statuses. An empty list selects none.",
    )
    rules: list[model.ReviewRule] | None = strawberry.field(
        default=None,
        description="Selects the cases that one of these rules opened. An empty list selects none.",
    )
    subject_id: strawberry.ID | None = strawberry.field(
        default=None, description="Selects the cases about this member of staff, whose user id it is."
    )
    assigned_to_id: strawberry.ID | None = strawberry.field(
        default=None, description="Selects the cases that are assigned to this officer, whose user id it is."
    )
    opened_during: DateTimeRangeInput | None = strawberry.field(
        default=None, description="Selects the cases that were opened in this range of time."
    )

    def to_model(self) -> model.ReviewCaseFilter:
        return model.ReviewCaseFilter(
            statuses=None if self.statuses is None else tuple(self.statuses),
            rules=None if self.rules is None else tuple(self.rules),
            subject_id=parse_optional_id(self.subject_id),
            assigned_to=parse_optional_id(self.assigned_to_id),
            opened=(self.opened_during or DateTimeRangeInput()).to_model(),
        )


@strawberry.input(description="With this input, an officer records the disposition of a review case.")
class RecordDispositionInput:
    review_case_id: strawberry.ID = strawberry.field(
        description="This is the id of an open case that is not about the caller's own activity."
    )
    disposition: model.Disposition = strawberry.field(description="This is the category of the decision.")
    text: str = strawberry.field(
        description=(
            "This says what the officer found, in 1 to 2,000 characters. It must name no patient: the case has the "
            "ids of the patients."
        )
    )


@strawberry.type(description="`recordDisposition` returns this payload.")
class RecordDispositionPayload:
    review_case: ReviewCase = strawberry.field(description="This is the case, which is decided.")


@strawberry.input(description="With this input, an officer assigns a review case.")
class AssignReviewCaseInput:
    review_case_id: strawberry.ID = strawberry.field(
        description="This is the id of an open case that is not about the caller's own activity."
    )
    officer_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the user id of an active compliance officer who is not the subject of the case. If it is "
            "omitted, the case is assigned to nobody."
        ),
    )


@strawberry.type(description="`assignReviewCase` returns this payload.")
class AssignReviewCasePayload:
    review_case: ReviewCase = strawberry.field(description="This is the case, with its new officer.")


async def review_cases(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: ReviewCaseFilter | None = None,
) -> Connection[ReviewCase] | None:
    """List the review cases that the caller may see, newest first."""
    page = await info.context.services.review_cases.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or ReviewCaseFilter()).to_model(),
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def review_case(
    info: Info,
    review_case_id: Annotated[
        strawberry.ID, strawberry.argument(description="The case has this id, a UUID.")
    ],
) -> ReviewCase | None:
    """Read one review case."""
    found = await info.context.services.review_cases.read(
        await info.context.asker(), parse_id(review_case_id), select(info)
    )
    return shown(ReviewCase, found)


async def record_disposition(info: Info, input: RecordDispositionInput) -> RecordDispositionPayload | None:
    """Record the disposition of a review case."""
    decided = await info.context.services.review_cases.record_disposition(
        await info.context.asker(),
        parse_id(input.review_case_id),
        input.disposition,
        input.text,
        select(info, "reviewCase"),
    )
    return RecordDispositionPayload(review_case=shown(ReviewCase, decided))


async def assign_review_case(info: Info, input: AssignReviewCaseInput) -> AssignReviewCasePayload | None:
    """Assign a review case to an officer, or to nobody."""
    assigned = await info.context.services.review_cases.assign(
        await info.context.asker(),
        parse_id(input.review_case_id),
        parse_optional_id(input.officer_id),
        select(info, "reviewCase"),
    )
    return AssignReviewCasePayload(review_case=shown(ReviewCase, assigned))
