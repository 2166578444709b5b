"""GraphQL types and root fields for session notes: reading, the subscription, and the mutations of one line."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Self
from uuid import uuid5

import strawberry

from app.postgres.selection import SelectedField, merge
from app.session_notes import model, service
from app.session_notes.model import NoteKind
from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.recordings import Recording
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, to_id
from graphql_schema.selected_fields import select

TEXT = (
    f"This is the text of the line, in 1 to {model.MAX_NOTE_CHARACTERS:,} characters without line breaks, control "
    "characters or direction marks."
)
START = (
    "The line is about this time in the recording, in seconds from its beginning. If it is omitted, the line has no "
    "time."
)
BASED_ON = (
    "This is the `version` of the line that the doctor saw. If the line has a later version, the call is refused "
    "with `SESSION_NOTE_CHANGED`."
)


@strawberry.type(
    description=(
        "A note is one line that a doctor writes on a consultation. It belongs to a recording of the consultation, is "
        "encrypted with the recording's key, and is destroyed with the recording."
    )
)
class SessionNote(Node):
    id: strawberry.ID = strawberry.field(
        description="This is the id of the line, which stays the same when the line is edited."
    )
    recording: Recording = strawberry.field(description="This is the recording to which the line belongs.")
    author: User = strawberry.field(description="This is the person who wrote the first version of the line.")
    start_seconds: float | None = strawberry.field(
        description=(
            "The line is about this time in the recording, in seconds from its beginning. It is null if the line has "
            "no time."
        )
    )
    text: str = strawberry.field(description="This is the text of the line.")
    version: int = strawberry.field(
        description="This counts the versions of the line from 1. An edit or a deletion names it."
    )
    written_at: datetime = strawberry.field(description="This is when the first version was written.")
    changed_at: datetime = strawberry.field(description="This is when the newest version was written.")
    changed_by: User = strawberry.field(description="This is the person who wrote the newest version.")

    @classmethod
    def of(cls, note: model.Note, read: service.ReadNotes) -> Self:
        """Return the line. `read` has the recordings of the consultation, if they are selected."""
        recordings = {one["id"]: one for one in read.metadata.get("recordings", ())}
        return cls(
            id=to_id(note.id),
            recording=shown(Recording, recordings.get(str(note.recording_id), {})),
            author=User(id=to_id(note.author_id)),
            start_seconds=None if note.start_ms is None else note.start_ms / 1000,
            text=note.text,
            version=note.version,
            written_at=note.written_at,
            changed_at=note.changed_at,
            changed_by=User(id=to_id(note.changed_by)),
        )


@strawberry.type(
    description=(
        "These are the notes of one kind on a consultation. Only the doctor of the consultation may read them."
    )
)
class SessionNotes(Node):
    id: strawberry.ID = strawberry.field(
        description="This is the id of the consultation's notes of this kind, which never changes."
    )
    kind: NoteKind = strawberry.field(description="This is the kind of the notes.")
    consultation: Consultation = strawberry.field(description="This is the consultation of the notes.")
    lines: list[SessionNote] = strawberry.field(
        description=(
            "These are the lines in the order in which they were written, at most 1,000. No line is of another kind."
        )
    )
    is_incomplete: bool = strawberry.field(
        description=(
            "This says whether lines are left out because the deletion of their recording was requested. They are "
            "shown again if the deletion is undone."
        )
    )

    @classmethod
    def of(cls, read: service.ReadNotes) -> Self:
        return cls(
            id=to_id(uuid5(read.consultation_id, read.kind.value)),
            kind=read.kind,
            consultation=shown(Consultation, read.metadata.get("consultation", {})),
            lines=[SessionNote.of(one, read) for one in read.notes],
            is_incomplete=read.is_incomplete,
        )


@strawberry.input(description="With this input, a doctor writes a line on a recording.")
class WriteSessionNoteInput:
    recording_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of a recording of the calling doctor. The recording may still be running, and it must not "
            "be destroyed."
        )
    )
    text: str = strawberry.field(description=TEXT)
    start_seconds: float | None = strawberry.field(default=None, description=START)
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`writeSessionNote` returns this payload.")
class WriteSessionNotePayload:
    session_note: SessionNote | None = strawberry.field(
        description=("This is the new line. If the call is repeated after the line was deleted, it is null.")
    )
    session_notes: SessionNotes = strawberry.field(description="These are all notes of the consultation.")


@strawberry.input(description="With this input, a doctor edits a line.")
class EditSessionNoteInput:
    session_note_id: strawberry.ID = strawberry.field(description="This is the id of the line.")
    text: str = strawberry.field(description=TEXT)
    start_seconds: float | None = strawberry.field(default=None, description=START)
    based_on_version: int = strawberry.field(description=BASED_ON)


@strawberry.type(description="`editSessionNote` returns this payload.")
class EditSessionNotePayload:
    changed: strawberry.Private[service.ChangedNotes]
    session_notes: SessionNotes = strawberry.field(
        description=(
            "These are all notes of the consultation. If the edit was refused because the line has a later version, "
            "they are the newest notes."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is the edited line. If the line has a later version than the edit is based on, it is null, with the "
            "error `SESSION_NOTE_CHANGED` at its path."
        )
    )
    def session_note(self) -> SessionNote | None:
        """Return the edited line. Raises Conflict (session_note_changed)."""
        note = note_or_refusal(self.changed)
        return None if note is None else SessionNote.of(note, self.changed.notes)


@strawberry.input(description="With this input, a doctor deletes a line.")
class DeleteSessionNoteInput:
    session_note_id: strawberry.ID = strawberry.field(description="This is the id of the line.")
    based_on_version: int = strawberry.field(description=BASED_ON)


@strawberry.type(description="`deleteSessionNote` returns this payload.")
class DeleteSessionNotePayload:
    changed: strawberry.Private[service.ChangedNotes]
    session_notes: SessionNotes = strawberry.field(
        description=(
            "These are the remaining notes of the consultation. If the deletion was refused because the line has a "
            "later version, they are the newest notes."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is true. If the line has a later version than the deletion is based on, it is null, with the error "
            "`SESSION_NOTE_CHANGED` at its path."
        )
    )
    def is_deleted(self) -> bool | None:
        """Return True. Raises Conflict (session_note_changed)."""
        return note_or_refusal(self.changed) is None


def note_or_refusal(changed: service.ChangedNotes) -> model.Note | None:
    """Return the changed note. Raises the refusal of the call, if the answer shows the newest notes besides it."""
    if changed.refusal is not None:
        raise changed.refusal
    return changed.note


def selected_notes(info: Info, notes: str, changed: str) -> service.NoteSelection:
    """Return what the client selects of a payload whose fields `notes` and `changed` are all notes, and the changed
    note or whether it was deleted.
    """
    payload = select(info)
    whole, one = payload.below(notes), payload.below(changed)
    line = (SelectedField("lines", {}, one),) if one.fields else ()
    names = payload.names()
    return service.NoteSelection(
        merge((whole.fields, line)), only_note=notes not in names, shows_newest={notes, changed} <= names
    )


async def session_notes(info: Info, consultation_id: strawberry.ID) -> SessionNotes | None:
    """Return the session notes of one of the doctor's consultations."""
    read = await info.context.services.session_notes.read(
        await info.context.asker(), NoteKind.SESSION, parse_id(consultation_id), select(info)
    )
    return SessionNotes.of(read)


async def session_notes_changed(
    info: Info, consultation_id: strawberry.ID
) -> AsyncGenerator[SessionNotes | None, None]:
    """Yield the session notes of a consultation, and then again after each change of them."""
    watching = info.context.services.session_notes.watch(
        await info.context.asker(), parse_id(consultation_id), select(info), info.context.person_slot
    )
    async with aclosing(watching) as changes:
        async for read in changes:
            yield SessionNotes.of(read)


async def write_session_note(info: Info, input: WriteSessionNoteInput) -> WriteSessionNotePayload | None:
    """Write a line on a recording. A recording that is not READY gets its encryption key with its first line."""
    written = await info.context.services.session_notes.write(
        await info.context.asker(),
        NoteKind.SESSION,
        parse_id(input.recording_id),
        input.text,
        input.start_seconds,
        selected_notes(info, "sessionNotes", "sessionNote"),
        idempotency_key=input.idempotency_key,
    )
    note = None if written.note is None else SessionNote.of(written.note, written.notes)
    return WriteSessionNotePayload(session_note=note, session_notes=SessionNotes.of(written.notes))


async def edit_session_note(info: Info, input: EditSessionNoteInput) -> EditSessionNotePayload | None:
    """Edit a line. The database keeps the earlier version until the line or its recording is deleted."""
    changed = await info.context.services.session_notes.edit(
        await info.context.asker(),
        NoteKind.SESSION,
        parse_id(input.session_note_id),
        input.text,
        input.start_seconds,
        input.based_on_version,
        selected_notes(info, "sessionNotes", "sessionNote"),
    )
    return EditSessionNotePayload(changed=changed, session_notes=SessionNotes.of(changed.notes))


async def delete_session_note(info: Info, input: DeleteSessionNoteInput) -> DeleteSessionNotePayload | None:
    """Delete a line with all its versions."""
    changed = await info.context.services.session_notes.delete(
        await info.context.asker(),
        NoteKind.SESSION,
        parse_id(input.session_note_id),
        input.based_on_version,
        selected_notes(info, "sessionNotes", "isDeleted"),
    )
    return DeleteSessionNotePayload(changed=changed, session_notes=SessionNotes.of(changed.notes))
