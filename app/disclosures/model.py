"""Disclosures of a patient's information to others (45 CFR 164.528), and the suspensions of the patient's right to see
them. Pure.

`DisclosurePurpose` names each purpose for which the Privacy Rule lets a practice disclose. An accounting contains only
the disclosures for some of these purposes. The column `resguardo.disclosures.is_accounted` says which.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic_core import from_json

from app.errors import InvalidInput
from app.keys.keyring import Field

MAX_COUNT: Final = 100_000
NO_TEXT: Final[Mapping[str, str | None]] = dict.fromkeys(
    ("name", "address", "description", "purpose", "authorization")
)
"""The text of a disclosure whose key was destroyed."""
_LENGTHS: Final = {
    "name": 200,
    "address": 500,
    "description": 2000,
    "purpose_statement": 1000,
    "reference": 200,
}


class DisclosurePurpose(StrEnum):
    """Why information was disclosed. An accounting contains the disclosures for the first fourteen purposes only."""

    REQUIRED_BY_LAW = "REQUIRED_BY_LAW"
    PUBLIC_HEALTH = "PUBLIC_HEALTH"
    ABUSE_REPORT = "ABUSE_REPORT"
    HEALTH_OVERSIGHT = "HEALTH_OVERSIGHT"
    JUDICIAL = "JUDICIAL"
    LAW_ENFORCEMENT = "LAW_ENFORCEMENT"
    DECEDENT = "DECEDENT"
    ORGAN_DONATION = "ORGAN_DONATION"
    RESEARCH = "RESEARCH"
    SERIOUS_THREAT = "SERIOUS_THREAT"
    GOVERNMENT_FUNCTION = "GOVERNMENT_FUNCTION"
    WORKERS_COMPENSATION = "WORKERS_COMPENSATION"
    HHS_INVESTIGATION = "HHS_INVESTIGATION"
    NOT_PERMITTED = "NOT_PERMITTED"
    TREATMENT = "TREATMENT"
    PAYMENT = "PAYMENT"
    OPERATIONS = "OPERATIONS"
    PATIENT_REQUEST = "PATIENT_REQUEST"
    AUTHORIZATION = "AUTHORIZATION"
    INVOLVED_IN_CARE = "INVOLVED_IN_CARE"
    INCIDENTAL = "INCIDENTAL"
    NATIONAL_SECURITY = "NATIONAL_SECURITY"
    CORRECTIONAL = "CORRECTIONAL"
    LIMITED_DATA_SET = "LIMITED_DATA_SET"


class SuspendingAgency(StrEnum):
    """The kind of agency that asks for a suspension. A suspension hides the disclosures for the same purpose."""

    HEALTH_OVERSIGHT = "HEALTH_OVERSIGHT"
    LAW_ENFORCEMENT = "LAW_ENFORCEMENT"


@dataclass(frozen=True)
class Authorization:
    """The patient's written authorization of a disclosure (45 CFR 164.508). `reference` says where the practice keeps
    the document.
    """

    signed_on: date
    expires_on: date | None
    reference: str | None = field(repr=False)


@dataclass(frozen=True)
class NewDisclosure:
    """A disclosure that an officer records. A series has the days of its first and last disclosure, and its count."""

    disclosed_on: date
    last_disclosed_on: date | None
    count: int
    purpose: DisclosurePurpose
    recipient_name: str = field(repr=False)
    recipient_address: str | None = field(repr=False)
    description: str = field(repr=False)
    purpose_statement: str | None = field(repr=False)
    authorization: Authorization | None


@dataclass(frozen=True)
class NewSuspension:
    """A suspension that an agency asked for. `official` identifies the agency or its official."""

    agency: SuspendingAgency
    is_written: bool
    ends_at: datetime
    official: str = field(repr=False)


def text_field(kind: str, row_id: UUID | str, patient_id: UUID | str) -> Field:
    """Return the place of a text that is encrypted with the patient's data key. `kind` keeps the texts of different
    tables apart.
    """
    return Field("patient_texts", f"{kind}:{row_id}", "ciphertext", key_id=str(patient_id))


def require_disclosure(given: NewDisclosure) -> NewDisclosure:
    """Return the disclosure with its texts stripped of surrounding space. Raises InvalidInput (bad_disclosure) with the
    name of the field that has no text, has too much, or contradicts another field.
    """
    is_series = given.last_disclosed_on is not None
    if is_series != (given.count > 1) or not 1 <= given.count <= MAX_COUNT:
        raise InvalidInput("bad_disclosure", argument="disclosureCount")
    if given.last_disclosed_on is not None and given.last_disclosed_on < given.disclosed_on:
        raise InvalidInput("bad_disclosure", argument="lastDisclosedOn")
    permitted = given.authorization
    if permitted is None and given.purpose is DisclosurePurpose.AUTHORIZATION:
        raise InvalidInput("bad_disclosure", argument="authorization")
    if permitted is not None:
        if permitted.expires_on is not None and permitted.expires_on < permitted.signed_on:
            raise InvalidInput("bad_disclosure", argument="authorization")
        permitted = Authorization(
            permitted.signed_on, permitted.expires_on, _optional("reference", permitted.reference)
        )
    return NewDisclosure(
        given.disclosed_on,
        given.last_disclosed_on,
        given.count,
        given.purpose,
        require_text("name", given.recipient_name),
        _optional("address", given.recipient_address),
        require_text("description", given.description),
        _optional("purpose_statement", given.purpose_statement),
        permitted,
    )


def require_text(name: str, text: str) -> str:
    """Return a text without surrounding space. Raises InvalidInput (bad_disclosure) if it is empty, too long, or has a
    control character other than a line break.
    """
    text = text.strip()
    if not 1 <= len(text) <= _LENGTHS[name] or not text.replace("\n", "").isprintable():
        raise InvalidInput("bad_disclosure", argument=name)
    return text


def _optional(name: str, text: str | None) -> str | None:
    return None if text is None else require_text(name, text)


def format_text(given: NewDisclosure) -> bytes:
    """Return the part of a disclosure that is stored in encrypted form, as JSON."""
    values = {
        "name": given.recipient_name,
        "address": given.recipient_address,
        "description": given.description,
        "purpose": given.purpose_statement,
        "authorization": given.authorization.reference if given.authorization else None,
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def parse_text(text: bytes) -> dict[str, str | None]:
    """Return the text that `format_text` has written, with the keys of NO_TEXT."""
    values: dict[str, str | None] = from_json(text)
    return values
