"""GraphQL types and root fields for emergency access."""

from datetime import datetime

import strawberry

from app.emergency_access import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.rows import shown
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is an emergency access (break-glass): for at most one hour, a clinician sees the consultations of a "
        "patient of other doctors, and downloads nothing. The clinician and compliance officers may read it."
    )
)
class EmergencyAccess(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the emergency access.")
    clinician: User = strawberry.field(description="This clinician has the access.")
    patient: Patient = strawberry.field(description="The access is to the consultations of this patient.")
    reason: model.EmergencyReason = strawberry.field(description="The clinician gave this reason.")
    began_at: datetime = strawberry.field(description="The access began at this time.")
    ends_at: datetime = strawberry.field(description="The access is valid until this time.")
    is_active: bool = strawberry.field(description="This says whether the access is valid now.")


@strawberry.input(description="With this input, a clinician gets emergency access to a patient.")
class BreakGlassInput:
    patient_external_id: str = strawberry.field(
        description=(
            "This is the id of the patient in the practice's own system. The patient must not be under the care of the "
            "caller."
        )
    )
    reason: model.EmergencyReason = strawberry.field(
        description="This is the reason, which the audit log and the review case show."
    )


@strawberry.type(description="`breakGlass` returns this payload.")
class BreakGlassPayload:
    emergency_access: EmergencyAccess = strawberry.field(
        description="This is the emergency access, which is valid at once."
    )


async def break_glass(info: Info, input: BreakGlassInput) -> BreakGlassPayload | None:
    """Get emergency access to a patient for one hour."""
    begun = await info.context.services.emergency_access.begin(
        await info.context.asker(), input.patient_external_id, input.reason
    )
    return BreakGlassPayload(emergency_access=shown(EmergencyAccess, begun))


async def emergency_accesses(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[EmergencyAccess] | None:
    """List emergency accesses, newest first. Only compliance officers may list them."""
    page = await info.context.services.emergency_access.page(
        await info.context.asker(), page_request(first, after), select(info, "edges", "node")
    )
    return Connection.of_rows(page)
