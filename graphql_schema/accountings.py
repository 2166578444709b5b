"""GraphQL types and root fields of requests for an accounting of disclosures (45 CFR 164.528)."""

import base64
from datetime import date, datetime

import anyio.to_thread
import strawberry

from app.access_requests.model import ExtensionReason
from app.accountings import files, model
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.access_requests import AccessRequestExtension
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.references import PatientBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is a patient's request for an accounting of disclosures (45 CFR 164.528). The patient and compliance may "
        "read it."
    )
)
class AccountingRequest(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the request, a UUID.")
    patient: Patient = strawberry.field(description="This is the patient who asks for the accounting.")
    status: model.AccountingRequestStatus = strawberry.field(description="This is the status of the request.")
    earliest_date: date = strawberry.field(description="The accounting begins with this day.")
    latest_date: date = strawberry.field(description="The accounting ends with this day.")
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
    is_free: bool = strawberry.field(
        description=(
            "This says whether the request is the patient's first in 12 months, for which the practice must not charge "
            "a fee."
        )
    )
    extension: AccessRequestExtension | None = strawberry.field(
        description="This is the extension of the deadline. It is null if the deadline was not extended."
    )
    issued_by: User | None = strawberry.field(
        description="This officer issued the accounting. It is null before that."
    )
    issued_at: datetime | None = strawberry.field(
        description="This is when the accounting was issued. It is null before that."
    )
    entry_count: int | None = strawberry.field(
        description="This says how many entries the issued accounting has. It is null before that."
    )
    sha256: str | None = strawberry.field(
        description=(
            "This is the SHA-256 of the issued accounting in hex, as the audit log has it in `AuditEvent.digest`. It "
            "is null before that."
        )
    )
    created_at: datetime = strawberry.field(description="This is when the request was filed in the API.")


@strawberry.type(
    description=(
        "This is an accounting of disclosures, as it was issued. Only compliance officers may read it, and they give "
        "it to the patient."
    )
)
class Accounting:
    accounting: strawberry.Private[model.Accounting]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This is the accounting as JSON, byte for byte. The request has its SHA-256."
    )
    def json(self) -> str:
        return self.accounting.file.decode()

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is the accounting as CSV, in the language of the request. A cell that a spreadsheet would take for a "
            "formula begins with an apostrophe."
        )
    )
    async def csv(self, info: Info) -> str:
        return await anyio.to_thread.run_sync(
            files.format_accounting_csv, self.accounting, info.context.language
        )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is the accounting as a PDF in Base64, in the language of the request. It is refused for more than "
            "2,000 entries, and if the font lacks a character of the accounting."
        )
    )
    async def pdf_base64(self, info: Info) -> str:
        document = await anyio.to_thread.run_sync(
            files.render_accounting_pdf, self.accounting, info.context.language
        )
        return base64.b64encode(document).decode()


@strawberry.input(description="This filters requests for an accounting. A field that is omitted matches all.")
class AccountingRequestFilter:
    statuses: list[model.AccountingRequestStatus] | None = strawberry.field(
        default=None,
        description="Selects the requests with one of these statuses. An empty list selects none.",
    )


@strawberry.input(description="With this input, a signed-in patient asks for an accounting.")
class RequestAccountingInput:
    earliest_date: date | None = strawberry.field(
        default=None,
        description="The accounting begins with this day. If it is omitted, it begins six years before today.",
    )
    latest_date: date | None = strawberry.field(
        default=None, description="The accounting ends with this day. If it is omitted, it ends today."
    )


@strawberry.input(description="This is a patient's request for an accounting that arrived in writing.")
class RecordAccountingRequestInput:
    patient: PatientBy = strawberry.field(description="This is the patient who wrote the request.")
    received_on: date = strawberry.field(
        description=(
            "This is the day on which the practice received the request, at most 90 days ago. The deadline counts from "
            "it."
        )
    )
    earliest_date: date | None = strawberry.field(
        default=None,
        description="The accounting begins with this day. If it is omitted, it begins six years before receipt.",
    )
    latest_date: date | None = strawberry.field(
        default=None,
        description="The accounting ends with this day. If it is omitted, it ends on the day of receipt.",
    )


@strawberry.input(description="With this input, a request for an accounting is withdrawn.")
class WithdrawAccountingRequestInput:
    accounting_request_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN request.")


@strawberry.input(description="With this input, a compliance officer extends the deadline of a request.")
class ExtendAccountingRequestInput:
    accounting_request_id: strawberry.ID = strawberry.field(description="This is the id of an OPEN request.")
    reason: ExtensionReason = strawberry.field(description="This says why the practice needs more time.")
    days: int = strawberry.field(
        default=model.MAX_EXTENSION_DAYS, description="The deadline moves by this many days: 1 to 30."
    )


@strawberry.input(description="With this input, a compliance officer issues an accounting.")
class FulfillAccountingRequestInput:
    accounting_request_id: strawberry.ID = strawberry.field(
        description="This is the id of a request that is not withdrawn."
    )


@strawberry.type
class AccountingRequestPayload:
    """The base of the results of the mutations that change a request. The schema does not contain it."""

    accounting_request: AccountingRequest = strawberry.field(
        description="This is the request after the change."
    )


@strawberry.type(
    description="`requestAccounting` returns the new request, or the patient's request that is already OPEN."
)
class RequestAccountingPayload(AccountingRequestPayload):
    pass


@strawberry.type(
    description=(
        "`recordAccountingRequest` returns the new request, or the patient's request that is already OPEN."
    )
)
class RecordAccountingRequestPayload(AccountingRequestPayload):
    pass


@strawberry.type(description="`withdrawAccountingRequest` returns the request, which is WITHDRAWN.")
class WithdrawAccountingRequestPayload(AccountingRequestPayload):
    pass


@strawberry.type(description="`extendAccountingRequest` returns the request with its new deadline.")
class ExtendAccountingRequestPayload(AccountingRequestPayload):
    pass


@strawberry.type(
    description="`fulfillAccountingRequest` returns the request, which is FULFILLED, and the accounting."
)
class FulfillAccountingRequestPayload(AccountingRequestPayload):
    accounting: Accounting = strawberry.field(description="This is the accounting that the patient gets.")


async def accounting_requests(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AccountingRequestFilter | None = None,
) -> Connection[AccountingRequest] | None:
    """List the requests for an accounting, newest first: the patient's own, or all for compliance."""
    page = await info.context.services.accountings.page(
        await info.context.asker(),
        page_request(first, after),
        filter.statuses if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def request_accounting(info: Info, input: RequestAccountingInput) -> RequestAccountingPayload | None:
    """File a request of the signed-in patient."""
    filed = await info.context.services.accountings.file(
        await info.context.asker(),
        input.earliest_date,
        input.latest_date,
        select(info, "accountingRequest"),
    )
    return RequestAccountingPayload(accounting_request=shown(AccountingRequest, filed))


async def record_accounting_request(
    info: Info, input: RecordAccountingRequestInput
) -> RecordAccountingRequestPayload | None:
    """File a request that arrived in writing."""
    filed = await info.context.services.accountings.file_written(
        await info.context.asker(),
        input.patient.to_model(),
        input.received_on,
        input.earliest_date,
        input.latest_date,
        select(info, "accountingRequest"),
    )
    return RecordAccountingRequestPayload(accounting_request=shown(AccountingRequest, filed))


async def withdraw_accounting_request(
    info: Info, input: WithdrawAccountingRequestInput
) -> WithdrawAccountingRequestPayload | None:
    """Withdraw a request."""
    withdrawn = await info.context.services.accountings.withdraw(
        await info.context.asker(), parse_id(input.accounting_request_id), select(info, "accountingRequest")
    )
    return WithdrawAccountingRequestPayload(accounting_request=shown(AccountingRequest, withdrawn))


async def extend_accounting_request(
    info: Info, input: ExtendAccountingRequestInput
) -> ExtendAccountingRequestPayload | None:
    """Extend the deadline of a request."""
    extended = await info.context.services.accountings.extend(
        await info.context.asker(),
        parse_id(input.accounting_request_id),
        input.days,
        input.reason,
        select(info, "accountingRequest"),
    )
    return ExtendAccountingRequestPayload(accounting_request=shown(AccountingRequest, extended))


async def fulfill_accounting_request(
    info: Info, input: FulfillAccountingRequestInput
) -> FulfillAccountingRequestPayload | None:
    """Issue the accounting of a request."""
    request, accounting = await info.context.services.accountings.issue(
        await info.context.asker(), parse_id(input.accounting_request_id), select(info, "accountingRequest")
    )
    return FulfillAccountingRequestPayload(
        accounting_request=shown(AccountingRequest, request), accounting=Accounting(accounting=accounting)
    )
