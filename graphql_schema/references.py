"""GraphQL inputs with which a caller names a patient, a consultation or a range of time."""

from datetime import datetime

import strawberry

from app.postgres import references
from graphql_schema.scalars import parse_id


@strawberry.input(one_of=True, description="Names one patient, by exactly one of the two ids.")
class PatientBy:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The id of the patient in Resguardo."
    )
    external_id: str | None = strawberry.field(
        default=strawberry.UNSET, description="The id of the patient in the practice's own system."
    )

    def to_model(self) -> references.PatientBy:
        if isinstance(self.id, str):
            return references.PatientBy(id=parse_id(self.id))
        return references.PatientBy(external_id=self.external_id)


@strawberry.input(one_of=True, description="Names one consultation, by exactly one of the two ids.")
class ConsultationBy:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The id of the consultation in Resguardo."
    )
    external_id: str | None = strawberry.field(
        default=strawberry.UNSET, description="The id of the consultation in the practice's own system."
    )

    def to_model(self) -> references.ConsultationBy:
        if isinstance(self.id, str):
            return references.ConsultationBy(id=parse_id(self.id))
        return references.ConsultationBy(external_id=self.external_id)


@strawberry.input(one_of=True, description="Names one recording, by exactly one of the two ids.")
class RecordingBy:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The id of the recording in Resguardo."
    )
    egress_id: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="LiveKit's id of the egress that recorded the video of the recording.",
    )

    def to_model(self) -> references.RecordingBy:
        if isinstance(self.id, str):
            return references.RecordingBy(id=parse_id(self.id))
        return references.RecordingBy(egress_id=self.egress_id)


@strawberry.input(description="A range of time, which may be open at either side.")
class DateTimeRangeInput:
    from_: datetime | None = strawberry.field(
        default=None,
        name="from",
        description="The first moment of the range. If `from` is omitted, the range has no start.",
    )
    until: datetime | None = strawberry.field(
        default=None,
        description=(
            "The end of the range, which itself is not in the range. If `until` is omitted, the range has no "
            "end."
        ),
    )

    def to_model(self) -> references.TimeRange:
        return references.TimeRange(self.from_, self.until)
