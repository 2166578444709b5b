"""Requests for an accounting of disclosures (45 CFR 164.528), and the accountings that answer them. Pure.

An accounting is stored as JSON, byte for byte, because the practice must keep what it gave to the patient (164.528(d)).
The PDF and the CSV are made from the JSON on each request.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from app.errors import Conflict, InvalidInput

MAX_ENTRIES: Final = 20_000
MAX_EXTENSION_DAYS: Final = 30


class AccountingRequestStatus(StrEnum):
    """The status of a request for an accounting."""

    OPEN = "OPEN"
    FULFILLED = "FULFILLED"
    WITHDRAWN = "WITHDRAWN"


class Entry(NamedTuple):
    """An entry of an accounting: a disclosure, or a series of disclosures to one recipient for one purpose. The texts
    are None if their key was destroyed. This is a tuple because an accounting can have thousands of entries, and
    dataclasses would be slower.
    """

    disclosed_on: date
    last_disclosed_on: date | None
    how_many: int
    recipient_name: str | None
    recipient_address: str | None
    description: str | None
    purpose: str
    purpose_statement: str | None
    is_substance_use: bool

    def __repr__(self) -> str:
        return f"Entry({self.disclosed_on}, {self.purpose})"


@dataclass(frozen=True)
class Accounting:
    """An accounting as it was issued. `file` is its JSON."""

    request_id: UUID
    patient_id: UUID
    earliest_date: date
    latest_date: date
    entries: tuple[Entry, ...]
    file: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file).hexdigest()

    @property
    def has_notice(self) -> bool:
        """Return whether an entry is about the treatment of a substance use disorder."""
        return any(entry.is_substance_use for entry in self.entries)


def make_accounting(
    request_id: UUID, patient_id: UUID, earliest_date: date, latest_date: date, entries: Sequence[Entry]
) -> Accounting:
    """Return the accounting with its JSON. Raises Conflict (accounting_too_large)."""
    if len(entries) > MAX_ENTRIES:
        raise Conflict("accounting_too_large", maximum=MAX_ENTRIES)
    values = {
        "version": 1,
        "requestId": str(request_id),
        "patientId": str(patient_id),
        "earliestDate": earliest_date.isoformat(),
        "latestDate": latest_date.isoformat(),
        "entries": [
            (
                first.isoformat(),
                None if last is None else last.isoformat(),
                *others,
            )
            for first, last, *others in entries
        ],
    }
    file = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    return Accounting(request_id, patient_id, earliest_date, latest_date, tuple(entries), file)


def parse_accounting(file: bytes) -> Accounting:
    """Return the accounting that `make_accounting` has written."""
    values = json.loads(file)
    entries = tuple(
        Entry(date.fromisoformat(first), None if last is None else date.fromisoformat(last), *others)
        for first, last, *others in values["entries"]
    )
    return Accounting(
        UUID(values["requestId"]),
        UUID(values["patientId"]),
        date.fromisoformat(values["earliestDate"]),
        date.fromisoformat(values["latestDate"]),
        entries,
        file,
    )


def require_days(days: int) -> int:
    """Return the number of days by which a deadline is extended. Raises InvalidInput (bad_extension)."""
    if not 1 <= days <= MAX_EXTENSION_DAYS:
        raise InvalidInput("bad_extension", maximum=MAX_EXTENSION_DAYS)
    return days
