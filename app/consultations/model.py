"""Consultations and their participants. Pure."""

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from app.errors import Conflict, InvalidInput
from app.postgres.references import PatientBy, TimeRange, patient_parameters

MAX_EXTERNAL_ID_LENGTH = 128
_FIRST_YEAR, _LAST_YEAR = 1900, 2200


class SpokenLanguage(StrEnum):
    """The language spoken in a consultation. MIXED means several languages, or a language other than English and
    Spanish.
    """

    EN = "EN"
    ES = "ES"
    MIXED = "MIXED"


class Sensitivity(StrEnum):
    """The legal sensitivity of a consultation. Psychotherapy notes (45 CFR 164.501) and substance use records (42
    CFR part 2) have stricter rules.
    """

    ORDINARY = "ORDINARY"
    PSYCHOTHERAPY = "PSYCHOTHERAPY"
    SUBSTANCE_USE = "SUBSTANCE_USE"


class AccessBasis(StrEnum):
    """Why a person may read a consultation."""

    TREATING_CLINICIAN = "TREATING_CLINICIAN"
    SHARED = "SHARED"
    EMERGENCY = "EMERGENCY"
    COMPLIANCE_REVIEW = "COMPLIANCE_REVIEW"
    SELF = "SELF"


class ParticipantKind(StrEnum):
    """The kind of a participant: doctor, patient or guest."""

    DOCTOR = "DOCTOR"
    PATIENT = "PATIENT"
    GUEST = "GUEST"


class GuestRole(StrEnum):
    """The role of a guest in a consultation, such as interpreter."""

    INTERPRETER = "INTERPRETER"
    COMPANION = "COMPANION"
    REPRESENTATIVE = "REPRESENTATIVE"
    CLINICIAN = "CLINICIAN"
    STUDENT = "STUDENT"


@dataclass(frozen=True)
class Consultation:
    """A consultation."""

    id: UUID
    external_id: str
    doctor_id: UUID
    patient_id: UUID
    scheduled_at: datetime
    kind: str
    sensitivity: Sensitivity
    room_name: str
    auto_record: bool
    separate_speakers: bool
    created_at: datetime
    is_transcribed: bool = False
    language: SpokenLanguage | None = None


@dataclass(frozen=True)
class Registration:
    """The data with which a doctor registers a consultation. If `doctor_id` is None, the calling doctor is the
    consultation's doctor.

    With `auto_record`, recording starts as soon as the doctor and the patient are in the room and every participant
    has consented. With `separate_speakers`, the speakers' sound is also recorded apart from the video. `transcribe`
    says whether recordings are transcribed; None means yes, unless the consultation is sensitive. The doctor can
    change `transcribe` later. `language` is the spoken language; None means the language in which every participant
    consented. If `patient_birth_date` is None, the patient counts as an adult. `label` is the checked
    label of the consultation, or None.
    """

    external_id: str
    doctor_id: UUID | None
    patient_external_id: str
    patient_user_id: UUID | None
    scheduled_at: datetime
    kind: str
    sensitivity: Sensitivity
    auto_record: bool = False
    separate_speakers: bool = False
    transcribe: bool | None = None
    language: SpokenLanguage | None = None
    patient_birth_date: date | None = None
    label: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for value in (self.external_id, self.patient_external_id):
            if (
                not 1 <= len(value) <= MAX_EXTERNAL_ID_LENGTH
                or not value.isprintable()
                or value != value.strip()
            ):
                raise InvalidInput("bad_external_id", maximum=MAX_EXTERNAL_ID_LENGTH)
        if re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.kind) is None:
            raise InvalidInput("bad_kind")
        if self.scheduled_at.tzinfo is None or not _FIRST_YEAR <= self.scheduled_at.year <= _LAST_YEAR:
            raise InvalidInput("bad_date")
        if self.patient_birth_date is not None and not (
            _FIRST_YEAR <= self.patient_birth_date.year <= _LAST_YEAR
        ):
            raise InvalidInput("bad_birth_date")

    def matches(self, consultation: Consultation, patient_id: UUID) -> bool:
        """Return whether the consultation was registered with the same data as this registration. The comparison
        ignores `transcribe` and `label`, because the doctor may have changed them since the registration.
        """
        return (
            self.scheduled_at,
            self.kind,
            self.sensitivity,
            self.auto_record,
            self.separate_speakers,
            self.language,
            patient_id,
        ) == (
            consultation.scheduled_at,
            consultation.kind,
            consultation.sensitivity,
            consultation.auto_record,
            consultation.separate_speakers,
            consultation.language,
            consultation.patient_id,
        )


def room_name(deployment: str, consultation_id: UUID) -> str:
    """Return the name of the consultation's LiveKit room. The prefix of the name distinguishes this deployment's
    rooms from all others in the same LiveKit project.
    """
    return f"{deployment}_{consultation_id}"


def require_consent_to_enter(is_given: bool, is_recorded: bool) -> None:
    """Raise Conflict if a person who does not consent would enter a room that is being recorded (law 6)."""
    if is_recorded and not is_given:
        raise Conflict("consent_missing_to_join")


@dataclass(frozen=True)
class ConsultationFilter:
    """A filter for consultations. If a field of the filter is None, the field excludes no consultation."""

    patient: PatientBy | None = None
    scheduled: TimeRange | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the filter's values as parameters of the SQL statement."""
        return {
            **patient_parameters(self.patient),
            "patient": None if self.patient is None else True,
            "since": self.scheduled.since if self.scheduled else None,
        }
