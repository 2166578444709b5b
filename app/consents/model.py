"""Consents to a recording: who gave them, to which text, and for whom. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.errors import Conflict, MissingConsent


class Decision(StrEnum):
    """Whether a participant gives or withdraws consent. Only a participant's newest statement of consent counts."""

    GIVEN = "GIVEN"
    WITHDRAWN = "WITHDRAWN"


class Source(StrEnum):
    """The source of a statement of consent: the participant made it, or the doctor attests that the participant
    made it.
    """

    SELF = "SELF"
    ATTESTED = "ATTESTED"


class Relationship(StrEnum):
    """The relationship that entitles a representative to act for the participant."""

    PARENT = "PARENT"
    LEGAL_GUARDIAN = "LEGAL_GUARDIAN"
    HEALTH_CARE_PROXY = "HEALTH_CARE_PROXY"
    POWER_OF_ATTORNEY = "POWER_OF_ATTORNEY"
    OTHER = "OTHER"


@dataclass(frozen=True)
class Representative:
    """The person who acts for a participant, such as a parent. The representative's name is PHI."""

    relationship: Relationship
    name: str


@dataclass(frozen=True)
class ShownText:
    """The consent text that was shown to a participant: its version, its language (`en`, `es`) and its SHA-256 in
    hex.
    """

    version: str
    language: str
    sha256: str


@dataclass(frozen=True)
class Consent:
    """A stored statement with which a participant gives or withdraws consent."""

    id: UUID
    consultation_id: UUID
    participant_id: UUID
    participant_kind: str
    decision: Decision
    source: Source
    recorded_by: UUID
    representative_relationship: Relationship | None
    representative_name: str | None
    text_version: str
    text_language: str
    text_sha256: str
    recorded_at: datetime

    @property
    def shown(self) -> ShownText:
        """Return the consent text that was shown to the participant for this statement."""
        return ShownText(self.text_version, self.text_language, self.text_sha256)


@dataclass(frozen=True)
class ParticipantConsent:
    """The current consent of one participant. `is_required` is false only for a guest who never joined the room.

    `is_withdrawn` is true if the participant consented and then withdrew the consent.
    """

    participant_id: UUID
    kind: str
    guest_role: str | None
    is_required: bool
    is_given: bool
    is_withdrawn: bool


def list_missing_consents(participants: Iterable[ParticipantConsent]) -> list[MissingConsent]:
    """Return the participants whose consent is missing."""
    return [
        MissingConsent(one.participant_id, one.guest_role or one.kind)
        for one in participants
        if one.is_required and not one.is_given
    ]


def require_everyone(participants: Iterable[ParticipantConsent]) -> None:
    """Raise Conflict (consent_missing), with the participants whose consent is missing (law 6)."""
    require_nobody_missing(list_missing_consents(participants))


def require_nobody_missing(missing: Iterable[MissingConsent]) -> None:
    """Raise Conflict (consent_missing) with these participants, sorted by role, unless there are none."""
    found = tuple(sorted(missing, key=lambda one: (one.role, str(one.participant_id))))
    if found:
        raise Conflict("consent_missing", missing=found)


def require_any(history: Sequence[Consent]) -> Consent:
    """Return the newest of a participant's statements of consent, which are sorted oldest first. Raises Conflict
    (no_consent_to_withdraw) if the participant has made no statement of consent.
    """
    if not history:
        raise Conflict("no_consent_to_withdraw")
    return history[-1]
