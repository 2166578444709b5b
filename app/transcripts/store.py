"""Reads and writes the encrypted transcripts of a person's own recordings, through SQL functions that first write a
row to the audit log.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from pydantic_core import from_json

from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import SelectedField, Selection
from app.transcripts.model import SearchFilter
from app.transcripts.search.word_index import IndexKey

_sql = Queries(Path(__file__).with_name("queries.sql"))
_TRANSCRIPT: Final = ContentRead(
    entities=ENTITIES,
    entity="transcript",
    where="r.recording_id = %(id)s",
    order="id",
    content="private.open_transcript(%(action)s, %(id)s, e.entities, %(fields)s)",
)
_HITS: Final = ContentRead(
    entities=ENTITIES,
    entity="transcript_hit",
    where="true",
    order="place",
    content="(select private.add_shown_hits(%(search_id)s, e.entities) as is_added)",
)


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
    """An encrypted transcript with its id, and the author and time of each correction, in order. `metadata` has the
    selected `recording` and `coverage`, and the `participants` of the consultation if a turn's participant is selected.
    """

    id: UUID
    metadata: Row
    encrypted: EncryptedTranscript
    corrected_by: tuple[UUID, ...]
    corrected_at: tuple[datetime, ...]


@dataclass(frozen=True)
class Candidate:
    """A candidate: an encrypted transcript that may contain all terms of a search."""

    encrypted: EncryptedTranscript


@dataclass(frozen=True)
class Candidates:
    """The candidates of a search, newest first. `is_cut` is true if there were too many candidates, so that older
    ones were left out. `search_id` is None if there are no candidates.
    """

    search_id: UUID | None
    found: tuple[Candidate, ...]
    is_cut: bool


async def open_transcript(
    tx: Transaction,
    action: LiteralString,
    recording_id: UUID,
    selection: Selection,
) -> OpenedTranscript | None:
    """Write the audit row and return the encrypted transcript with the selected metadata. Return None if the person
    may not read the transcript, or if it does not exist or is not READY. Raises Conflict (recording_being_deleted).
    """
    rows = await _TRANSCRIPT.all(
        tx,
        _select_metadata(selection),
        {"action": action, "id": recording_id, "fields": list(selection.paths)},
    )
    if not rows:
        return None
    row = rows[0]
    encrypted = EncryptedTranscript(
        recording_id, row["ciphertext"], tuple(row["corrections"]), row["wrapped"], row["root_key"]
    )
    (metadata,) = from_json(row["metadata"])
    return OpenedTranscript(
        row["id"], metadata, encrypted, tuple(row["corrected_by"]), tuple(row["corrected_at"])
    )


def _select_metadata(selection: Selection) -> Selection:
    """Return the part of a transcript's selection that the database reads. Only the decrypted text says which
    participants speak, so the statement reads all participants of the consultation.
    """
    fields = [one for one in selection.fields if one.name in {"recording", "coverage"}]
    participant = selection.below("turns", "participant")
    if participant.fields:
        fields.append(SelectedField("participants", {}, participant))
    return Selection(tuple(fields))


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


def check_hits(tx: Transaction, selection: Selection) -> None:
    """Raise InvalidInput (bad_page_size, bad_cursor) if `show_hits` would, even if the search has no hit."""
    _HITS.check(tx, _select_of_hits(selection))


async def search(
    tx: Transaction, terms: Collection[int], where: SearchFilter, *, most: int, fields: Sequence[str]
) -> Candidates:
    """Return the newest transcripts of the person's own recordings that may contain all terms: at most `most`
    transcripts, of at most 40 MiB in total. The commit of the transaction writes the audit row with these fields.
    """
    rows = await tx.all_in_binary(
        _sql["search"],
        {"terms": sorted(terms), "most": most, "fields": list(fields), **where.parameters},
    )
    found = (
        Candidate(
            EncryptedTranscript(
                row["recording_id"],
                row["ciphertext"],
                tuple(row["corrections"]),
                row["wrapped"],
                row["root_key"],
            )
        )
        for row in rows
    )
    search_id = rows[0]["search_id"] if rows else None
    return Candidates(search_id, tuple(found), is_cut=any(row["is_cut"] for row in rows))


async def show_hits(
    tx: Transaction, search_id: UUID, hits: Sequence[tuple[UUID, UUID | None]], selection: Selection
) -> list[Row]:
    """Return the selected recording and participant of each hit, in the order of the hits, and add what they show to
    the audit row of the search. A hit is the id of its recording and of its participant.
    """
    parameters = {
        "search_id": search_id,
        "recording_ids": [recording_id for recording_id, _ in hits],
        "participant_ids": [participant_id for _, participant_id in hits],
    }
    (row,) = await _HITS.all(tx, _select_of_hits(selection), parameters)
    if not row["is_added"]:
        raise RuntimeError("the transaction has no such search")
    shown: list[Row] = from_json(row["metadata"])
    return shown


def _select_of_hits(selection: Selection) -> Selection:
    return Selection(tuple(one for one in selection.fields if one.name in {"recording", "participant"}))


async def retry(tx: Transaction, recording_id: UUID) -> bool:
    """Retry a transcription. Return False, after writing the audit row, if the recording does not belong to the
    person or has no transcript. Raises Conflict
    (transcription_not_failed, transcription_switched_off, transcription_consent_withdrawn,
    recording_being_deleted).
    """
    return bool(await tx.value(_sql["retry"], {"id": recording_id}))


async def switch(tx: Transaction, consultation_id: UUID, *, is_on: bool) -> None:
    """Switch transcription of a consultation on or off, if the consultation belongs to the person."""
    await tx.run(_sql["switch"], {"id": consultation_id, "is_on": is_on})


async def store_subtitle_link(
    tx: Transaction, recording_id: UUID, secret: bytes, *, lifetime_seconds: int
) -> tuple[datetime, int, bool] | None:
    """Store a subtitle link, and return its expiry, the number of seconds until the expiry, and whether the notice
    against redisclosure accompanies the subtitles. Return None if the transcript does not belong to the person or is
    not READY.

    Raises Conflict (recording_being_deleted).
    """
    parameters = {
        "id": recording_id,
        "secret_sha256": hashlib.sha256(secret).digest(),
        "lifetime_seconds": lifetime_seconds,
    }
    row = await tx.one(_sql["store_subtitle_link"], parameters)
    if row is None or row["expires_at"] is None:
        return None
    return row["expires_at"], row["expires_in_seconds"], row["has_notice"]


async def read_subtitle_link(tx: Transaction, secret: bytes) -> tuple[dict[str, object], UUID, bool] | None:
    """Return the claims and the recording of a subtitle link, and whether the notice against redisclosure
    accompanies the subtitles. Return None for an unknown or expired link.
    """
    row = await tx.one(_sql["read_subtitle_link"], {"secret": secret})
    return None if row is None else (row["claims"], row["of_recording"], row["has_notice"])
