"""The words of a person's own recordings, encrypted, as functions of the database give them: after the audit row."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

from app.keys.keyring import Keyring
from app.postgres.database import Transaction
from app.postgres.queries import Queries
from app.transcripts.blind import IndexKey
from app.transcripts.model import SearchFilter

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class Sealed:
    """A transcript with its corrections, and the recording's data key, wrapped."""

    recording_id: UUID
    words: bytes = field(repr=False)
    corrections: tuple[bytes, ...] = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key_id: str


@dataclass(frozen=True)
class Opened:
    """A transcript with who corrected it when, in the order of the corrections."""

    sealed: Sealed
    corrected_by: tuple[UUID, ...]
    corrected_at: tuple[datetime, ...]


@dataclass(frozen=True)
class Candidate:
    """A transcript in which all terms may be."""

    sealed: Sealed
    consultation_id: UUID
    recorded_at: datetime


@dataclass(frozen=True)
class Candidates:
    """The newest first; `is_cut` where older ones were left out."""

    found: tuple[Candidate, ...]
    is_cut: bool


async def open_transcript(
    tx: Transaction,
    action: Literal["transcript.read", "transcript.correct"],
    recording_id: UUID,
) -> Opened | None:
    """None where it is not the person's, or not there, or not READY. Raises Conflict (recording_being_deleted)."""
    row = await tx.one(_sql["open"], {"action": action, "id": recording_id})
    if row is None:
        return None
    sealed = Sealed(recording_id, row["sealed"], tuple(row["corrections"]), row["wrapped"], row["root_key"])
    return Opened(sealed, tuple(row["corrected_by"]), tuple(row["corrected_at"]))


async def correct(
    tx: Transaction, recording_id: UUID, number: int, sealed: bytes, terms: Collection[int]
) -> tuple[UUID, datetime]:
    """By whom and when it was made. Raises Conflict (transcript_changed)."""
    parameters = {"id": recording_id, "number": number, "sealed": sealed, "terms": sorted(terms)}
    row = await tx.one(_sql["correct"], parameters)
    assert row is not None  # noqa: S101 - it returns one row or raises
    return row["made_by"], row["made_at"]


async def index_key(tx: Transaction, keyring: Keyring) -> IndexKey | None:
    """None before anything was turned into words. Raises Conflict (root_key_unknown, data_key_wrong)."""
    row = await tx.one(_sql["word_index_key"])
    return None if row is None else IndexKey(keyring.unwrap_secret(row["wrapped"], row["root_key"]))


async def search(tx: Transaction, terms: Collection[int], where: SearchFilter, *, most: int) -> Candidates:
    """The newest of the person's own, at most so many and 40 MiB of them."""
    rows = await tx.all_in_binary(
        _sql["search"],
        {
            "terms": sorted(terms),
            "patient_id": where.patient_id,
            "consultation_id": where.consultation_id,
            "recording_id": where.recording_id,
            "since": where.since,
            "until": where.until,
            "with_sensitive": where.with_sensitive,
            "most": most,
        },
    )
    found = (
        Candidate(
            Sealed(
                row["recording_id"], row["sealed"], tuple(row["corrections"]), row["wrapped"], row["root_key"]
            ),
            row["consultation_id"],
            row["recorded_at"],
        )
        for row in rows
    )
    return Candidates(tuple(found), is_cut=any(row["is_cut"] for row in rows))


async def retry(tx: Transaction, recording_id: UUID) -> bool:
    """Return False if the recording is not the person's.

    Raises Conflict (transcription_not_failed, transcription_switched_off, transcription_consent_withdrawn,
    recording_being_deleted).
    """
    return bool(await tx.value(_sql["retry"], {"id": recording_id}))


async def switch(tx: Transaction, consultation_id: UUID, *, is_on: bool) -> bool:
    """False where it is not the person's."""
    return bool(await tx.value(_sql["switch"], {"id": consultation_id, "is_on": is_on}))


async def keep_subtitle_link(
    tx: Transaction, recording_id: UUID, secret: bytes, *, lifetime_seconds: int
) -> datetime | None:
    """Until when it is good; None where the transcript is not the person's, or not READY.

    Raises Conflict (recording_being_deleted).
    """
    parameters = {
        "id": recording_id,
        "secret_sha256": hashlib.sha256(secret).digest(),
        "lifetime_seconds": lifetime_seconds,
    }
    until: datetime | None = await tx.value(_sql["keep_subtitle_link"], parameters)
    return until


async def read_subtitle_link(tx: Transaction, secret: bytes) -> tuple[dict[str, object], UUID] | None:
    """As whom it is read, and which recording; None for a link that nobody gave, or that has expired."""
    row = await tx.one(_sql["read_subtitle_link"], {"secret": secret})
    return None if row is None else (row["claims"], row["of_recording"])
