"""Legal holds and their scopes. Pure."""

from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from app.errors import InvalidInput
from app.postgres.references import ConsultationBy, PatientBy, TimeRange

MAX_TEXT_LENGTH: Final = 200
"""The length limit of a matter and of a custodian, in characters."""


Scope: TypeAlias = ConsultationBy | PatientBy | TimeRange
"""The scope of a legal hold: one consultation, one patient, or all recordings of a range of time."""


@dataclass(frozen=True)
class HoldOrder:
    """A legal hold to be placed. Raises InvalidInput (hold_matter, hold_custodian) for an empty or too long text.
    Raises InvalidInput (hold_dates) for a range that is empty or reversed, or that lacks its start or its end.
    """

    scope: Scope
    matter: str
    custodian: str

    def __post_init__(self) -> None:
        if isinstance(self.scope, TimeRange) and not _is_forward(self.scope):
            raise InvalidInput("hold_dates")
        if not _is_valid_text(self.matter):
            raise InvalidInput("hold_matter", maximum=MAX_TEXT_LENGTH)
        if not _is_valid_text(self.custodian):
            raise InvalidInput("hold_custodian", maximum=MAX_TEXT_LENGTH)


@dataclass(frozen=True)
class PlacedHold:
    """The id of a new legal hold, with the number of recordings that it covers now, the number of those whose
    destruction had already begun, and the number of signed notes that it covers now.
    """

    id: UUID
    covered_recordings: int
    recordings_in_destruction: int
    covered_notes: int


def _is_valid_text(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_TEXT_LENGTH


def _is_forward(scope: TimeRange) -> bool:
    return scope.since is not None and scope.until is not None and scope.since < scope.until
