"""The entries of the reports that a patient reads. Pure."""

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Generic, TypeVar
from uuid import UUID

from app.errors import InvalidInput
from app.postgres.paging import Cursor
from app.postgres.references import ConsultationBy, consultation_parameters

Entry = TypeVar("Entry")
_TIME_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}", re.ASCII)


class Relation(StrEnum):
    """The relation of the person who looked to the patient. SYSTEM is Resguardo itself, and OTHER is an operator of the
    practice's systems.
    """

    SELF = "SELF"
    DOCTOR = "DOCTOR"
    CLINICIAN = "CLINICIAN"
    COMPLIANCE = "COMPLIANCE"
    OTHER_PATIENT = "OTHER_PATIENT"
    SYSTEM = "SYSTEM"
    OTHER = "OTHER"


class RecordingFate(StrEnum):
    """The state of a recording in the report. FAILED means that the recording failed, and LOST that its file is
    missing.
    """

    IN_PROGRESS = "IN_PROGRESS"
    KEPT = "KEPT"
    FAILED = "FAILED"
    LOST = "LOST"
    DESTROYED = "DESTROYED"


@dataclass(frozen=True)
class ReportRequest:
    """The subject of a report: the calling patient, one of the patient's consultations, or the patient of an approved
    access request. `time_zone` is the name of the time zone of the times in the report, such as `America/New_York`.
    """

    access_request_id: UUID | None = None
    consultation: ConsultationBy | None = None
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if _TIME_ZONE.fullmatch(self.time_zone) is None:
            raise InvalidInput("bad_time_zone")

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statements that read the reports."""
        return {
            "access_request_id": self.access_request_id,
            **consultation_parameters(self.consultation),
            "time_zone": self.time_zone,
        }


@dataclass(frozen=True)
class Look:
    """One entry of the report of who looked. `local_at` is the time in the time zone of the request, without offset."""

    id: UUID
    recorded_at: datetime
    local_at: datetime
    action: str
    outcome: str
    reason: str | None
    purpose: str
    basis: str
    relation: Relation
    actor_name: str | None = field(repr=False)
    consultation_ids: tuple[UUID, ...]

    @property
    def is_refused(self) -> bool:
        """Return whether the person was refused and saw nothing."""
        return self.outcome == "DENIED"


@dataclass(frozen=True)
class ReportedCertificate:
    """The newest certificate of a destroyed recording."""

    number: int
    sha256: str
    document: str = field(repr=False)


@dataclass(frozen=True)
class ReportedRecording:
    """One entry of the report of what was recorded. `kept_until` is the end of the retention term, or None if the
    recording is destroyed or no term has begun. The days are those in the time zone of the request.
    """

    id: UUID
    created_at: datetime
    consultation_id: UUID
    recorded_at: datetime
    local_at: datetime
    doctor_name: str | None = field(repr=False)
    duration_seconds: float | None
    fate: RecordingFate
    kept_until: datetime | None
    kept_until_day: date | None
    is_kept_longer: bool
    destroyed_at: datetime | None
    destroyed_day: date | None
    certificate: ReportedCertificate | None

    @property
    def text_key(self) -> str:
        """Return the state of the recording in the report."""
        if self.is_kept_longer and self.fate is RecordingFate.KEPT:
            return "KEPT_LONGER"
        return self.fate.value


@dataclass(frozen=True)
class ReportPage(Generic[Entry]):
    """A page of a report, newest first. The next page begins after the place `ends_at`, which is None on an empty last
    page. A page can have fewer entries than requested although another page follows.
    """

    entries: tuple[Entry, ...]
    has_next: bool
    ends_at: Cursor | None
