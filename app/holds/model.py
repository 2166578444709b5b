"""Legal holds and their scopes. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.errors import InvalidInput

MAX_TEXT_LENGTH: Final = 200
"""The length limit of a matter and of a custodian, in characters."""


@dataclass(frozen=True)
class Scope:
    """The scope of a legal hold: one consultation, one patient, or all recordings from `recorded_since` until just
    before `recorded_until`.

    Raises InvalidInput (hold_scope) unless exactly one scope is given. Raises InvalidInput (hold_dates) for a range
    that is empty or reversed, or that lacks its start or its end. Raises InvalidInput (bad_date) for a time without
    a UTC offset.
    """

    consultation_id: UUID | None
    patient_id: UUID | None
    recorded_since: datetime | None
    recorded_until: datetime | None

    def __post_init__(self) -> None:
        since, until = self.recorded_since, self.recorded_until
        has_dates = since is not None or until is not None
        if (self.consultation_id is not None) + (self.patient_id is not None) + has_dates != 1:
            raise InvalidInput("hold_scope")
        if any(at is not None and at.utcoffset() is None for at in (since, until)):
            raise InvalidInput("bad_date")
        if has_dates and (since is None or until is None or since >= until):
            raise InvalidInput("hold_dates")


@dataclass(frozen=True)
class HoldOrder:
    """A legal hold to be placed. Raises InvalidInput (hold_matter, hold_custodian) for an empty or too long text."""

    scope: Scope
    matter: str
    custodian: str

    def __post_init__(self) -> None:
        if not _is_valid_text(self.matter):
            raise InvalidInput("hold_matter", maximum=MAX_TEXT_LENGTH)
        if not _is_valid_text(self.custodian):
            raise InvalidInput("hold_custodian", maximum=MAX_TEXT_LENGTH)


@dataclass(frozen=True)
class LegalHold:
    """A legal hold, which is active while `released_at` is None. `recorded_until` is exclusive. If a hold comes
    from a list, the fields that the caller did not select have their default values.
    """

    id: UUID
    consultation_id: UUID | None
    patient_id: UUID | None
    matter: str
    custodian: str
    placed_by: UUID
    placed_at: datetime
    recorded_since: datetime | None = None
    recorded_until: datetime | None = None
    released_by: UUID | None = None
    released_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Return whether the hold is active."""
        return self.released_at is None


@dataclass(frozen=True)
class PlacedHold:
    """A new legal hold, with the number of recordings that it covers now, and the number of those whose destruction
    had already begun.
    """

    hold: LegalHold
    covered_recordings: int
    recordings_in_destruction: int


def _is_valid_text(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_TEXT_LENGTH
