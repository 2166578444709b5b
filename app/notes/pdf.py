"""The PDF of a signed note: pages for people, with the signed file of each version attached.

The module refuses a note with a character that the font lacks, because a missing character could change what the note
says.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Final

import pypdf

from app.certificates.model import format_moment
from app.errors import Conflict
from app.insights.drafts import Section
from app.notes.model import LineAuthor
from app.notes.note_format import NoteKind, SignedLine, SignedNote
from app.notes.signed_notes import ReadVersion
from app.pdf_pages import BOLD, PLAIN, Row, draw_pages, is_printable
from app.texts import Language, redisclosure_notice, signed_note_words

_SECTIONS: Final = {
    Section.S: "subjective",
    Section.O: "objective",
    Section.A: "assessment",
    Section.P: "plan",
}


def render_note_pdf(versions: Sequence[ReadVersion], language: Language, *, has_notice: bool) -> bytes:
    """Return the PDF of all versions of a signed note. A version that could not be verified has a sentence that says so
    in place of its text. With `has_notice`, the first page contains the notice against redisclosure. Raises Conflict
    (signed_note_unprintable).
    """
    rows = list(
        _rows(versions, signed_note_words(language), redisclosure_notice(language) if has_notice else None)
    )
    if not all(is_printable(text) for text, *_ in rows):
        raise Conflict("signed_note_unprintable")
    drawn = draw_pages(rows, signed_note_words(language)["page"])
    writer = pypdf.PdfWriter()
    for page in pypdf.PdfReader(io.BytesIO(drawn)).pages:
        writer.add_page(page)
    writer.metadata = {"/Title": signed_note_words(language)["title"], "/Producer": "resguardo"}
    for one in versions:
        if one.file is not None:
            writer.add_attachment(f"note-{one.version}.json", one.file)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _rows(versions: Sequence[ReadVersion], words: dict[str, str], notice: str | None) -> Iterator[Row]:
    yield words["title"], BOLD, 16, 0
    yield words["attached"], PLAIN, 8, 0
    if notice is not None:
        yield "", PLAIN, 6, 0
        yield notice, PLAIN, 9, 0
    for one in versions:
        kind = words["note" if one.version == 1 else "addendum"]
        yield "", PLAIN, 8, 0
        yield f"{kind} · {words['version']} {one.version}", BOLD, 12, 0
        yield f"{words['signed_at']}: {format_moment(one.signed_at)}", PLAIN, 8, 0
        yield f"{words['sha256']}: {one.sha256}", PLAIN, 8, 0
        if one.note is None:
            yield words["unreadable"], BOLD, 9, 0
        else:
            yield from _note_rows(one.note, words)


def _note_rows(note: SignedNote, words: dict[str, str]) -> Iterator[Row]:
    for name, value in (
        ("author", note.author_id),
        ("patient", note.patient_id),
        ("consultation", note.consultation_id),
        ("recording", note.recording_id),
    ):
        yield f"{words[name]}: {value}", PLAIN, 8, 0
    if note.kind is NoteKind.ADDENDUM:
        for text in note.addendum:
            yield text, PLAIN, 10, 12
        return
    for section, name in _SECTIONS.items():
        yield words[name], BOLD, 11, 0
        lines = note.sections.get(section, ())
        if not lines:
            yield words["empty"], PLAIN, 9, 12
        for line in lines:
            yield from _line_rows(line, words)


def _line_rows(line: SignedLine, words: dict[str, str]) -> Iterator[Row]:
    yield line.text, PLAIN, 10, 12
    if line.author is LineAuthor.WRITER:
        yield f"({words['by_model']})", PLAIN, 7, 24
    for one in line.citations:
        seconds = one.start_ms // 1000
        place = f"{seconds // 60}:{seconds % 60:02d}, {words[f'speaker_{one.speaker.value}']}"
        yield f"{words['quote']} ({place}): “{one.quote}”", PLAIN, 8, 24
