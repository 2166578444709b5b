"""GraphQL types and root fields for psychotherapy notes (45 CFR 164.501), which are kept apart from session notes."""

import strawberry

from app.session_notes import model, service
from app.session_notes.model import NoteKind
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select
from graphql_schema.session_notes import (
    BASED_ON,
    START,
    TEXT,
    SessionNote,
    SessionNotes,
    WriteSessionNoteInput,
    note_or_refusal,
    selected_notes,
)


@strawberry.input(description="With this input, a doctor writes a psychotherapy note on a recording.")
class WritePsychotherapyNoteInput(WriteSessionNoteInput):
    pass


@strawberry.type(description="`writePsychotherapyNote` returns this payload.")
class WritePsychotherapyNotePayload:
    psychotherapy_note: SessionNote | None = strawberry.field(
        description=("This is the new line. If the call is repeated after the line was deleted, it is null.")
    )
    psychotherapy_notes: SessionNotes = strawberry.field(
        description="These are all psychotherapy notes of the consultation."
    )


@strawberry.input(description="With this input, a doctor edits a psychotherapy note.")
class EditPsychotherapyNoteInput:
    psychotherapy_note_id: strawberry.ID = strawberry.field(description="This is the id of the line.")
    text: str = strawberry.field(description=TEXT)
    start_seconds: float | None = strawberry.field(default=None, description=START)
    based_on_version: int = strawberry.field(description=BASED_ON)


@strawberry.type(description="`editPsychotherapyNote` returns this payload.")
class EditPsychotherapyNotePayload:
    changed: strawberry.Private[service.ChangedNotes]
    psychotherapy_notes: SessionNotes = strawberry.field(
        description=(
            "These are all psychotherapy notes of the consultation. If the edit was refused because the line has a "
            "later version, they are the newest notes."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is the edited line. If the line has a later version than the edit is based on, it is null, with the "
            "error `SESSION_NOTE_CHANGED` at its path."
        )
    )
    def psychotherapy_note(self) -> SessionNote | None:
        """Return the edited line. Raises Conflict (session_note_changed)."""
        return _note_of(note_or_refusal(self.changed), self.changed.notes)


@strawberry.input(description="With this input, a doctor deletes a psychotherapy note.")
class DeletePsychotherapyNoteInput:
    psychotherapy_note_id: strawberry.ID = strawberry.field(description="This is the id of the line.")
    based_on_version: int = strawberry.field(description=BASED_ON)


@strawberry.type(description="`deletePsychotherapyNote` returns this payload.")
class DeletePsychotherapyNotePayload:
    changed: strawberry.Private[service.ChangedNotes]
    psychotherapy_notes: SessionNotes = strawberry.field(
        description=(
            "These are the remaining psychotherapy notes of the consultation. If the deletion was refused because the "
            "line has a later version, they are the newest notes."
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


def _note_of(note: model.Note | None, read: service.ReadNotes) -> SessionNote | None:
    return None if note is None else SessionNote.of(note, read)


async def psychotherapy_notes(info: Info, consultation_id: strawberry.ID) -> SessionNotes | None:
    """Return the psychotherapy notes of one of the doctor's consultations."""
    read = await info.context.services.session_notes.read(
        await info.context.asker(), NoteKind.PSYCHOTHERAPY, parse_id(consultation_id), select(info)
    )
    return SessionNotes.of(read)


async def write_psychotherapy_note(
    info: Info, input: WritePsychotherapyNoteInput
) -> WritePsychotherapyNotePayload | None:
    """Write a psychotherapy note on a recording."""
    written = await info.context.services.session_notes.write(
        await info.context.asker(),
        NoteKind.PSYCHOTHERAPY,
        parse_id(input.recording_id),
        input.text,
        input.start_seconds,
        selected_notes(info, "psychotherapyNotes", "psychotherapyNote"),
        idempotency_key=input.idempotency_key,
    )
    return WritePsychotherapyNotePayload(
        psychotherapy_note=_note_of(written.note, written.notes),
        psychotherapy_notes=SessionNotes.of(written.notes),
    )


async def edit_psychotherapy_note(
    info: Info, input: EditPsychotherapyNoteInput
) -> EditPsychotherapyNotePayload | None:
    """Edit a psychotherapy note. The database keeps the earlier version until the line or its recording is deleted."""
    changed = await info.context.services.session_notes.edit(
        await info.context.asker(),
        NoteKind.PSYCHOTHERAPY,
        parse_id(input.psychotherapy_note_id),
        input.text,
        input.start_seconds,
        input.based_on_version,
        selected_notes(info, "psychotherapyNotes", "psychotherapyNote"),
    )
    return EditPsychotherapyNotePayload(changed=changed, psychotherapy_notes=SessionNotes.of(changed.notes))


async def delete_psychotherapy_note(
    info: Info, input: DeletePsychotherapyNoteInput
) -> DeletePsychotherapyNotePayload | None:
    """Delete a psychotherapy note with all its versions."""
    changed = await info.context.services.session_notes.delete(
        await info.context.asker(),
        NoteKind.PSYCHOTHERAPY,
        parse_id(input.psychotherapy_note_id),
        input.based_on_version,
        selected_notes(info, "psychotherapyNotes", "isDeleted"),
    )
    return DeletePsychotherapyNotePayload(changed=changed, psychotherapy_notes=SessionNotes.of(changed.notes))
