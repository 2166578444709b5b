"""GraphQL types and root fields for legal holds."""

from datetime import datetime

import strawberry

from app.holds import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.connections import Connection
from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is a legal hold: a compliance officer's order that certain recordings must not be destroyed. A "
        "hold covers the recordings of a consultation, of a patient, or of a range of time. Only compliance "
        "officers may read holds."
    )
)
class LegalHold(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the legal hold, a UUID.")
    consultation: Consultation | None = strawberry.field(
        description=(
            "This is the consultation whose recordings are held. It is null for a hold with a different scope."
        )
    )
    patient: Patient | None = strawberry.field(
        description=(
            "This is the patient whose recordings are held. It is null for a hold with a different scope."
        )
    )
    recorded_from: datetime | None = strawberry.field(
        description=(
            "This is the start of the range of held recordings, inclusive. The value is null for a hold with a "
            "different scope."
        )
    )
    recorded_until: datetime | None = strawberry.field(
        description="This is the end of the range of recordings that the hold covers, exclusive."
    )
    matter: str = strawberry.field(
        description="This is the legal matter of the hold, which names no patient."
    )
    custodian: str = strawberry.field(description="This is the custodian who is responsible for the hold.")
    placed_by: User = strawberry.field(description="This is the compliance officer who placed the hold.")
    placed_at: datetime = strawberry.field(description="This is when the hold was placed.")
    released_by: User | None = strawberry.field(
        description=(
            "This is the compliance officer who released the hold. It is null while the hold is active."
        )
    )
    released_at: datetime | None = strawberry.field(
        description="This is when the hold was released. It is null while the hold is active."
    )
    is_active: bool = strawberry.field(description="This says whether the hold is in force now.")


@strawberry.input(one_of=True, description="The scope of a legal hold is exactly one of three.")
class LegalHoldScopeInput:
    consultation: ConsultationBy | None = strawberry.field(
        default=strawberry.UNSET, description="The hold covers the recordings of this consultation."
    )
    patient: PatientBy | None = strawberry.field(
        default=strawberry.UNSET, description="The hold covers the recordings of this patient."
    )
    recorded_during: DateTimeRangeInput | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "The hold covers the recordings that were made in this range of time. A hold needs both the start "
            "and the end of the range."
        ),
    )

    def to_model(self) -> model.Scope:
        if self.consultation:
            return self.consultation.to_model()
        if self.patient:
            return self.patient.to_model()
        return (self.recorded_during or DateTimeRangeInput()).to_model()


@strawberry.input(description="With this input, a compliance officer places a legal hold.")
class PlaceLegalHoldInput:
    scope: LegalHoldScopeInput = strawberry.field(
        description=(
            "The recordings of this scope must not be destroyed, including the recordings of the scope that "
            "are made later."
        )
    )
    matter: str = strawberry.field(
        description=(
            "This is the legal matter of the hold, in 1 to 200 characters and without any patient's name."
        )
    )
    custodian: str = strawberry.field(
        description="This is the custodian who is responsible for the hold, in 1 to 200 characters."
    )

    def to_model(self) -> model.HoldOrder:
        return model.HoldOrder(self.scope.to_model(), self.matter, self.custodian)


@strawberry.input(description="A filter for legal holds. A filter field that is omitted matches every hold.")
class LegalHoldFilter:
    is_active: bool | None = strawberry.field(
        default=None, description="True selects the holds that are in force, and false the released holds."
    )


@strawberry.type(description="`placeLegalHold` returns this payload.")
class PlaceLegalHoldPayload:
    legal_hold: LegalHold = strawberry.field(description="This is the legal hold, which is in force.")
    covered_recording_count: int = strawberry.field(
        description=(
            "The legal hold covers this many existing recordings. It also covers recordings that are made "
            "after it was placed."
        )
    )
    covered_signed_note_count: int = strawberry.field(
        description=(
            "The legal hold covers this many existing signed notes, also those whose recording is destroyed. It also "
            "covers signed notes that are signed after it was placed."
        )
    )
    destroying_recording_count: int = strawberry.field(
        description=(
            "This says how many recordings that the hold covers were already being destroyed and cannot be "
            "saved."
        )
    )


@strawberry.input(description="With this input, a compliance officer releases a legal hold.")
class ReleaseLegalHoldInput:
    legal_hold_id: strawberry.ID = strawberry.field(
        description="This is the id of a legal hold that a different compliance officer placed."
    )


@strawberry.type(description="`releaseLegalHold` returns this payload.")
class ReleaseLegalHoldPayload:
    legal_hold: LegalHold = strawberry.field(description="This is the released legal hold.")


async def place_legal_hold(info: Info, input: PlaceLegalHoldInput) -> PlaceLegalHoldPayload | None:
    """Place a legal hold on existing and later recordings. The legal hold ends when a second compliance officer,
    who did not place it, releases it.
    """
    hold, placed = await info.context.services.holds.place(
        await info.context.asker(),
        input.to_model(),
        select(info, "legalHold"),
        select(info)
        .only("coveredRecordingCount", "coveredSignedNoteCount", "destroyingRecordingCount")
        .paths,
    )
    return PlaceLegalHoldPayload(
        legal_hold=shown(LegalHold, hold),
        covered_recording_count=placed.covered_recordings,
        covered_signed_note_count=placed.covered_notes,
        destroying_recording_count=placed.recordings_in_destruction,
    )


async def release_legal_hold(info: Info, input: ReleaseLegalHoldInput) -> ReleaseLegalHoldPayload | None:
    """Release a legal hold that another compliance officer placed."""
    released = await info.context.services.holds.release(
        await info.context.asker(), parse_id(input.legal_hold_id), select(info, "legalHold")
    )
    return ReleaseLegalHoldPayload(legal_hold=shown(LegalHold, released))


async def legal_holds(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: LegalHoldFilter | None = None,
) -> Connection[LegalHold] | None:
    """List legal holds, newest first. Only compliance officers may list legal holds."""
    page = await info.context.services.holds.page(
        await info.context.asker(),
        page_request(first, after),
        filter.is_active if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)
