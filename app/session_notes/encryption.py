"""Encrypts and decrypts notes with the data key of their recording (AES-256-GCM).

Each ciphertext is bound to its table, note, version and column, so a ciphertext that was moved to another note cannot
be decrypted. A ciphertext does not change when an edit moves it into the table of earlier versions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from app.errors import Conflict
from app.keys.keyring import DataKey, Field, FieldKey, Keyring
from app.session_notes.model import Note, NoteKind

_TABLES: Final = {NoteKind.SESSION: "session_notes", NoteKind.PSYCHOTHERAPY: "psychotherapy_notes"}


@dataclass(frozen=True)
class EncryptedNote:
    """A note with its encrypted text."""

    id: UUID
    recording_id: UUID
    author_id: UUID
    start_ms: int | None
    version: int
    ciphertext: bytes = field(repr=False)
    written_at: datetime
    changed_at: datetime
    changed_by: UUID


def note_field(kind: NoteKind, recording_id: UUID, note_id: UUID, version: int) -> Field:
    """Return the table, row and column for which a version of a note is encrypted."""
    return Field(_TABLES[kind], f"{note_id}:{version}", "ciphertext", key_id=str(recording_id))


def encrypt_text(
    key: FieldKey, kind: NoteKind, recording_id: UUID, note_id: UUID, version: int, text: str
) -> bytes:
    """Return the encrypted text of a version of a note."""
    return key.encrypt(note_field(kind, recording_id, note_id, version), text.encode())


def decrypt_text(
    key: FieldKey, kind: NoteKind, recording_id: UUID, note_id: UUID, version: int, ciphertext: bytes
) -> str:
    """Return the text of a version of a note. Raises Conflict (field_unreadable)."""
    return key.decrypt(note_field(kind, recording_id, note_id, version), ciphertext).decode()


def decrypt_notes(
    keyring: Keyring, kind: NoteKind, keys: Mapping[UUID, DataKey], notes: Iterable[EncryptedNote]
) -> tuple[Note, ...]:
    """Decrypt notes with the data keys of their recordings. Raises Conflict (field_unreadable, root_key_unknown,
    data_key_wrong).
    """
    opened: dict[UUID, FieldKey] = {}

    def key_of(recording_id: UUID) -> FieldKey:
        if recording_id not in opened:
            if recording_id not in keys:
                raise Conflict("field_unreadable")
            opened[recording_id] = keyring.unwrap(keys[recording_id].wrapped, keys[recording_id].root_key_id)
        return opened[recording_id]

    return tuple(
        Note(
            one.id,
            one.recording_id,
            one.author_id,
            one.start_ms,
            one.version,
            decrypt_text(
                key_of(one.recording_id), kind, one.recording_id, one.id, one.version, one.ciphertext
            ),
            one.written_at,
            one.changed_at,
            one.changed_by,
        )
        for one in notes
    )
