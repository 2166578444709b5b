"""Deletions and their rules for alerts. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

FAILING: Final = "FAILING"
"""The stage of a deletion that has begun and whose newest attempt failed."""

ALERT_AFTER_ATTEMPTS: Final = 3
"""After this many failed attempts, the deletion and each further attempt are logged as errors."""


class DeletionStatus(StrEnum):
    """The status of a deletion."""

    REQUESTED = "REQUESTED"
    UNDONE = "UNDONE"
    DELETING = "DELETING"
    DELETED = "DELETED"


class DeletionGround(StrEnum):
    """The reason for which a recording is destroyed."""

    RETENTION = "RETENTION"
    REQUEST = "REQUEST"
    MISSING = "MISSING"
    RESTORE = "RESTORE"


class DeletionReason(StrEnum):
    """The reason of a requested deletion, from a fixed list, so that it reveals nothing about the patient."""

    RECORDED_IN_ERROR = "RECORDED_IN_ERROR"
    WRONG_PATIENT = "WRONG_PATIENT"
    DUPLICATE = "DUPLICATE"
    PATIENT_ASKED = "PATIENT_ASKED"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    OTHER = "OTHER"


@dataclass(frozen=True)
class Deletion:
    """A deletion. `undo_until` is set only for the ground REQUEST. `error` is the reason why the newest attempt
    failed. In a list, a field that the caller did not select has its default.
    """

    id: UUID
    recording_id: UUID
    consultation_id: UUID
    patient_id: UUID
    ground: DeletionGround
    status: DeletionStatus
    requested_at: datetime
    reason: DeletionReason | None = None
    requested_by: UUID | None = None
    undo_until: datetime | None = None
    due_at: datetime | None = None
    attempts: int = 0
    error: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class DeletionFilter:
    """A filter for deletions, in which None matches every deletion. `is_failing` selects deletions that have begun
    and whose newest attempt failed.
    """

    status: DeletionStatus | None = None
    recording_id: UUID | None = None
    is_failing: bool | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the SQL statement. The column `stage` is the status, or FAILING."""
        stages: list[str] | None = None
        if self.status is not None or self.is_failing is not None:
            stages = [] if self.is_failing else [self.status] if self.status else list(DeletionStatus)
            if self.is_failing is not False and self.status in (None, DeletionStatus.DELETING):
                stages.append(FAILING)
        return {"recording_id": self.recording_id, "stages": stages}


@dataclass(frozen=True)
class KeptCertificate:
    """A stored certificate. `document` is the signed file, with the same bytes as in the ledger."""

    number: int
    document: str
    sha256: str


@dataclass(frozen=True)
class Claim:
    """The objects that one attempt must delete: those under the prefixes, and those with the keys.

    The claim belongs to this attempt until another attempt takes it over. Each step checks `attempt`.
    """

    deletion_id: UUID
    recording_id: UUID
    attempt: int
    ground: DeletionGround
    prefixes: tuple[str, ...]
    object_keys: tuple[str, ...]


@dataclass(frozen=True)
class FoundObject:
    """An object of a deletion before it is deleted. `etag` has no quotes."""

    deletion_id: UUID
    key: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class GoneObject:
    """An object of a deletion that a HEAD no longer found. Both times are the database's time."""

    deletion_id: UUID
    key: str
    deleted_at: datetime
    gone_at: datetime
