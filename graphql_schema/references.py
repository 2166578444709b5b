"""GraphQL inputs with which a caller names a patient, a consultation or a range of time."""

from datetime import datetime

import strawberry

from app.postgres import references
from graphql_schema.scalars import parse_id


@strawberry.input(one_of=True, description="This names one patient, by exactly one of the two ids.")
class PatientBy:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="This is the id of the patient in Resguardo."
    )
    external_id: str | None = strawberry.field(
        default=strawberry.UNSET, description="This is the id of the patient in the practice's own system."
    )

    def to_model(self) -> references.PatientBy:
        if isinstance(self.id, str):
            return references.PatientBy(id=parse_id(self.id))
        return references.PatientBy(external_id=self.external_id)


@strawberry.input(one_of=True, description="This names one consultation, by exactly one of the two ids.")
class ConsultationBy:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="This is the id of the consultation in Resguardo."
    )
    external_id: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="This is the id of the consultation in the practice's own system.",
    )

    def to_model(self) -> references.ConsultationBy:
        if isinstance(self.id, str):
            return references.ConsultationBy(id=parse_id(self.id))
        return references.ConsultationBy(external_id=self.external_id)


@strawberry.input(one_of=True, description="This names one recording, by exactly one of the two ids.")
class RecordingBy:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="This is the id of the recording in Resguardo."
    )
    egress_id: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="This is LiveKit's id of the egress that recorded the video of the recording.",
    )

    def to_model(self) -> references.RecordingBy:
        if isinstance(self.id, str):
            return references.RecordingBy(id=parse_id(self.id))
        return references.RecordingBy(egress_id=self.egress_id)


@strawberry.input(description="This is a range of time, which may be open at either side.")
class DateTimeRangeInput:
    from_: datetime | None = strawberry.field(
        default=None,
        name="from",
        description=(
            "The range starts at this time, which is in the range. If `from` is omitted, the range has no "
            "start."
        ),
    )
    until: datetime | None = strawberry.field(
        default=None,
        description=(
            "The range ends at this time, which is not in the range. If `until` is omitted, the range has no "
            "end."
        ),
    )

    def to_model(self) -> references.TimeRange:
        return references.TimeRange(self.from_, self.until)
