"""GraphQL types and root fields for notes: the draft, its edits, the flags, the signature, and addenda."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self

import strawberry

from app.insights import drafts
from app.insights import model as insights
from app.notes import model, service
from app.notes.editing import LineEdit
from app.notes.signed_store import SignedVersion
from app.texts import Language
from app.transcripts.model import Turn
from graphql_schema.citations import Citation, Coverage, Writer
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.insights import UncitedTurn
from graphql_schema.nodes import Node
from graphql_schema.problems import InsightsProblem
from graphql_schema.recordings import Recording
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, to_id
from graphql_schema.selected_fields import select

_RECORDING = "This is the id of a READY recording of the calling doctor."
_BASED_ON = (
    "This is `NoteDraft.version`, as the doctor saw it. If the draft has a different version now, the call is refused "
    "with `NOTE_DRAFT_CHANGED`."
)
_NEWEST = "This is the draft. If the change was refused because the draft has another version, it is the newest one."


@strawberry.type(description="This is a flag of a line, and how the doctor resolved it.")
class NoteFlag:
    flag: insights.Flag = strawberry.field(
        description="This says in what the line seems to differ from its quotes."
    )
    resolution: model.Resolution | None = strawberry.field(
        description=(
            "This says how the doctor resolved the flag. It is null if the doctor has not resolved it; the note then "
            "cannot be signed."
        )
    )


@strawberry.type(description="This is one line of a note draft.")
class NoteLine:
    number: int = strawberry.field(
        description="This number identifies the line in its draft, and never changes. `editNote` takes it."
    )
    text: str = strawberry.field(description="This is the text of the line.")
    author: model.LineAuthor = strawberry.field(description="This says who wrote the text.")
    flags: list[NoteFlag] = strawberry.field(
        description="These are the flags of the line. A line without a quote has none."
    )
    citations: list[Citation] = strawberry.field(
        description="These are the quotes that support the line. A new line of the doctor has none."
    )

    @classmethod
    def of(cls, checked: model.CheckedLine, turns: Mapping[int, Turn]) -> Self:
        line = checked.line
        return cls(
            number=line.number,
            text=line.text,
            author=line.author,
            flags=[NoteFlag(flag=one.flag, resolution=one.resolution) for one in checked.flags],
            citations=[Citation.of(one, turns) for one in line.citations if one.turn_number in turns],
        )


@strawberry.type(description="This is one section of a note draft, with its lines in their order.")
class NoteDraftSection:
    section: drafts.Section = strawberry.field(description="This says which section it is.")
    lines: list[NoteLine] = strawberry.field(description="These are the lines, at most 100.")
    is_being_written: bool = strawberry.field(
        description="This says whether the language model is writing the section again. Its lines stay until then."
    )
    problem: InsightsProblem | None = strawberry.field(
        description="This says why the language model could not write the section again. It is null otherwise."
    )


@strawberry.type(
    description=(
        "This is the draft of the note on a recording. It has the lines that the insights suggest, until the doctor "
        "changes it, and is empty without insights. It is deleted with its recording. Only the doctor of the recording "
        "may read it."
    )
)
class NoteDraft(Node):
    id: strawberry.ID = strawberry.field(
        description="This is the id of the draft, which is the id of its recording."
    )
    recording: Recording = strawberry.field(description="This is the recording that the note is about.")
    version: int = strawberry.field(
        description="This counts the versions of the draft. Each change takes it."
    )
    is_signed: bool = strawberry.field(
        description="This says whether the doctor has signed the note. A signed draft does not change any more."
    )
    is_stale: bool = strawberry.field(
        description=(
            "This says whether the transcript has changed since the insights were written, so that suggested lines may "
            "be wrong. A stale draft may be signed, and the signed note then says that it was stale."
        )
    )
    has_open_flags: bool = strawberry.field(
        description="This says whether a flag has no resolution, so that the note cannot be signed."
    )
    sections: list[NoteDraftSection] = strawberry.field(
        description="These are the sections S, O, A and P, in this order."
    )
    uncited_turns: list[UncitedTurn] = strawberry.field(
        description=(
            "These turns say a number, a dose, or something about an allergy or a medication, and no line cites them. "
            "They are at most 500, in order of their start."
        )
    )
    coverage: Coverage = strawberry.field(
        description="This says how much of the consultation the draft covers."
    )
    writer: Writer | None = strawberry.field(
        description=(
            "This is the language model that wrote the lines of the author WRITER. It is null if no model wrote a line."
        )
    )

    @classmethod
    def of(cls, read: service.ReadDraft, language: Language) -> Self:
        turns = {turn.number: turn for turn in read.turns}
        return cls(
            id=to_id(read.recording_id),
            recording=shown(Recording, read.metadata.get("recording", {})),
            version=read.version,
            is_signed=read.is_signed,
            is_stale=read.insights_status == "STALE",
            has_open_flags=read.has_open_flags,
            sections=[
                NoteDraftSection(
                    section=section,
                    lines=[NoteLine.of(line, turns) for line in lines],
                    is_being_written=section in read.written_sections,
                    problem=InsightsProblem.of(read.failed_sections.get(section), language),
                )
                for section, lines in read.sections.items()
            ],
            uncited_turns=[
                UncitedTurn(turn_number=one.turn_number, kinds=sorted(one.kinds), quotes=list(one.quotes))
                for one in read.uncited
            ],
            coverage=Coverage.of(read.coverage),
            writer=None
            if read.writer is None
            else Writer(vendor=read.writer.vendor, model=read.writer.model),
        )


@strawberry.input(description="This is one line that the doctor writes or keeps in a section.")
class NoteLineInput:
    text: str = strawberry.field(
        description="This is the text of the line, in at most 2,000 characters and without line breaks."
    )
    number: int | None = strawberry.field(
        default=None,
        description=(
            "This is the number of the line of the section that gets this text. The line keeps its citations. If the "
            "text changes, it is compared with the quotes again. Without a number, a line with the same text is kept, "
            "and any other text is a new line without citations."
        ),
    )


@strawberry.input(description="With this input, a doctor replaces the lines of one section.")
class EditNoteInput:
    recording_id: strawberry.ID = strawberry.field(description=_RECORDING)
    section: drafts.Section = strawberry.field(description="The lines of this section are replaced.")
    lines: list[NoteLineInput] = strawberry.field(
        description=(
            "These are all lines of the section in their order, at most 100. A line that is left out is removed, and "
            "its flags count as REMOVED."
        )
    )
    based_on_version: int = strawberry.field(description=_BASED_ON)


@strawberry.type(description="`editNote` returns this payload.")
class EditNotePayload:
    changed: strawberry.Private[service.ChangedDraft]
    edited: strawberry.Private[drafts.Section]
    note_draft: NoteDraft = strawberry.field(description=_NEWEST)

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is the edited section. If the draft has a different version than the edit is based on, it is null, "
            "with the error `NOTE_DRAFT_CHANGED` at its path."
        )
    )
    def section(self) -> NoteDraftSection | None:
        """Return the edited section. Raises Conflict (note_draft_changed)."""
        if self.changed.refusal is not None:
            raise self.changed.refusal
        return next(one for one in self.note_draft.sections if one.section is self.edited)


@strawberry.input(description="With this input, a doctor confirms a flagged line as it is.")
class KeepNoteFlagInput:
    recording_id: strawberry.ID = strawberry.field(description=_RECORDING)
    line_number: int = strawberry.field(
        description="This is the number of the line, as in `NoteLine.number`."
    )
    flag: insights.Flag = strawberry.field(description="This flag of the line becomes KEPT.")
    based_on_version: int = strawberry.field(description=_BASED_ON)


@strawberry.type(description="`keepNoteFlag` returns this payload.")
class KeepNoteFlagPayload:
    note_draft: NoteDraft = strawberry.field(description="This is the draft with the resolved flag.")


@strawberry.input(description="With this input, a doctor has one section of the draft written again.")
class RegenerateSectionInput:
    recording_id: strawberry.ID = strawberry.field(description=_RECORDING)
    section: drafts.Section = strawberry.field(
        description="The lines of this section are replaced. The other sections stay as they are."
    )
    based_on_version: int = strawberry.field(description=_BASED_ON)


@strawberry.type(description="`regenerateSection` returns this payload.")
class RegenerateSectionPayload:
    note_draft: NoteDraft = strawberry.field(
        description="This is the draft. It has the old lines of the section until the worker has the new ones."
    )


@strawberry.input(description="With this input, a doctor signs the note on a recording.")
class SignNoteInput:
    recording_id: strawberry.ID = strawberry.field(description=_RECORDING)
    based_on_version: int = strawberry.field(description=_BASED_ON)


@strawberry.type(
    description=(
        "This is a doctor's signature of one version of a note: the note itself, or an addendum. The signed version "
        "never changes."
    )
)
class NoteSignature:
    version: int = strawberry.field(
        description="This counts the signed versions from 1. Version 1 is the note, and each later one an addendum."
    )
    signed_at: datetime = strawberry.field(description="This is when the doctor signed the version.")
    sha256: str = strawberry.field(
        description="This is the SHA-256 of the signed file in hex, which the audit log contains."
    )

    @classmethod
    def of(cls, version: SignedVersion) -> Self:
        return cls(version=version.version, signed_at=version.signed_at, sha256=version.sha256)


@strawberry.type(description="`signNote` returns this payload.")
class SignNotePayload:
    note_draft: NoteDraft = strawberry.field(
        description="This is the draft from which the doctor signed the note."
    )
    signature: NoteSignature = strawberry.field(description="This is the doctor's signature of the note.")


@strawberry.input(description="With this input, a doctor signs lines and adds them to a signed note.")
class AddAddendumInput:
    recording_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of the recording of the signed note. The recording itself may be destroyed."
        )
    )
    lines: list[str] = strawberry.field(
        description="These are the added lines, 1 to 100, each of at most 2,000 characters and without line breaks."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`addAddendum` returns this payload.")
class AddAddendumPayload:
    signature: NoteSignature = strawberry.field(description="This is the doctor's signature of the addendum.")


async def note_draft(info: Info, recording_id: strawberry.ID) -> NoteDraft | None:
    """Return the draft of the note on one of the doctor's recordings."""
    read = await info.context.services.note_drafts.read(
        await info.context.asker(), parse_id(recording_id), select(info)
    )
    return NoteDraft.of(read, info.context.language)


async def edit_note(info: Info, input: EditNoteInput) -> EditNotePayload | None:
    """Replace the lines of one section."""
    payload = select(info)
    changed = await info.context.services.note_drafts.edit(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.section,
        [LineEdit(line.text, line.number) for line in input.lines],
        input.based_on_version,
        select(info, "noteDraft"),
        shows_newest={"noteDraft", "section"} <= payload.names(),
    )
    return EditNotePayload(
        changed=changed, edited=input.section, note_draft=NoteDraft.of(changed.draft, info.context.language)
    )


async def keep_note_flag(info: Info, input: KeepNoteFlagInput) -> KeepNoteFlagPayload | None:
    """Confirm a flagged line as it is."""
    changed = await info.context.services.note_drafts.keep_flag(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.line_number,
        input.flag,
        input.based_on_version,
        select(info, "noteDraft"),
    )
    return KeepNoteFlagPayload(note_draft=NoteDraft.of(changed.draft, info.context.language))


async def regenerate_section(info: Info, input: RegenerateSectionInput) -> RegenerateSectionPayload | None:
    """Ask the language model to write a section of the draft again."""
    read = await info.context.services.note_drafts.rewrite_section(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.section,
        input.based_on_version,
        select(info, "noteDraft"),
    )
    return RegenerateSectionPayload(note_draft=NoteDraft.of(read, info.context.language))


async def sign_note(info: Info, input: SignNoteInput) -> SignNotePayload | None:
    """Freeze the draft as a signed note."""
    signed = await info.context.services.note_signing.sign(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.based_on_version,
        select(info, "noteDraft"),
    )
    return SignNotePayload(
        note_draft=NoteDraft.of(signed.draft, info.context.language),
        signature=NoteSignature.of(signed.version),
    )


async def add_addendum(info: Info, input: AddAddendumInput) -> AddAddendumPayload | None:
    """Sign lines that are added to the signed note."""
    added = await info.context.services.note_signing.add_addendum(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.lines,
        idempotency_key=input.idempotency_key,
    )
    return AddAddendumPayload(signature=NoteSignature.of(added))
