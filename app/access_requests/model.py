"""Requests of patients for a copy of what was recorded of them: 45 CFR 164.524, as types. Pure, no I/O.

The grounds are the rule's own, in its order (45 CFR 164.524(a)(2) and (a)(3), in public copies read 2026-11-21). It
decides nothing: people do, and the database keeps them to the rule.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.consents.model import Relationship, Representative
from app.errors import Conflict, InvalidInput

MAX_EXTENSION_DAYS: Final = 30
"""164.524(b)(2)(ii)."""

_LONGEST_NAME: Final = 200
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS, _GROUP_LENGTH = 5, 4


class AccessRequestStatus(StrEnum):
    """OPEN and APPROVED hold what they ask for, and so, for 60 days, does DENIED while it may be reviewed."""

    OPEN = "OPEN"
    APPROVED = "APPROVED"
    FULFILLED = "FULFILLED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"


class Channel(StrEnum):
    """How it came: by the patient's own login, or in writing, and compliance wrote it down here."""

    LOGIN = "LOGIN"
    WRITTEN = "WRITTEN"


class DenialGround(StrEnum):
    """Why access may be denied, and nothing else may be the reason."""

    EXCEPTED = "EXCEPTED"
    CORRECTIONAL = "CORRECTIONAL"
    RESEARCH = "RESEARCH"
    PRIVACY_ACT = "PRIVACY_ACT"
    CONFIDENTIAL_SOURCE = "CONFIDENTIAL_SOURCE"
    ENDANGERS_LIFE = "ENDANGERS_LIFE"
    HARMS_ANOTHER = "HARMS_ANOTHER"
    REPRESENTATIVE_HARMS = "REPRESENTATIVE_HARMS"

    @property
    def is_reviewable(self) -> bool:
        """A licensed professional determined the harm, and the patient may have that reviewed by another."""
        return self in _REVIEWABLE


_REVIEWABLE: Final = frozenset(
    {DenialGround.ENDANGERS_LIFE, DenialGround.HARMS_ANOTHER, DenialGround.REPRESENTATIVE_HARMS}
)


class ExtensionReason(StrEnum):
    """Why 30 days do not suffice; what the patient is told in writing."""

    VOLUME = "VOLUME"
    STORED_ELSEWHERE = "STORED_ELSEWHERE"
    PROFESSIONAL_REVIEW = "PROFESSIONAL_REVIEW"
    TECHNICAL_FAILURE = "TECHNICAL_FAILURE"
    STAFF_ABSENCE = "STAFF_ABSENCE"


class ReviewOutcome(StrEnum):
    """What the reviewing professional came to; REVERSED approves the request."""

    UPHELD = "UPHELD"
    REVERSED = "REVERSED"


class ExportStatus(StrEnum):
    """What became of the copy. DELETED: a recording in it was destroyed, and the copy with it."""

    PREPARING = "PREPARING"
    READY = "READY"
    NOTHING_RECORDED = "NOTHING_RECORDED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    DELETED = "DELETED"


@dataclass(frozen=True)
class AccessRequest:
    """A request. `consultation_id` None: all that was recorded of the patient. `due_on` is the last day to act, UTC."""

    id: UUID
    patient_id: UUID
    consultation_id: UUID | None
    status: AccessRequestStatus
    channel: Channel
    representative_relationship: Relationship | None
    representative_name: str | None
    received_on: date
    due_on: date
    is_overdue: bool
    extension_reason: ExtensionReason | None
    extended_at: datetime | None
    decided_at: datetime | None
    denial_ground: DenialGround | None
    determined_by: UUID | None
    review_asked_at: datetime | None
    reviewed_by: UUID | None
    reviewed_at: datetime | None
    review_outcome: ReviewOutcome | None
    export_status: ExportStatus | None
    export_error: str | None
    export_size_bytes: int | None
    export_recordings: int | None
    export_missing: int | None
    export_expires_at: datetime | None
    secret_revealed_at: datetime | None
    fulfilled_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class ExportUrl:
    """A presigned GET of the encrypted copy. Whoever holds it may download until it expires, and opens nothing."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class ExportedFile:
    """What goes into a copy: `video_id` is its own id, or that of the video that the sound was recorded beside."""

    recording_id: UUID
    video_id: UUID
    medium: str
    recorded_at: datetime
    size_bytes: int
    sha256: str
    recording_key: str


@dataclass(frozen=True)
class ExportPlan:
    """One attempt at a copy: where it goes, and what goes into it, in the order of recording.

    What was recorded and does not go into it is left out: what is gone from the bucket is `missing`, and what is not
    what was stored is `not_whole`.
    """

    object_key: str
    made_at: datetime
    files: tuple[ExportedFile, ...]
    missing: tuple[UUID, ...] = ()
    not_whole: tuple[UUID, ...] = ()

    @property
    def left_out(self) -> int:
        return len(self.missing) + len(self.not_whole)

    def without_missing(self, recording_id: UUID) -> "ExportPlan":
        return replace(
            self, files=self._others(recording_id), missing=tuple(sorted({*self.missing, recording_id}))
        )

    def without_broken(self, recording_id: UUID) -> "ExportPlan":
        return replace(
            self, files=self._others(recording_id), not_whole=tuple(sorted({*self.not_whole, recording_id}))
        )

    def _others(self, recording_id: UUID) -> tuple[ExportedFile, ...]:
        return tuple(file for file in self.files if file.recording_id != recording_id)


def named(representative: Representative | None) -> Representative | None:
    """The same, with a name of 1 to 200 characters. Raises InvalidInput (bad_representative)."""
    if representative is None:
        return None
    name = representative.name.strip()
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise InvalidInput("bad_representative")
    return Representative(representative.relationship, name)


def require_determination(ground: DenialGround, determined_by: UUID | None) -> None:
    """Raises InvalidInput (bad_determination): a professional is named where the ground is reviewable, else nobody."""
    if ground.is_reviewable != (determined_by is not None):
        raise InvalidInput("bad_determination")


def require_days(days: int) -> int:
    """Raises InvalidInput (bad_extension) for an extension that the rule does not know."""
    if not 1 <= days <= MAX_EXTENSION_DAYS:
        raise InvalidInput("bad_extension", maximum=MAX_EXTENSION_DAYS)
    return days


def require_key(released: str) -> str:
    """Raises Conflict (export_not_there) for the '' of a copy that is not there."""
    if not released:
        raise Conflict("export_not_there")
    return released


def require_secret(released: str) -> str:
    """Raises Conflict (export_secret_gone) for the '' of a secret that was revealed before, or never was."""
    if not released:
        raise Conflict("export_secret_gone")
    return released


def new_secret() -> str:
    """Twenty letters and digits in groups of four, 100 bits, none of which sounds or looks like another in print."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
