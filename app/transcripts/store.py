"""Reads and writes the encrypted transcripts of a person's own recordings, through SQL functions that first write a
row to the audit log.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import LiteralString
from uuid import UUID

from app.keys.keyring import Keyring
from app.postgres.database import Transaction
from app.postgres.queries import Queries
from app.transcripts.model import SearchFilter
from app.transcripts.search.word_index import IndexKey

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class EncryptedTranscript:
    """An encrypted transcript with its corrections, and the recording's wrapped data key."""

    recording_id: UUID
    text: bytes = field(repr=False)
    corrections: tuple[bytes, ...] = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key_id: str


@dataclass(frozen=True)
class OpenedTranscript:
    """An encrypted transcript with its id, and the author and time of each correction, in order."""

    id: UUID
    encrypted: EncryptedTranscript
    corrected_by: tuple[UUID, ...]
    corrected_at: tuple[datetime, ...]


@dataclass(frozen=True)
class Candidate:
    """A candidate: an encrypted transcript that may contain all terms of a search."""

    encrypted: EncryptedTranscript
    consultation_id: UUID
    recorded_at: datetime


@dataclass(frozen=True)
class Candidates:
    """The candidates of a search, newest first. `is_cut` is true if there were too many candidates, so that older
    ones were left out.
    """

    found: tuple[Candidate, ...]
    is_cut: bool


async def open_transcript(
    tx: Transaction,
    action: LiteralString,
    recording_id: UUID,
) -> OpenedTranscript | None:
    """Return the encrypted transcript, or None if the person may not read it, or if it does not exist or is not
    READY. Raises Conflict (recording_being_deleted).
    """
    row = await tx.one(_sql["open"], {"action": action, "id": recording_id})
    if row is None:
        return None
    encrypted = EncryptedTranscript(
        recording_id, row["ciphertext"], tuple(row["corrections"]), row["wrapped"], row["root_key"]
    )
    return OpenedTranscript(row["id"], encrypted, tuple(row["corrected_by"]), tuple(row["corrected_at"]))


async def store_correction(
    tx: Transaction, recording_id: UUID, number: int, ciphertext: bytes, terms: Collection[int]
) -> tuple[UUID, datetime]:
    """Store a correction of a transcript, and return who made the correction and when. Raises Conflict
    (transcript_changed).
    """
    parameters = {"id": recording_id, "number": number, "ciphertext": ciphertext, "terms": sorted(terms)}
    row = await tx.one(_sql["correct"], parameters)
    assert row is not None  # noqa: S101 - it returns one row or raises
    return row["made_by"], row["made_at"]


async def read_index_key(tx: Transaction, keyring: Keyring) -> IndexKey | None:
    """Return the key of the word index, or None if no transcript exists yet. Raises Conflict (root_key_unknown,
    data_key_wrong).
    """
    row = await tx.one(_sql["word_index_key"])
    return None if row is None else IndexKey(keyring.unwrap_secret(row["wrapped"], row["root_key"]))


async def search(tx: Transaction, terms: Collection[int], where: SearchFilter, *, most: int) -> Candidates:
    """Return the newest transcripts of the person's own recordings that may contain all terms: at most `most`
    transcripts, of at most 40 MiB in total.
    """
    rows = await tx.all_in_binary(
        _sql["search"],
        {"terms": sorted(terms), "most": most, **where.parameters},
    )
    found = (
        Candidate(
            EncryptedTranscript(
                row["recording_id"],
                row["ciphertext"],
                tuple(row["corrections"]),
                row["wrapped"],
                row["root_key"],
            ),
            row["consultation_id"],
            row["recorded_at"],
        )
        for row in rows
    )
    return Candidates(tuple(found), is_cut=any(row["is_cut"] for row in rows))


async def retry(tx: Transaction, recording_id: UUID) -> bool:
    """Retry a transcription. Return False if the recording does not belong to the person. Raises Conflict
    (transcription_not_failed, transcription_switched_off, transcription_consent_withdrawn,
    recording_being_deleted).
    """
    return bool(await tx.value(_sql["retry"], {"id": recording_id}))


async def switch(tx: Transaction, consultation_id: UUID, *, is_on: bool) -> bool:
    """Switch transcription of a consultation on or off. Return False if the consultation does not belong to the
    person.
    """
    return bool(await tx.value(_sql["switch"], {"id": consultation_id, "is_on": is_on}))


async def store_subtitle_link(
    tx: Transaction, recording_id: UUID, secret: bytes, *, lifetime_seconds: int
) -> tuple[datetime, int] | None:
    """Store a subtitle link, and return its expiry and in how many seconds that is. Return None if the transcript
    does not belong to the person or is not READY.

    Raises Conflict (recording_being_deleted).
    """
    parameters = {
        "id": recording_id,
        "secret_sha256": hashlib.sha256(secret).digest(),
        "lifetime_seconds": lifetime_seconds,
    }
    row = await tx.one(_sql["store_subtitle_link"], parameters)
    return (
        None if row is None or row["expires_at"] is None else (row["expires_at"], row["expires_in_seconds"])
    )


async def read_subtitle_link(tx: Transaction, secret: bytes) -> tuple[dict[str, object], UUID] | None:
    """Return the claims and the recording of a subtitle link, or None for an unknown or expired link."""
    row = await tx.one(_sql["read_subtitle_link"], {"secret": secret})
    return None if row is None else (row["claims"], row["of_recording"])
