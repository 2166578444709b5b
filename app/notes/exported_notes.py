"""The files of signed notes in the encrypted copy for an access request: each signed version, and the note as a PDF in
English and Spanish.
"""

from collections.abc import Sequence
from contextlib import suppress

from psycopg.rows import DictRow

from app.access_requests.model import ExportedText
from app.errors import Conflict
from app.keys.keyring import Keyring
from app.notes.pdf import render_note_pdf
from app.notes.signed_notes import ReadNote, read_notes
from app.texts import LANGUAGES


def compose_note_files(keyring: Keyring, rows: Sequence[DictRow]) -> tuple[ExportedText, ...]:
    """Return the files of the signed notes, oldest note first. A note that the font of the PDF cannot print has only
    its signed versions.

    Raises Conflict (field_unreadable) if a version cannot be decrypted or its bytes are not the signed ones: a copy
    without a part of the record would not be honest.
    """
    with_metadata = [{**row, "metadata": "[]"} for row in rows]
    return tuple(file for note in reversed(read_notes(keyring, with_metadata)) for file in _files(note))


def _files(note: ReadNote) -> list[ExportedText]:
    contents: list[tuple[str, bytes]] = []
    for one in note.versions:
        if one.file is None:
            raise Conflict("field_unreadable")
        contents.append((f"signed-note-{one.version}.json", one.file))
    with suppress(Conflict):
        contents += [
            (
                f"signed-note-{language}.pdf",
                render_note_pdf(note.versions, language, has_notice=note.has_notice),
            )
            for language in LANGUAGES
        ]
    return [ExportedText(note.recording_id, name, note.signed_at, content) for name, content in contents]
