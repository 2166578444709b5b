"""What is imported, and what of it is refused before a byte is sent. Pure, no I/O.

An import becomes a recording when its doctor says that it was uploaded, and what was uploaded is then verified like
any recording: what a client declares here decides nothing but which upload is signed.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Self
from uuid import UUID

from app.errors import InvalidInput
from app.integrations.storage import MAX_PUT_BYTES

CONTENT_TYPES: Final = ("video/mp4",)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ImportStatus(StrEnum):
    """From the doctor's wish to the recording, or to nothing."""

    AWAITING_URL = "AWAITING_URL"
    AWAITING_UPLOAD = "AWAITING_UPLOAD"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True)
class ImportRequest:
    """A recording made elsewhere: its exact size, and its SHA-256 in hex where the client knows it."""

    consultation_id: UUID
    content_type: str
    size_bytes: int
    sha256: str | None = None

    def checked(self) -> Self:
        """The same, with the digest in lower case. Raises InvalidInput (import_type, import_size, bad_sha256)."""
        if self.content_type not in CONTENT_TYPES:
            raise InvalidInput("import_type", types=", ".join(CONTENT_TYPES))
        if not 1 <= self.size_bytes <= MAX_PUT_BYTES:
            raise InvalidInput("import_size", maximum=MAX_PUT_BYTES)
        sha256 = None if self.sha256 is None else self.sha256.lower()
        if sha256 is not None and _SHA256.fullmatch(sha256) is None:
            raise InvalidInput("bad_sha256")
        return replace(self, sha256=sha256)


@dataclass(frozen=True)
class RecordingImport:
    """An import; `recording_id` is the recording's once the import is COMPLETED."""

    id: UUID
    consultation_id: UUID
    recording_id: UUID
    status: ImportStatus
    content_type: str
    size_bytes: int
    expires_at: datetime


@dataclass(frozen=True)
class WantedUpload:
    """What the worker signs, for `seconds_left` at most."""

    object_key: str
    content_type: str
    size_bytes: int
    seconds_left: int


@dataclass(frozen=True)
class SignedUpload:
    """An import whose upload may begin: the URL, which is a secret, and the headers that were signed with it."""

    found: RecordingImport
    url: str = field(repr=False)
    headers: dict[str, str]
