"""Types of attestations. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from app.errors import InvalidInput

MAX_NOTE_LENGTH: Final = 2000
_MONTH: Final = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


class ReviewFinding(StrEnum):
    """A finding of the review of a month. NOTHING cannot be combined with another finding."""

    NOTHING = "NOTHING"
    POLICY_VIOLATION = "POLICY_VIOLATION"
    POSSIBLE_BREACH = "POSSIBLE_BREACH"
    UNUSED_ACCESS = "UNUSED_ACCESS"
    FAILED_SIGN_INS = "FAILED_SIGN_INS"
    TECHNICAL_FAULT = "TECHNICAL_FAULT"
    REVIEW_INCOMPLETE = "REVIEW_INCOMPLETE"


@dataclass(frozen=True)
class AttestationOrder:
    """An attestation of a month, which is named by its first day."""

    month: date
    findings: tuple[ReviewFinding, ...]
    note: str | None

    @classmethod
    def of(cls, month: str, findings: Sequence[ReviewFinding], note: str | None) -> "AttestationOrder":
        """Return the checked attestation of a month such as `2026-10`. Raises InvalidInput (bad_date, bad_findings,
        bad_rationale).
        """
        named = _MONTH.fullmatch(month)
        if named is None:
            raise InvalidInput("bad_date")
        found = set(findings)
        if not findings or len(found) < len(findings) or (ReviewFinding.NOTHING in found and len(found) > 1):
            raise InvalidInput("bad_findings")
        text = None if note is None else note.strip()
        if text is not None and (not 1 <= len(text) <= MAX_NOTE_LENGTH or "\0" in text):
            raise InvalidInput("bad_rationale", maximum=MAX_NOTE_LENGTH)
        return cls(date(int(named[1]), int(named[2]), 1), tuple(sorted(found)), text)
