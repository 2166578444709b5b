"""Writes rows as CSV in which a spreadsheet program finds no formula to run."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

_FORMULA: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""If a cell begins with one of these characters, a spreadsheet program treats the cell as a formula (OWASP)."""


def guard_cell(text: str) -> str:
    """Return the text, with an apostrophe in front if a spreadsheet program would treat the text as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def format_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """Return the rows as CSV of RFC 4180. The caller must guard cells against formulas (`guard_cell`)."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()
