"""Imports of recordings, and the checks of the doctor's declaration before the upload. Pure.

When the doctor completes an import, the import becomes a recording, and the worker verifies it like a recording
from LiveKit. The doctor's declaration determines which upload the worker signs, but the worker verifies the
uploaded file itself.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Self
from uuid import UUID

from app.errors import InvalidInput
from app.integrations.storage.presigned_urls import MAX_PUT_BYTES

CONTENT_TYPES: Final = ("video/mp4",)

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""The earliest accepted start of a recording, because cameras without a set clock report 1904, 1970 or 1980."""

AHEAD: Final = timedelta(minutes=5)
"""How far a client's clock may be ahead of the database's. The table has the same limit."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ImportStatus(StrEnum):
    """The status of an import."""

    AWAITING_URL = "AWAITING_URL"
    AWAITING_UPLOAD = "AWAITING_UPLOAD"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True)
class ImportRequest:
    """The doctor's declaration of a recording to import: its exact size, and if known its SHA-256 in hex and its
    start time.
    """

    consultation_id: UUID
    content_type: str
    size_bytes: int
    sha256: str | None = None
    recorded_at: datetime | None = None

    def normalize(self) -> Self:
        """Return the doctor's declaration with the SHA-256 in lower case.

        Raises InvalidInput (import_type, import_size, bad_sha256, bad_date, recorded_at_too_early).
        """
        if self.content_type not in CONTENT_TYPES:
            raise InvalidInput("import_type", allowed_types=tuple(CONTENT_TYPES))
        if not 1 <= self.size_bytes <= MAX_PUT_BYTES:
            raise InvalidInput("import_size", maximum=MAX_PUT_BYTES)
        sha256 = None if self.sha256 is None else self.sha256.lower()
        if sha256 is not None and _SHA256.fullmatch(sha256) is None:
            raise InvalidInput("bad_sha256")
        if self.recorded_at is not None and self.recorded_at.tzinfo is None:
            raise InvalidInput("bad_date")
        if self.recorded_at is not None and self.recorded_at < EARLIEST:
            raise InvalidInput("recorded_at_too_early", earliest=EARLIEST.date().isoformat())
        return replace(self, sha256=sha256)

    def require_past(self, now: datetime) -> None:
        """Raise InvalidInput (recorded_at_ahead) if the recording began later than `now`, by the database's clock."""
        if self.recorded_at is not None and self.recorded_at > now + AHEAD:
            raise InvalidInput("recorded_at_ahead")


@dataclass(frozen=True)
class RecordingImport:
    """An import. `recording_id` is set once the import is COMPLETED."""

    id: UUID
    consultation_id: UUID
    recording_id: UUID
    status: ImportStatus
    content_type: str
    size_bytes: int
    recorded_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True)
class WantedUpload:
    """The upload that the worker must sign. The presigned URL is valid for at most `seconds_left`."""

    object_key: str
    content_type: str
    size_bytes: int
    seconds_left: int
