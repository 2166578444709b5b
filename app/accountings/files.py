"""Writes an accounting of disclosures as CSV and as PDF, in the reader's language. Pure."""

from collections.abc import Iterator
from typing import Final

from app.accountings.model import Accounting, Entry
from app.csv_files import format_csv, guard_cell
from app.errors import Conflict
from app.pdf_pages import BOLD, PLAIN, Row, draw_pages, is_printable
from app.texts import Language, accounting_words, disclosure_words, redisclosure_notice

MAX_PRINTED: Final = 2_000
"""The maximum number of entries of a PDF. Drawing more entries would exceed the time limit of a request."""

_COLUMNS: Final = (
    "disclosed_on",
    "last_disclosed_on",
    "count",
    "recipient",
    "address",
    "description",
    "purpose",
)


def format_accounting_csv(accounting: Accounting, language: Language) -> str:
    """Return the accounting as CSV: a row of names, and then a row for each entry. If the accounting needs the notice
    against redisclosure, the notice is the last row.
    """
    words = accounting_words(language)
    rows = [[words[name] for name in _COLUMNS]]
    rows += [[guard_cell(cell) for cell in _cells(entry, language)] for entry in accounting.entries]
    if accounting.has_notice:
        rows.append([redisclosure_notice(language)])
    return format_csv(rows).decode()


def render_accounting_pdf(accounting: Accounting, language: Language) -> bytes:
    """Return the accounting as PDF. Raises Conflict (accounting_unprintable) if the font lacks a character. Raises
    Conflict (accounting_too_long_to_print) for more than 2,000 entries.
    """
    if len(accounting.entries) > MAX_PRINTED:
        raise Conflict("accounting_too_long_to_print", maximum=MAX_PRINTED)
    rows = list(_rows(accounting, language))
    if not all(is_printable(text) for text, *_ in rows):
        raise Conflict("accounting_unprintable")
    return draw_pages(rows, accounting_words(language)["page"])


def _rows(accounting: Accounting, language: Language) -> Iterator[Row]:
    words = accounting_words(language)
    yield words["title"], BOLD, 16, 0
    yield f"{words['patient']}: {accounting.patient_id}", PLAIN, 8, 0
    yield f"{words['range']}: {accounting.earliest_date} - {accounting.latest_date}", PLAIN, 8, 0
    yield f"SHA-256: {accounting.sha256}", PLAIN, 8, 0
    if not accounting.entries:
        yield words["empty"], PLAIN, 10, 0
    for number, entry in enumerate(accounting.entries, start=1):
        first, last, count, *texts = _cells(entry, language)
        days = f"{first} - {last} ({words['count']}: {count})" if last else first
        yield "", PLAIN, 6, 0
        yield f"{number}. {days}", BOLD, 10, 0
        for name, text in zip(_COLUMNS[3:], texts, strict=True):
            for line in f"{words[name]}: {text}".split("\n") if text else ():
                yield line, PLAIN, 9, 12
    if accounting.has_notice:
        yield "", PLAIN, 6, 0
        yield redisclosure_notice(language), PLAIN, 9, 0


def _cells(entry: Entry, language: Language) -> list[str]:
    purpose = disclosure_words(language)[f"purpose_{entry.purpose}"]
    destroyed = accounting_words(language)["destroyed"]
    return [
        entry.disclosed_on.isoformat(),
        entry.last_disclosed_on.isoformat() if entry.last_disclosed_on else "",
        str(entry.how_many),
        destroyed if entry.recipient_name is None else entry.recipient_name,
        entry.recipient_address or "",
        destroyed if entry.description is None else entry.description,
        purpose if entry.purpose_statement is None else f"{purpose} {entry.purpose_statement}",
    ]
