"""Data types for deletions. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

FAILING: Final = "FAILING"
"""The stage of a deletion that has begun and whose newest attempt failed."""


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
    """Why somebody requested the deletion of a recording. The reason comes from a fixed list, so that it reveals
    nothing about the patient.
    """

    RECORDED_IN_ERROR = "RECORDED_IN_ERROR"
    WRONG_PATIENT = "WRONG_PATIENT"
    DUPLICATE = "DUPLICATE"
    PATIENT_ASKED = "PATIENT_ASKED"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    OTHER = "OTHER"


@dataclass(frozen=True)
class DeletionFilter:
    """A filter for deletions. A filter field that is None matches every deletion. `is_failing` selects
    deletions that have begun and whose newest attempt failed.
    """

    statuses: tuple[DeletionStatus, ...] | None = None
    recording_id: UUID | None = None
    is_failing: bool | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the filter as parameters of the SQL statement that lists deletions. The column `stage` contains
        the status of a deletion, or FAILING.
        """
        stages: list[str] | None = None
        if self.statuses is not None or self.is_failing is not None:
            statuses = list(DeletionStatus if self.statuses is None else dict.fromkeys(self.statuses))
            stages = [] if self.is_failing else [*statuses]
            if self.is_failing is not False and DeletionStatus.DELETING in statuses:
                stages.append(FAILING)
        return {"recording_id": self.recording_id, "stages": stages}


@dataclass(frozen=True)
class KeptCertificate:
    """A stored certificate. `document` is the signed file, byte for byte the same as in the ledger. `has_next` says
    whether certificates follow the page in which this one was read.
    """

    number: int
    document: str
    sha256: str
    has_next: bool


@dataclass(frozen=True)
class Claim:
    """A claim lists the objects that one attempt must delete: all objects under `prefixes`, and the objects with
    `object_keys`.

    A claim belongs to one attempt until a later attempt takes the claim over. Each step checks `attempt`.
    """

    deletion_id: UUID
    recording_id: UUID
    attempt: int
    ground: DeletionGround
    prefixes: tuple[str, ...]
    object_keys: tuple[str, ...]


@dataclass(frozen=True)
class FoundObject:
    """An object that a deletion found in the bucket and has not deleted yet. `etag` has no quotes."""

    deletion_id: UUID
    key: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class DestroyedNote:
    """A signed note that is destroyed and has no certificate yet. `facts` are the facts for the certificate."""

    note_id: UUID
    attempt: int
    facts: dict[str, object]


@dataclass(frozen=True)
class GoneObject:
    """A deleted object, after a HEAD request no longer found it. `deleted_at` and `gone_at` are in the database's
    time.
    """

    deletion_id: UUID
    key: str
    deleted_at: datetime
    gone_at: datetime
