"""The ways in which a caller names a patient, a consultation, a recording or a range of time. Pure.

A caller names a patient or a consultation by its id or by its external id, which is its id in the adopter's own
system. The statement that reads or changes the data also finds the id, so an external id costs no extra round trip,
and an unknown external id looks the same as the external id of a row that is hidden from the caller.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

PATIENT: Final[LiteralString] = (
    "coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text))"
)
"""The id of the patient that the parameters of `patient_parameters` name, as SQL; the max UUID for an unknown
external id, and null if the parameters name no patient.
"""

CONSULTATION: Final[LiteralString] = (
    "coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text))"
)
"""The same for the parameters of `consultation_parameters`."""


@dataclass(frozen=True)
class PatientBy:
    """A patient, named by either the id or the external id."""

    id: UUID | None = None
    external_id: str | None = None


@dataclass(frozen=True)
class ConsultationBy:
    """A consultation, named by either the id or the external id."""

    id: UUID | None = None
    external_id: str | None = None


@dataclass(frozen=True)
class RecordingBy:
    """A recording, named by either its id or the id of the egress that recorded its video."""

    id: UUID | None = None
    egress_id: str | None = None


@dataclass(frozen=True)
class TimeRange:
    """The times from `since` until just before `until`, both with a UTC offset. A bound that is None does not limit
    the range.
    """

    since: datetime | None = None
    until: datetime | None = None


def patient_parameters(by: PatientBy | None) -> dict[str, object]:
    """Return the parameters with which a statement names a patient, or no patient."""
    by = by or PatientBy()
    return {"patient_id": by.id, "patient_external_id": by.external_id}


def consultation_parameters(by: ConsultationBy | None) -> dict[str, object]:
    """Return the parameters with which a statement names a consultation, or no consultation."""
    by = by or ConsultationBy()
    return {"consultation_id": by.id, "consultation_external_id": by.external_id}


def recording_parameters(by: RecordingBy | None) -> dict[str, object]:
    """Return the parameters with which a statement names a recording, or no recording."""
    by = by or RecordingBy()
    return {"recording_id": by.id, "egress_id": by.egress_id}
