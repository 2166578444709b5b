"""Reads and writes the database rows of thumbnails. The caller opens the transaction in which a function runs."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from app.postgres.database import Transaction
from app.postgres.queries import Queries

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class BegunThumbnail:
    """The video of which a thumbnail is made, and the recording's wrapped data key."""

    object_key: str
    size_bytes: int
    duration_seconds: float
    wrapped: bytes = field(repr=False)
    root_key_id: str


@dataclass(frozen=True)
class EncryptedThumbnail:
    """An encrypted thumbnail, and the recording's wrapped data key."""

    ciphertext: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key_id: str


async def begin(tx: Transaction, recording_id: UUID) -> BegunThumbnail | None:
    """Begin to make a thumbnail. Return None if the thumbnail needs no work. Needs the worker's role."""
    row = await tx.one(_sql["begin_thumbnail"], {"id": recording_id})
    if row is None:
        return None
    return BegunThumbnail(
        row["object_key"], row["size_bytes"], row["duration_seconds"], bytes(row["wrapped"]), row["root_key"]
    )


async def finish(tx: Transaction, recording_id: UUID, ciphertext: bytes | None) -> None:
    """Store the encrypted thumbnail; None says that no picture of the video is suitable. The function stores nothing
    if no thumbnail may be made any more. Needs the worker's role.
    """
    await tx.run(_sql["finish_thumbnail"], {"id": recording_id, "ciphertext": ciphertext})


async def fail(tx: Transaction, recording_id: UUID, reason: str) -> None:
    """Set the thumbnail to FAILED. Needs the worker's role."""
    await tx.run(_sql["fail_thumbnail"], {"id": recording_id, "reason": reason})


async def store_link(
    tx: Transaction, recording_id: UUID, secret: bytes, *, lifetime_seconds: int
) -> tuple[datetime, int] | None:
    """Store a thumbnail link, and return its expiry and in how many seconds that is. Return None if the recording does
    not belong to the person or has no thumbnail.

    Raises RateLimited (quota_pages), Conflict (recording_being_deleted).
    """
    parameters = {
        "id": recording_id,
        "secret_sha256": hashlib.sha256(secret).digest(),
        "lifetime_seconds": lifetime_seconds,
    }
    row = await tx.one(_sql["store_thumbnail_link"], parameters)
    if row is None or row["expires_at"] is None:
        return None
    return row["expires_at"], row["expires_in_seconds"]


async def read_link(tx: Transaction, secret: bytes) -> tuple[dict[str, object], UUID] | None:
    """Return the claims and the recording of a thumbnail link, or None for an unknown or expired link."""
    row = await tx.one(_sql["read_thumbnail_link"], {"secret": secret})
    return None if row is None else (row["claims"], row["of_recording"])


async def open_thumbnail(tx: Transaction, recording_id: UUID) -> EncryptedThumbnail | None:
    """Return the encrypted thumbnail, or None if the recording does not belong to the person or has no thumbnail.

    Raises RateLimited (quota_pages), Conflict (recording_being_deleted).
    """
    row = await tx.one(_sql["open_thumbnail"], {"id": recording_id})
    if row is None:
        return None
    return EncryptedThumbnail(bytes(row["ciphertext"]), bytes(row["wrapped"]), row["root_key"])
