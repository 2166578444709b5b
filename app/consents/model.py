"""Consent to being recorded: who gave it, to which words, on whose behalf. Pure decisions, no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.errors import Conflict, Forbidden


class Decision(StrEnum):
    """What a participant said; the newest word stands."""

    GIVEN = "GIVEN"
    WITHDRAWN = "WITHDRAWN"


class Source(StrEnum):
    """Whether the participant said so to the system, or the doctor attests that it was said."""

    SELF = "SELF"
    ATTESTED = "ATTESTED"


class Relationship(StrEnum):
    """On what ground a representative speaks for the participant."""

    PARENT = "PARENT"
    LEGAL_GUARDIAN = "LEGAL_GUARDIAN"
    HEALTH_CARE_PROXY = "HEALTH_CARE_PROXY"
    POWER_OF_ATTORNEY = "POWER_OF_ATTORNEY"
    OTHER = "OTHER"


@dataclass(frozen=True)
class Representative:
    """Who spoke for the participant; the name is PHI."""

    relationship: Relationship
    name: str


@dataclass(frozen=True)
class ShownText:
    """Which words were shown: a version, a language (`en`, `es`) and the SHA-256 of the text in hex."""

    version: str
    language: str
    sha256: str


@dataclass(frozen=True)
class Consent:
    """One word of one participant, as it was recorded."""

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
        """The words it is about."""
        return ShownText(self.text_version, self.text_language, self.text_sha256)


@dataclass(frozen=True)
class Standing:
    """Where a participant stands now; `is_required` is false for a guest who never joined.

    `is_withdrawn`: the participant consented before.
    """

    participant_id: UUID
    kind: str
    guest_role: str | None
    is_required: bool
    is_given: bool
    is_withdrawn: bool


def missing_consents(standings: Iterable[Standing]) -> list[str]:
    """Whose consent is missing, by role."""
    return sorted(
        standing.guest_role or standing.kind
        for standing in standings
        if standing.is_required and not standing.is_given
    )


def require_everyone(standings: Iterable[Standing]) -> None:
    """Law 6: raises Forbidden (consent_missing), naming by role whose consent is missing."""
    missing = missing_consents(standings)
    if missing:
        raise Forbidden("consent_missing", missing=", ".join(missing))


def require_any(history: Sequence[Consent]) -> Consent:
    """The newest word, of a history oldest first. Raises Conflict (no_consent_to_withdraw) where there is none."""
    if not history:
        raise Conflict("no_consent_to_withdraw")
    return history[-1]
