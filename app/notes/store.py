"""Reads and writes the encrypted note drafts of a person's own recordings, through SQL functions that first write a row
to the audit log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

from pydantic_core import from_json

from app.insights.drafts import Section
from app.notes.model import Writer
from app.notes.signed_store import SignedVersion
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_DRAFT: Final = ContentRead(
    entities=ENTITIES,
    entity="note_draft",
    where="r.id = %(id)s",
    order="id",
    content="private.open_note_draft(%(action)s, %(id)s, e.entities, %(fields)s)",
)


@dataclass(frozen=True, kw_only=True)
class EncryptedDraft:
    """What the text of a draft is made of, encrypted: the stored draft, or the insights if no doctor has changed the
    draft, and the transcript. `wrapped` is the recording's wrapped data key.
    """

    recording_id: UUID
    draft: bytes | None = field(repr=False)
    version: int
    insights: bytes | None = field(repr=False)
    generation: int | None
    dismissed: tuple[int, ...]
    writer: Writer | None
    transcript: bytes | None = field(repr=False)
    corrections: tuple[bytes, ...] = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key_id: str


@dataclass(frozen=True, kw_only=True)
class OpenedDraft:
    """An encrypted draft, and the facts about its recording. `metadata` has the selected `recording`. `signed_from` is
    the version that the doctor signed, or None. `written_sections` are being written by the language model, and
    `failed_sections` has the reason of each section that could not be written. `quotes_objection` says why a signed
    note may not keep quotes.
    """

    encrypted: EncryptedDraft
    metadata: Row
    consultation_id: UUID
    patient_id: UUID
    doctor_id: UUID
    recording_sha256: str | None
    duration_seconds: float | None
    is_truncated: bool
    is_interrupted: bool
    signed_from: int | None
    written_sections: frozenset[Section]
    failed_sections: Mapping[Section, str]
    insights_status: str | None
    transcript_status: str
    unused_track_count: int
    quotes_objection: str | None
    opened_at: datetime


async def open_draft(
    tx: Transaction, action: LiteralString, recording_id: UUID, selection: Selection
) -> OpenedDraft | None:
    """Write the audit row and return the encrypted draft with the selected metadata. Return None if the person may not
    read the draft, or if the recording does not exist or is not READY.

    Raises Conflict (recording_deleted, recording_being_deleted), RateLimited (quota_pages).
    """
    rows = await _DRAFT.all(
        tx,
        selection.only("recording"),
        {"action": action, "id": recording_id, "fields": list(selection.paths)},
    )
    return _opened(rows[0]) if rows else None


def read_encrypted(row: dict[str, Any]) -> EncryptedDraft:
    """Return the encrypted draft of a row of the type private.opened_note_draft."""
    return EncryptedDraft(
        recording_id=row["recording_id"],
        draft=row["draft"],
        version=row["version"],
        insights=row["insights"],
        generation=row["insights_generation"],
        dismissed=tuple(row["dismissed"]),
        writer=row["insights_model"] and Writer(row["insights_vendor"], row["insights_model"]),
        transcript=row["transcript"],
        corrections=tuple(row["corrections"]),
        wrapped=row["wrapped"],
        root_key_id=row["root_key"],
    )


def _opened(row: dict[str, Any]) -> OpenedDraft:
    (metadata,) = from_json(row["metadata"])
    return OpenedDraft(
        encrypted=read_encrypted(row),
        metadata=metadata,
        consultation_id=row["consultation_id"],
        patient_id=row["patient_id"],
        doctor_id=row["doctor_id"],
        recording_sha256=row["recording_sha256"],
        duration_seconds=row["duration_seconds"],
        is_truncated=row["is_truncated"],
        is_interrupted=row["is_interrupted"],
        signed_from=row["signed_from"],
        written_sections=frozenset(map(Section, row["written_sections"])),
        failed_sections={
            Section(section): error
            for section, error in zip(row["failed_sections"], row["section_errors"], strict=True)
        },
        insights_status=row["insights_status"],
        transcript_status=row["transcript_status"],
        unused_track_count=row["unused_track_count"],
        quotes_objection=row["quotes_objection"],
        opened_at=row["opened_at"],
    )


async def store_draft(
    tx: Transaction, recording_id: UUID, based_on: int, ciphertext: bytes, *, is_signed: bool = False
) -> int:
    """Store a new version of the draft, and return its number. Raises Conflict (note_draft_changed, note_signed)."""
    parameters = {"id": recording_id, "based_on": based_on, "ciphertext": ciphertext, "is_signed": is_signed}
    version: int = await tx.value(_sql["store_draft"], parameters)
    return version


async def is_signed(tx: Transaction, recording_id: UUID) -> bool:
    """Return whether the person has signed the note on the recording."""
    return bool(await tx.value(_sql["is_signed"], {"id": recording_id}))


async def list_versions(tx: Transaction, recording_id: UUID) -> list[SignedVersion]:
    """Return the signed versions of the person's note on a recording, oldest first."""
    rows = await tx.all(_sql["signed_versions"], {"id": recording_id})
    return [SignedVersion(row["note_id"], row["version"], row["signed_at"], row["sha256"]) for row in rows]


async def is_own_recording(tx: Transaction, recording_id: UUID) -> bool:
    """Return whether the recording belongs to the person."""
    return bool(await tx.value(_sql["is_own_recording"], {"id": recording_id}))
