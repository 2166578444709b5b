"""GraphQL types and root fields for the register of business associate agreements."""

from datetime import date, datetime

import strawberry

from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.vendor_agreements import model
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.rows import shown
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is an entry of the register of business associate agreements (45 CFR 164.308(b)). The newest entry of a "
        "service is in force. Compliance officers may read it."
    )
)
class VendorAgreement(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the entry, a UUID.")
    service: model.VendorService = strawberry.field(description="This is the service that receives PHI.")
    vendor: str = strawberry.field(description="This is the name of the company that runs the service.")
    basis: model.AgreementBasis = strawberry.field(description="This says why PHI may be in the service.")
    version: str = strawberry.field(description="This is the version of the agreement that was signed.")
    signatory: str = strawberry.field(description="This person signed the agreement for the practice.")
    signed_on: date = strawberry.field(description="This is the day on which the agreement was signed.")
    expires_on: date | None = strawberry.field(
        description="This is the last day of the agreement. It is null if the agreement has no end."
    )
    recorded_at: datetime = strawberry.field(description="This is when the entry was recorded.")
    recorded_by: User | None = strawberry.field(
        description="This officer recorded the entry. It is null if the owner recorded it with a command."
    )


@strawberry.input(
    description="This filters entries. A field of the filter that is omitted matches every entry."
)
class VendorAgreementFilter:
    services: list[model.VendorService] | None = strawberry.field(
        default=None, description="Selects the entries of one of these services. An empty list selects none."
    )


@strawberry.input(description="With this input, a compliance officer records a business associate agreement.")
class RecordVendorAgreementInput:
    service: model.VendorService = strawberry.field(description="This is the service that receives PHI.")
    vendor: str = strawberry.field(
        description="This is the name of the company that runs the service, in at most 200 characters."
    )
    basis: model.AgreementBasis = strawberry.field(
        default=model.AgreementBasis.AGREEMENT, description="This says why PHI may be in the service."
    )
    version: str = strawberry.field(
        description="This is the version of the agreement that was signed, in at most 200 characters."
    )
    signatory: str = strawberry.field(
        description="This person signed the agreement for the practice. The name has at most 200 characters."
    )
    signed_on: date = strawberry.field(
        description="This is the day on which the agreement was signed, today or earlier."
    )
    expires_on: date | None = strawberry.field(
        default=None,
        description=(
            "This is the last day of the agreement. It is null if the agreement has no end. To end an agreement "
            "earlier, an officer records it again with another last day."
        ),
    )


@strawberry.type(
    description="`recordVendorAgreement` returns the entry, which is now in force for its service."
)
class RecordVendorAgreementPayload:
    vendor_agreement: VendorAgreement = strawberry.field(
        description="This is the entry, which nobody can change."
    )


async def vendor_agreements(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: VendorAgreementFilter | None = None,
) -> Connection[VendorAgreement] | None:
    """List the entries of the register, newest first."""
    page = await info.context.services.vendor_agreements.page(
        await info.context.asker(),
        page_request(first, after),
        filter.services if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def record_vendor_agreement(
    info: Info, input: RecordVendorAgreementInput
) -> RecordVendorAgreementPayload | None:
    """Record a business associate agreement."""
    made = await info.context.services.vendor_agreements.record(
        await info.context.asker(),
        model.NewAgreement(
            service=input.service,
            vendor=input.vendor,
            version=input.version,
            signatory=input.signatory,
            signed_on=input.signed_on,
            expires_on=input.expires_on,
            basis=input.basis,
        ),
        select(info, "vendorAgreement"),
    )
    return RecordVendorAgreementPayload(vendor_agreement=shown(VendorAgreement, made))
