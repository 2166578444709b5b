"""The session notes in the encrypted copy for an access request. Pure.

The copy contains every version of each note, because a patient's record includes what a note said before an edit. A
psychotherapy note is never part of a copy (45 CFR 164.524(a)(1)(i)).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from uuid import UUID

from app.access_requests.model import ExportedText
from app.keys.keyring import FieldKey, Keyring
from app.session_notes.encryption import decrypt_text
from app.session_notes.model import NoteKind


@dataclass(frozen=True)
class ExportedNote:
    """One version of a note, encrypted, and the data key of its recording."""

    recording_id: UUID
    recorded_at: datetime
    wrapped: bytes = field(repr=False)
    root_key: str
    note_id: UUID
    author_id: UUID
    written_at: datetime
    version: int
    start_ms: int | None
    ciphertext: bytes = field(repr=False)
    changed_by: UUID
    changed_at: datetime


def compose_texts(keyring: Keyring, notes: Iterable[ExportedNote]) -> tuple[ExportedText, ...]:
    """Return one JSON file of session notes for each recording. `notes` has the versions of each note together, and
    the notes of each recording together. Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong).
    """
    texts = []
    for recording_id, of_recording in groupby(notes, key=lambda one: one.recording_id):
        versions = list(of_recording)
        key = keyring.unwrap(versions[0].wrapped, versions[0].root_key)
        lines = [
            _describe_line(key, list(of_note)) for _, of_note in groupby(versions, lambda one: one.note_id)
        ]
        content = json.dumps({"recordingId": str(recording_id), "lines": lines}, ensure_ascii=False, indent=2)
        texts.append(
            ExportedText(recording_id, "session-notes.json", versions[0].recorded_at, content.encode())
        )
    return tuple(texts)


def _describe_line(key: FieldKey, versions: list[ExportedNote]) -> dict[str, object]:
    first = versions[0]
    return {
        "id": str(first.note_id),
        "authorId": str(first.author_id),
        "writtenAt": first.written_at.isoformat(),
        "versions": [_describe_version(key, one) for one in versions],
    }


def _describe_version(key: FieldKey, one: ExportedNote) -> dict[str, object]:
    text = decrypt_text(key, NoteKind.SESSION, one.recording_id, one.note_id, one.version, one.ciphertext)
    return {
        "version": one.version,
        "startSeconds": None if one.start_ms is None else one.start_ms / 1000,
        "text": text,
        "changedBy": str(one.changed_by),
        "changedAt": one.changed_at.isoformat(),
    }
