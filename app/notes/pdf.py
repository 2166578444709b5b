"""The PDF of a signed note: pages for people, with the signed file of each version attached.

The text is drawn with Bitstream Vera, which the library reportlab contains, so that every machine draws the same pages
and no font is downloaded. The font has the letters of English, Spanish and most other European languages in Latin
script. A note with another character is refused, because a missing character could change what the note says.
"""

import io
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

import pypdf
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import simpleSplit
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from app.certificates.model import format_moment
from app.errors import Conflict
from app.insights.drafts import Section
from app.notes.model import LineAuthor
from app.notes.note_format import NoteKind, SignedLine, SignedNote
from app.notes.signed_notes import ReadVersion
from app.texts import Language, signed_note_words

_WIDTH, _HEIGHT = A4
_LEFT, _RIGHT, _TOP, _BOTTOM, _FOOT = 48, _WIDTH - 40, 48, 60, 36
_PLAIN, _BOLD = "Vera", "VeraBd"
_SECTIONS: Final = {
    Section.S: "subjective",
    Section.O: "objective",
    Section.A: "assessment",
    Section.P: "plan",
}
_Row = tuple[str, str, float, float]
"""A row of text: the text, its font, its size in points, and its indent in points."""
_drawing = threading.Lock()
"""reportlab keeps the subset of a font in a global object, so two documents must not be drawn at the same time."""


def render_note_pdf(versions: Sequence[ReadVersion], language: Language) -> bytes:
    """Return the PDF of all versions of a signed note. A version that could not be verified has a sentence that says so
    in place of its text. Raises Conflict (signed_note_unprintable).
    """
    rows = list(_rows(versions, signed_note_words(language)))
    if not all(_is_printable(text) for text, *_ in rows):
        raise Conflict("signed_note_unprintable")
    with _drawing:
        drawn = _draw(rows, signed_note_words(language)["page"])
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


def _rows(versions: Sequence[ReadVersion], words: dict[str, str]) -> Iterator[_Row]:
    yield words["title"], _BOLD, 16, 0
    yield words["attached"], _PLAIN, 8, 0
    for one in versions:
        kind = words["note" if one.version == 1 else "addendum"]
        yield "", _PLAIN, 8, 0
        yield f"{kind} · {words['version']} {one.version}", _BOLD, 12, 0
        yield f"{words['signed_at']}: {format_moment(one.signed_at)}", _PLAIN, 8, 0
        yield f"{words['sha256']}: {one.sha256}", _PLAIN, 8, 0
        if one.note is None:
            yield words["unreadable"], _BOLD, 9, 0
        else:
            yield from _note_rows(one.note, words)


def _note_rows(note: SignedNote, words: dict[str, str]) -> Iterator[_Row]:
    for name, value in (
        ("author", note.author_id),
        ("patient", note.patient_id),
        ("consultation", note.consultation_id),
        ("recording", note.recording_id),
    ):
        yield f"{words[name]}: {value}", _PLAIN, 8, 0
    if note.kind is NoteKind.ADDENDUM:
        for text in note.addendum:
            yield text, _PLAIN, 10, 12
        return
    for section, name in _SECTIONS.items():
        yield words[name], _BOLD, 11, 0
        lines = note.sections.get(section, ())
        if not lines:
            yield words["empty"], _PLAIN, 9, 12
        for line in lines:
            yield from _line_rows(line, words)


def _line_rows(line: SignedLine, words: dict[str, str]) -> Iterator[_Row]:
    yield line.text, _PLAIN, 10, 12
    if line.author is LineAuthor.WRITER:
        yield f"({words['by_model']})", _PLAIN, 7, 24
    for one in line.citations:
        seconds = one.start_ms // 1000
        place = f"{seconds // 60}:{seconds % 60:02d}, {words[f'speaker_{one.speaker.value}']}"
        yield f"{words['quote']} ({place}): “{one.quote}”", _PLAIN, 8, 24


def _draw(rows: Sequence[_Row], page_word: str) -> bytes:
    _register_fonts()
    drawn = io.BytesIO()
    canvas = Canvas(drawn, pagesize=A4, invariant=1, initialFontName=_PLAIN, initialFontSize=9)
    at, page = _HEIGHT - _TOP, 1

    def end_page() -> None:
        canvas.setFont(_PLAIN, 7)
        canvas.drawString(_LEFT, _FOOT, f"{page_word} {page}")
        canvas.showPage()

    for text, font, size, indent in rows:
        for part in _wrap(text, font, size, _RIGHT - _LEFT - indent):
            if at - 1.4 * size < _BOTTOM:
                end_page()
                at, page = _HEIGHT - _TOP, page + 1
            at -= 1.4 * size
            canvas.setFont(font, size)
            canvas.drawString(_LEFT + indent, at, part)
        at -= 0.3 * size
    end_page()
    canvas.save()
    return drawn.getvalue()


def _wrap(text: str, font: str, size: float, width: float) -> Iterator[str]:
    """Yield the rows of a text. A row ends between two words, or inside a word that is longer than a row."""
    most = max(1, int(width / size))
    for row in simpleSplit(text, font, size, width) or [""]:
        if pdfmetrics.stringWidth(row, font, size) <= width:
            yield row
        else:
            yield from (row[start : start + most] for start in range(0, len(row), most))


@cache
def _register_fonts() -> frozenset[int]:
    """Register the fonts once, and return the code points of the characters that both of them have."""
    fonts = [TTFont(name, f"{name}.ttf") for name in (_PLAIN, _BOLD)]
    for font in fonts:
        pdfmetrics.registerFont(font)
    return frozenset(fonts[0].face.charToGlyph) & frozenset(fonts[1].face.charToGlyph)


def _is_printable(text: str) -> bool:
    known = _register_fonts()
    return all(ord(letter) in known and unicodedata.category(letter)[0] != "C" for letter in text)
