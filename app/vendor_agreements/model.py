"""Types of the register of business associate agreements. Pure."""

import unicodedata
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import InvalidInput
from app.settings.services import VendorService

__all__ = ["AgreementBasis", "AgreementGap", "NewAgreement", "VendorService"]

MOST_CHARACTERS: Final = 200


class AgreementBasis(StrEnum):
    """Why PHI may be in a service: the company that runs it has signed an agreement, or the practice runs it."""

    AGREEMENT = "AGREEMENT"
    SELF_OPERATED = "SELF_OPERATED"


@dataclass(frozen=True)
class NewAgreement:
    """An entry for the register. `expires_on` is the last day of the agreement, or None if it has no end."""

    service: VendorService
    vendor: str
    version: str
    signatory: str = field(repr=False)
    signed_on: date
    expires_on: date | None = None
    basis: AgreementBasis = AgreementBasis.AGREEMENT

    def check(self) -> None:
        """Raise InvalidInput (bad_agreement) unless each text is one line, and the days are in order."""
        texts = (self.vendor, self.version, self.signatory)
        is_dated = self.expires_on is None or self.expires_on >= self.signed_on
        if not is_dated or not all(_is_line(text) for text in texts):
            raise InvalidInput("bad_agreement")


@dataclass(frozen=True)
class AgreementGap:
    """A service without a valid agreement. `agreement_id` is None if the register has no entry for the service."""

    service: VendorService
    agreement_id: UUID | None
    expires_on: date | None

    def describe(self) -> str:
        """Return the service and the problem for the operator."""
        return f"{self.service} ({'missing' if self.expires_on is None else f'expired on {self.expires_on}'})"


def _is_line(text: str) -> bool:
    return (
        0 < len(text) <= MOST_CHARACTERS
        and bool(text.strip())
        and not any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in text)
    )
