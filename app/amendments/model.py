"""Requests to amend a patient's record (45 CFR 164.526). Pure."""

import json
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import InvalidInput
from app.postgres.references import ConsultationBy

MAX_EXTENSION_DAYS: Final = 30
MAX_LENGTH: Final = 10_000
MAX_PERSONS_LENGTH: Final = 2_000


class AmendmentStatus(StrEnum):
    """The status of a request for an amendment."""

    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    DENIED = "DENIED"


class AmendmentPart(StrEnum):
    """The part of the record that a patient asks to amend."""

    TRANSCRIPT = "TRANSCRIPT"
    INSIGHTS = "INSIGHTS"
    SIGNED_NOTE = "SIGNED_NOTE"
    RECORD = "RECORD"


class AmendmentDenialGround(StrEnum):
    """The grounds on which the practice may deny an amendment (164.526(a)(2))."""

    NOT_CREATED_BY_US = "NOT_CREATED_BY_US"
    NOT_IN_RECORD_SET = "NOT_IN_RECORD_SET"
    NOT_ACCESSIBLE = "NOT_ACCESSIBLE"
    ACCURATE_AND_COMPLETE = "ACCURATE_AND_COMPLETE"


class AmendmentStatementKind(StrEnum):
    """What a statement of an amendment is."""

    REQUEST = "REQUEST"
    AMENDMENT = "AMENDMENT"
    DENIAL = "DENIAL"
    DISAGREEMENT = "DISAGREEMENT"
    REBUTTAL = "REBUTTAL"


@dataclass(frozen=True)
class NewAmendment:
    """A request for an amendment. `received_on` is None for a patient who is logged in."""

    consultation: ConsultationBy
    part: AmendmentPart
    recording_id: UUID | None
    text: str = field(repr=False)
    received_on: date | None = None
    is_by_representative: bool = False


def require_request(given: NewAmendment) -> NewAmendment:
    """Return the request with its text stripped of surrounding space. Raises InvalidInput (bad_amendment)."""
    if given.part is not AmendmentPart.RECORD and given.recording_id is None:
        raise InvalidInput("bad_amendment", argument="recordingId")
    return NewAmendment(
        given.consultation,
        given.part,
        given.recording_id,
        require_text("text", given.text),
        given.received_on,
        given.is_by_representative,
    )


def require_text(argument: str, text: str, most: int = MAX_LENGTH) -> str:
    """Return a text without surrounding space. Raises InvalidInput (bad_amendment) if it is empty, too long, or has a
    control character other than a line break.
    """
    text = text.strip()
    if not 1 <= len(text) <= most or not text.replace("\n", "").isprintable():
        raise InvalidInput("bad_amendment", argument=argument)
    return text


def require_days(days: int) -> int:
    """Return the number of days by which a deadline is extended. Raises InvalidInput (bad_extension)."""
    if not 1 <= days <= MAX_EXTENSION_DAYS:
        raise InvalidInput("bad_extension", maximum=MAX_EXTENSION_DAYS)
    return days


def format_statement(text: str, persons_to_inform: str | None = None) -> bytes:
    """Return the part of a statement that is stored in encrypted form, as JSON."""
    return json.dumps([text, persons_to_inform], ensure_ascii=False, separators=(",", ":")).encode()


def parse_statement(stored: bytes) -> tuple[str, str | None]:
    """Return the text and the persons to inform that `format_statement` has written."""
    text, persons_to_inform = json.loads(stored)
    return text, persons_to_inform
