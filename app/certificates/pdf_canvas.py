"""Draws the pages of a certificate: A4 pages with black text in fonts that every PDF reader has.

The drawn PDF does not depend on the machine's clock, time zone, language or settings.
"""

import io
from collections.abc import Iterable, Sequence

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import simpleSplit
from reportlab.pdfgen.canvas import Canvas

from app.certificates.layout import Line, Style

_WIDTH, _HEIGHT = A4
_LEFT, _VALUE_LEFT, _TOP, _BOTTOM, _FOOT = 48, 196, 48, 60, 36
_RIGHT = _WIDTH - 40
_FONTS = {
    Style.TITLE: ("Helvetica-Bold", 16, 28),
    Style.HEADING: ("Helvetica-Bold", 10, 16),
    Style.TEXT: ("Helvetica", 9, 13),
    Style.ENTRY: ("Helvetica", 8, 11),
    Style.GAP: ("Helvetica", 8, 7),
}
"""The font, font size and line height of each style, in points."""
_VALUE_FONT = "Courier"


def draw(chapters: Sequence[tuple[str, Iterable[Line]]]) -> bytes:
    """Return a PDF in which each chapter begins on a new page. A chapter consists of a label, which is written
    before each page number, and of its lines.
    """
    drawn = io.BytesIO()
    canvas = Canvas(
        drawn, pagesize=A4, pageCompression=0, invariant=1, initialFontName="Helvetica", initialFontSize=9
    )
    for foot, lines in chapters:
        chapter = _Chapter(canvas, foot)
        for line in lines:
            chapter.write(line)
        chapter.end()
    canvas.save()
    return drawn.getvalue()


class _Chapter:
    def __init__(self, canvas: Canvas, foot: str) -> None:
        self._canvas = canvas
        self._foot = foot
        self._page = 1
        self._at = _HEIGHT - _TOP

    def write(self, line: Line) -> None:
        """Draw a line of the certificate below the previous line, on as many rows as its text needs."""
        font, size, height = _FONTS[line.style]
        if line.style is not Style.ENTRY:
            for row in simpleSplit(line.text, font, size, _RIGHT - _LEFT) or [""]:
                self._down(height)
                self._put(_LEFT, row, font, size)
            return
        values = _wrap_value(line.value, size)
        labels = simpleSplit(line.text, font, size, _VALUE_LEFT - _LEFT - 6)
        for row in range(max(len(labels), len(values))):
            self._down(height)
            self._put(_LEFT, labels[row] if row < len(labels) else "", font, size)
            self._put(_VALUE_LEFT, values[row] if row < len(values) else "", _VALUE_FONT, size)

    def end(self) -> None:
        """Write the page number and end the page."""
        self._put(_LEFT, f"{self._foot} {self._page}", "Helvetica", 7, at=_FOOT)
        self._canvas.showPage()
        self._page += 1
        self._at = _HEIGHT - _TOP

    def _down(self, height: float) -> None:
        if self._at - height < _BOTTOM:
            self.end()
        self._at -= height

    def _put(self, left: float, text: str, font: str, size: float, at: float | None = None) -> None:
        if text:
            self._canvas.setFont(font, size)
            self._canvas.drawString(left, self._at if at is None else at, text)


def _wrap_value(value: str, size: float) -> list[str]:
    """Return the rows on which a value is drawn. A row on the page ends between two words of the value. In a digest
    or a signature, which has no spaces, a row ends after a fixed number of characters.
    """
    most = int((_RIGHT - _VALUE_LEFT) / (0.6 * size))  # each character of Courier is 0.6 of its size wide
    rows = simpleSplit(value, _VALUE_FONT, size, _RIGHT - _VALUE_LEFT)
    return [row[start : start + most] for row in rows for start in range(0, len(row), most)]
