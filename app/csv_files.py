"""Writes rows as CSV that a spreadsheet opens without running any of it."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

_FORMULA: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""The first characters with which a spreadsheet takes a cell for a formula, also in full width (OWASP)."""


def guard_cell(text: str) -> str:
    """Return the text, after an apostrophe if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def format_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """Return the rows as CSV of RFC 4180. The cells are written as they are (`guard_cell`)."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()
