"""Types of thumbnails. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.keys.keyring import Field


class ThumbnailStatus(StrEnum):
    """The status of a thumbnail: its job is queued (PENDING), it can be shown (READY), no picture of the video is
    suitable (NO_PICTURE), or it could not be made (FAILED).
    """

    PENDING = "PENDING"
    READY = "READY"
    NO_PICTURE = "NO_PICTURE"
    FAILED = "FAILED"


@dataclass(frozen=True)
class ThumbnailLink:
    """The secret of a thumbnail link, and its expiry."""

    secret: str = field(repr=False)
    expires_at: datetime
    expires_in_seconds: int


def thumbnail_field(recording_id: UUID) -> Field:
    """Return the table, row and column in which a recording's encrypted thumbnail is stored."""
    return Field("thumbnails", str(recording_id), "ciphertext", key_id=str(recording_id))
