"""GraphQL types and root fields for signed notes: their versions, verified contents and PDFs."""

import base64
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Self

import anyio.to_thread
import strawberry

from app.insights.drafts import Section
from app.notes import note_format
from app.notes.model import LineAuthor
from app.notes.pdf import render_note_pdf
from app.notes.signed_notes import ReadNote, ReadVersion
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.texts import Language
from app.transcripts.model import Speaker
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.problems import SignedNoteProblem
from graphql_schema.recordings import Recording
from graphql_schema.references import PatientBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_optional_id, to_id
from graphql_schema.selected_fields import select


@strawberry.input(
    description="This filters signed notes. A field of the filter that is omitted matches every signed note."
)
class SignedNoteFilter:
    recording_id: strawberry.ID | None = strawberry.field(
        default=None, description="The filter selects only the note on this recording."
    )
    patient: PatientBy | None = strawberry.field(
        default=None, description="The filter selects only the notes on this patient."
    )


@strawberry.type(description="This is a quote of the recording. It is kept with the signed note.")
class SignedQuote:
    turn_number: int = strawberry.field(
        description="This is the number of the quoted turn of the transcript."
    )
    start_seconds: float = strawberry.field(
        description="The turn begins this many seconds after the beginning of the recording."
    )
    end_seconds: float = strawberry.field(
        description="The turn ends this many seconds after the beginning of the recording."
    )
    speaker: Speaker = strawberry.field(description="This is the role of the person who speaks in the turn.")
    quote: str = strawberry.field(description="This is the quoted text.")

    @classmethod
    def of(cls, citation: note_format.SignedCitation) -> Self:
        return cls(
            turn_number=citation.turn_number,
            start_seconds=citation.start_ms / 1000,
            end_seconds=citation.end_ms / 1000,
            speaker=citation.speaker,
            quote=citation.quote,
        )


@strawberry.type(description="This is one line of a signed note.")
class SignedNoteLine:
    text: str = strawberry.field(description="This is the text of the line.")
    is_written_by_model: bool = strawberry.field(
        description=(
            "This says whether a language model wrote the line and the doctor signed it unchanged. The doctor wrote or "
            "changed every other line."
        )
    )
    quotes: list[SignedQuote] = strawberry.field(
        description="These are the quotes of the line. The list may be empty."
    )

    @classmethod
    def of(cls, line: note_format.SignedLine) -> Self:
        return cls(
            text=line.text,
            is_written_by_model=line.author is LineAuthor.WRITER,
            quotes=[SignedQuote.of(one) for one in line.citations],
        )


@strawberry.type(
    description=(
        "A version of a signed note is the note itself or an addendum. If the stored bytes are not the signed "
        "bytes, `problem` says so, and the version has no content."
    )
)
class SignedNoteVersion:
    number: int = strawberry.field(
        description="This is the number of the version. Number 1 is the note, and each later number is an addendum."
    )
    signed_at: datetime = strawberry.field(description="This is when the doctor signed the version.")
    sha256: str = strawberry.field(
        description="This is the SHA-256 of the signed file in hex, as the audit log has it in `AuditEvent.digest`."
    )
    quote_count: int = strawberry.field(description="The version keeps this many quotes of the recording.")
    problem: SignedNoteProblem | None = strawberry.field(
        description="This says why the version cannot be shown. It is null if the version is verified."
    )
    json: str | None = strawberry.field(
        description=(
            "This is the signed file, byte for byte. Its SHA-256 is `sha256`. It is null if there is a problem. Only "
            "the doctor of the consultation receives it; for another clinician the query is refused with "
            "`SIGNED_NOTE_SHARED`."
        )
    )
    subjective: list[SignedNoteLine] = strawberry.field(
        description="These are the lines of the section S. An addendum has none."
    )
    objective: list[SignedNoteLine] = strawberry.field(
        description="These are the lines of the section O. An addendum has none."
    )
    assessment: list[SignedNoteLine] = strawberry.field(
        description="These are the lines of the section A. An addendum has none."
    )
    plan: list[SignedNoteLine] = strawberry.field(
        description="These are the lines of the section P. An addendum has none."
    )
    addendum: list[str] = strawberry.field(description="An addendum adds these lines. Version 1 has none.")

    @classmethod
    def of(cls, read: ReadVersion, language: Language) -> Self:
        note = read.note

        def lines(section: Section) -> list[SignedNoteLine]:
            return [] if note is None else [SignedNoteLine.of(one) for one in note.sections.get(section, ())]

        return cls(
            number=read.version,
            signed_at=read.signed_at,
            sha256=read.sha256,
            quote_count=read.quote_count,
            problem=SignedNoteProblem.of(read.problem, language),
            json=None if read.file is None else read.file.decode(),
            subjective=lines(Section.S),
            objective=lines(Section.O),
            assessment=lines(Section.A),
            plan=lines(Section.P),
            addendum=[] if note is None else list(note.addendum),
        )


@strawberry.type(
    description=(
        "A signed note has at most 100 versions, which are the note and the addenda to it. The note has a retention "
        "term of its own, so it is kept when its recording is destroyed. Only the doctor of the consultation, a "
        "colleague with whom it is shared and a clinician with emergency access may read it."
    )
)
class SignedNote(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the signed note.")
    recording: Recording = strawberry.field(
        description="This is the recording that the note is about. It may be DELETED."
    )
    signed_at: datetime = strawberry.field(description="This is when the doctor signed the note, version 1.")
    is_destroyed: bool = strawberry.field(
        description="This says whether the note is destroyed, because its retention term was over."
    )
    retention_ends_at: datetime | None = strawberry.field(
        description=(
            "This is the end of the retention term of the note, which counts from its newest version. It is null if no "
            "retention policy was in force."
        )
    )
    versions: list[SignedNoteVersion] = strawberry.field(
        description="These are the versions of the note, oldest first, at most 100."
    )
    read: strawberry.Private[Sequence[ReadVersion]]
    has_notice: strawberry.Private[bool]

    @classmethod
    def of(cls, note: ReadNote, language: Language) -> Self:
        return cls(
            id=to_id(note.id),
            recording=shown(Recording, note.metadata.get("recording", {})),
            signed_at=note.signed_at,
            is_destroyed=note.metadata.get("is_destroyed", False),
            retention_ends_at=note.metadata.get("retention_ends_at"),
            versions=[SignedNoteVersion.of(one, language) for one in note.versions],
            read=note.versions,
            has_notice=note.has_notice,
        )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is the note with its addenda as a PDF in Base64, in the language of the request, with the signed "
            "files attached. Only the doctor of the consultation receives it; for another clinician the query is "
            "refused with `SIGNED_NOTE_SHARED`. The note on a consultation of the sensitivity `SUBSTANCE_USE` has the "
            "notice of 42 CFR 2.32. It is refused with `SIGNED_NOTE_UNPRINTABLE` if the font lacks a character of the "
            "note."
        )
    )
    async def pdf_base64(self, info: Info) -> str:
        render = partial(render_note_pdf, self.read, info.context.language, has_notice=self.has_notice)
        document = await anyio.to_thread.run_sync(render)
        return base64.b64encode(document).decode()


async def signed_notes(
    info: Info,
    filter: SignedNoteFilter | None = None,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
) -> Connection[SignedNote] | None:
    """List the notes that the calling doctor signed, newest first."""
    wanted = filter or SignedNoteFilter()
    page = await info.context.services.signed_notes.page(
        await info.context.asker(),
        page_request(first, after),
        parse_optional_id(wanted.recording_id),
        wanted.patient.to_model() if wanted.patient else None,
        select(info, "edges", "node"),
    )
    language = info.context.language
    return Connection.of(
        page, lambda note: SignedNote.of(note, language), lambda note: Cursor(note.signed_at, note.id)
    )
