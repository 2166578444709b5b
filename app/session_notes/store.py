"""Reads and writes the encrypted notes of a doctor's own consultations, through SQL functions that write the audit
rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from pydantic_core import from_json

from app.errors import Conflict
from app.keys.keyring import DataKey
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import SelectedField, Selection
from app.session_notes.encryption import EncryptedNote
from app.session_notes.model import NoteKind

_sql = Queries(Path(__file__).with_name("queries.sql"))
_READS: Final = {
    NoteKind.SESSION: ContentRead(
        entities=ENTITIES,
        entity="session_notes",
        where="r.id = %(id)s",
        order="id",
        content=(
            "private.open_session_notes("
            "%(action)s, %(id)s, %(only_note)s::uuid, e.entities, %(fields)s, %(is_counted)s)"
        ),
    ),
    NoteKind.PSYCHOTHERAPY: ContentRead(
        entities=ENTITIES,
        entity="session_notes",
        where="r.id = %(id)s",
        order="id",
        content=(
            "private.open_psychotherapy_notes("
            "%(action)s, %(id)s, %(only_note)s::uuid, e.entities, %(fields)s, %(is_counted)s)"
        ),
    ),
}


@dataclass(frozen=True)
class OpenedNotes:
    """The encrypted notes of a consultation in the order in which they were written, and the data keys of its
    recordings. `metadata` has the selected `consultation`, and the `recordings` if the recording of a note is
    selected. `is_incomplete` is true if notes were left out because the deletion of their recording was requested.
    """

    metadata: Row
    notes: tuple[EncryptedNote, ...]
    keys: Mapping[UUID, DataKey]
    is_incomplete: bool


@dataclass(frozen=True)
class BegunNote:
    """The recording on which a note is being written: its consultation, its data key, and its duration, which is None
    while it is not known.
    """

    consultation_id: UUID
    key: DataKey
    duration_seconds: float | None


@dataclass(frozen=True)
class BegunChange:
    """The newest version of a note that is being edited or deleted, and the data key of its recording."""

    recording_id: UUID
    consultation_id: UUID
    key: DataKey
    version: int
    start_ms: int | None
    ciphertext: bytes = field(repr=False)
    changed_by: UUID
    duration_seconds: float | None

    def require_version(self, version: int) -> None:
        """Raise Conflict (session_note_changed) if the newest version is not the given one."""
        if self.version != version:
            raise Conflict("session_note_changed")


async def open_notes(
    tx: Transaction,
    kind: NoteKind,
    action: LiteralString,
    consultation_id: UUID,
    selection: Selection,
    *,
    only_note: UUID | None = None,
    is_counted: bool,
) -> OpenedNotes | None:
    """Write the audit row and return the encrypted notes of a consultation, or only the note `only_note`, with the
    selected metadata. Return None if the person may not see the consultation. Raises RateLimited (quota_pages).
    """
    rows = await _READS[kind].all(
        tx,
        _select_metadata(selection),
        {
            "action": action,
            "id": consultation_id,
            "only_note": only_note,
            "fields": list(selection.paths),
            "is_counted": is_counted,
        },
    )
    if not rows:
        return None
    row = rows[0]
    (metadata,) = from_json(row["metadata"])
    columns = (
        "ids",
        "recording_ids",
        "author_ids",
        "starts",
        "versions",
        "ciphertexts",
        "written",
        "changed",
    )
    notes = (
        EncryptedNote(*values)
        for values in zip(*(row[column] for column in (*columns, "changed_by")), strict=True)
    )
    keys = zip(row["keyed_recordings"], row["wrapped_keys"], row["root_keys"], strict=True)
    return OpenedNotes(
        metadata,
        tuple(notes),
        {recording_id: DataKey(wrapped, root_key) for recording_id, wrapped, root_key in keys},
        row["is_incomplete"],
    )


def _select_metadata(selection: Selection) -> Selection:
    """Return the part of the selection that the database reads. The statement reads all recordings of the
    consultation if the recording of a note is selected.
    """
    fields = [one for one in selection.fields if one.name == "consultation"]
    recording = selection.below("lines", "recording")
    if recording.fields:
        fields.append(SelectedField("recordings", {}, recording))
    return Selection(tuple(fields))


async def begin_note(
    tx: Transaction, action: LiteralString, recording_id: UUID, offered: Sequence[DataKey]
) -> BegunNote | None:
    """Lock the recording, and return its data key. If the recording has no data key yet, store the first of the offered
    ones whose root key is registered. Return
    None if the person may not see the recording. Raises Conflict (recording_deleted, recording_being_deleted,
    root_key_unknown), RateLimited (quota_pages).
    """
    parameters = {
        "action": action,
        "recording_id": recording_id,
        "new_keys": [one.wrapped for one in offered],
        "new_root_keys": [one.root_key_id for one in offered],
    }
    row = await tx.one(_sql["begin"], parameters)
    if row is None:
        return None
    return BegunNote(
        row["consultation_id"], DataKey(row["wrapped"], row["root_key"]), row["duration_seconds"]
    )


async def add_note(
    tx: Transaction,
    action: LiteralString,
    recording_id: UUID,
    note_id: UUID,
    start_ms: int | None,
    ciphertext: bytes,
) -> None:
    """Store a new note that the transaction has begun to write. Raises Conflict (session_notes_full)."""
    parameters = {
        "action": action,
        "recording_id": recording_id,
        "note_id": note_id,
        "start_ms": start_ms,
        "ciphertext": ciphertext,
    }
    await tx.run(_sql["add"], parameters)


async def begin_change(tx: Transaction, action: LiteralString, note_id: UUID) -> BegunChange | None:
    """Lock a note and return its newest version. Return None if the person may not see the note or it does not exist.
    Raises Conflict (recording_deleted, recording_being_deleted), RateLimited (quota_pages).
    """
    row = await tx.one(_sql["begin_change"], {"action": action, "note_id": note_id})
    if row is None:
        return None
    key = DataKey(row.pop("wrapped"), row.pop("root_key"))
    return BegunChange(key=key, **row)


async def change_note(
    tx: Transaction,
    action: LiteralString,
    note_id: UUID,
    based_on_version: int,
    start_ms: int | None,
    ciphertext: bytes,
) -> None:
    """Replace the newest version of a note that the transaction has begun to edit. Raises Conflict
    (session_note_changed, session_note_versions_full).
    """
    parameters = {
        "action": action,
        "note_id": note_id,
        "based_on": based_on_version,
        "start_ms": start_ms,
        "ciphertext": ciphertext,
    }
    await tx.run(_sql["change"], parameters)


async def delete_note(tx: Transaction, action: LiteralString, note_id: UUID, based_on_version: int) -> None:
    """Delete a note with all its versions, after the transaction has begun to delete it. Raises Conflict
    (recording_held, session_note_changed).
    """
    await tx.run(_sql["delete"], {"action": action, "note_id": note_id, "based_on": based_on_version})


async def read_version(tx: Transaction, consultation_id: UUID) -> str | None:
    """Return a text that differs after each change of the consultation's session notes, or None if the person may not
    see the consultation. Writes no audit row.
    """
    version: str | None = await tx.value(_sql["version"], {"consultation_id": consultation_id})
    return version
