"""Draws rows of text as the pages of a PDF.

The text is drawn with Bitstream Vera, which the library reportlab contains, so that every machine draws the same pages
and no font is downloaded. The font has the letters of English, Spanish and most other European languages in Latin
script.
"""

import io
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, TypeAlias

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import simpleSplit
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

PLAIN: Final = "Vera"
BOLD: Final = "VeraBd"
Row: TypeAlias = tuple[str, str, float, float]
"""A row of text: the text, its font, its size in points, and its indent in points."""

_WIDTH, _HEIGHT = A4
_LEFT, _RIGHT, _TOP, _BOTTOM, _FOOT = 48, _WIDTH - 40, 48, 60, 36
_drawing = threading.Lock()
"""reportlab keeps the subset of a font in a global object, so two documents must not be drawn at the same time."""


def draw_pages(rows: Sequence[Row], page_word: str) -> bytes:
    """Return a PDF with these rows. Each page ends with the word for "page" and the page number."""
    with _drawing:
        return _draw(rows, page_word)


def is_printable(text: str) -> bool:
    """Return whether the fonts have every character of the text."""
    known = _register_fonts()
    return all(ord(letter) in known and unicodedata.category(letter)[0] != "C" for letter in text)


def _draw(rows: Sequence[Row], page_word: str) -> bytes:
    _register_fonts()
    drawn = io.BytesIO()
    canvas = Canvas(drawn, pagesize=A4, invariant=1, initialFontName=PLAIN, initialFontSize=9)
    at, page = _HEIGHT - _TOP, 1

    def end_page() -> None:
        canvas.setFont(PLAIN, 7)
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
    fonts = [TTFont(name, f"{name}.ttf") for name in (PLAIN, BOLD)]
    for font in fonts:
        pdfmetrics.registerFont(font)
    return frozenset(fonts[0].face.charToGlyph) & frozenset(fonts[1].face.charToGlyph)
