"""A consultation and who takes part in it. Pure, no I/O."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from app.consents.model import Consent
from app.errors import Forbidden, InvalidInput

MAX_EXTERNAL_ID_LENGTH = 128
_FIRST_YEAR, _LAST_YEAR = 1900, 2200


class SpokenLanguage(StrEnum):
    """What is spoken in a consultation; MIXED for more than one language, or another one."""

    EN = "EN"
    ES = "ES"
    MIXED = "MIXED"


class Sensitivity(StrEnum):
    """Psychotherapy notes (45 CFR 164.501) and substance use records (42 CFR part 2) have rules of their own."""

    ORDINARY = "ORDINARY"
    PSYCHOTHERAPY = "PSYCHOTHERAPY"
    SUBSTANCE_USE = "SUBSTANCE_USE"


class ParticipantKind(StrEnum):
    """In which capacity somebody takes part."""

    DOCTOR = "DOCTOR"
    PATIENT = "PATIENT"
    GUEST = "GUEST"


class GuestRole(StrEnum):
    """What a guest is there for."""

    INTERPRETER = "INTERPRETER"
    COMPANION = "COMPANION"
    REPRESENTATIVE = "REPRESENTATIVE"
    CLINICIAN = "CLINICIAN"
    STUDENT = "STUDENT"


@dataclass(frozen=True)
class Participant:
    """Somebody in a consultation; the id is also the identity in the LiveKit room."""

    id: UUID
    kind: ParticipantKind
    guest_role: GuestRole | None
    joined_at: datetime | None
    is_given: bool


@dataclass(frozen=True)
class Consultation:
    """A consultation; `participants` and `consents` are None where they were not asked for."""

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
    is_transcribed: bool
    created_at: datetime
    language: SpokenLanguage | None = None
    participants: tuple[Participant, ...] | None = None
    consents: tuple[Consent, ...] | None = None


@dataclass(frozen=True)
class Registration:
    """What is said of a consultation that is to take place; `doctor_id` None is the doctor who asks.

    `auto_record`: recorded as soon as doctor and patient are in the room and everybody consents. `separate_speakers`:
    the sound is recorded once more, with each of the two on a channel. `transcribe`: whether what is recorded is turned
    into words, None for yes unless the kind is sensitive; it can be switched later. `language`: what is
    spoken, None for what everybody consented in. `patient_birth_date` may be left
    out, then and ever after: the patient is then taken to be of age.
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
        """Whether that consultation is what this registration would make: then it has been made before.

        Whether it is transcribed may have been switched since.
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


@dataclass(frozen=True)
class Selection:
    """What of a consultation was asked for: field names for the audit row, and which of the nested lists."""

    fields: tuple[str, ...] = ()
    with_participants: bool = False
    with_consents: bool = False

    @property
    def parameters(self) -> dict[str, object]:
        """For the statements."""
        return {
            "fields": list(self.fields),
            "with_participants": self.with_participants,
            "with_consents": self.with_consents,
        }


def room_name(deployment: str, consultation_id: UUID) -> str:
    """The consultation's LiveKit room; the prefix tells our rooms from others' in the same project."""
    return f"{deployment}_{consultation_id}"


def require_consent_to_enter(is_given: bool, is_recorded: bool) -> None:
    """Law 6: nobody enters a room that is being recorded without a standing consent. Raises Forbidden."""
    if is_recorded and not is_given:
        raise Forbidden("consent_missing_to_join")
