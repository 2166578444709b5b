"""What a deletion is, and when it is told loudly. Pure, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

ALERT_AFTER_ATTEMPTS: Final = 3
"""A deletion that failed so often is told as an error, and again with each further attempt."""


class DeletionStatus(StrEnum):
    """From the wish to the proof."""

    REQUESTED = "REQUESTED"
    UNDONE = "UNDONE"
    DELETING = "DELETING"
    DELETED = "DELETED"


class DeletionGround(StrEnum):
    """Why something is destroyed."""

    RETENTION = "RETENTION"
    REQUEST = "REQUEST"
    MISSING = "MISSING"
    RESTORE = "RESTORE"


class DeletionReason(StrEnum):
    """Why somebody asks for it: of a list, so that nothing of a patient is told in it."""

    RECORDED_IN_ERROR = "RECORDED_IN_ERROR"
    WRONG_PATIENT = "WRONG_PATIENT"
    DUPLICATE = "DUPLICATE"
    PATIENT_ASKED = "PATIENT_ASKED"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    OTHER = "OTHER"


@dataclass(frozen=True)
class Deletion:
    """A deletion; `undo_until` is of a REQUEST alone, `error` why the newest attempt failed."""

    id: UUID
    recording_id: UUID
    consultation_id: UUID
    patient_id: UUID
    ground: DeletionGround
    reason: DeletionReason | None
    status: DeletionStatus
    requested_by: UUID | None
    requested_at: datetime
    undo_until: datetime | None
    due_at: datetime | None
    attempts: int
    error: str | None
    finished_at: datetime | None


@dataclass(frozen=True)
class DeletionFilter:
    """Which deletions; None is any. `is_failing`: begun, and the newest attempt failed."""

    status: DeletionStatus | None = None
    recording_id: UUID | None = None
    is_failing: bool | None = None


@dataclass(frozen=True)
class KeptCertificate:
    """A certificate as it is kept: `document` is the signed file, the same bytes as in the ledger."""

    number: int
    document: str
    sha256: str


@dataclass(frozen=True)
class Claim:
    """What one attempt has to delete: what is under the prefixes, and under the keys.

    The claim is this attempt's until another has taken it up: `attempt` is asked for at each step.
    """

    deletion_id: UUID
    recording_id: UUID
    attempt: int
    ground: DeletionGround
    prefixes: tuple[str, ...]
    object_keys: tuple[str, ...]


@dataclass(frozen=True)
class FoundObject:
    """An object of a deletion, as it was before; `etag` is without quotes."""

    deletion_id: UUID
    key: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class GoneObject:
    """An object of a deletion that a HEAD did not find any more; times by the store's clock or this machine's."""

    deletion_id: UUID
    key: str
    deleted_at: datetime
    gone_at: datetime
