"""Who works here, and as what. Pure, no I/O."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from app.errors import InvalidInput

LONGEST_EMAIL = 254
"""Characters, by RFC 5321's limit on a path. Supabase Auth's is 255."""

_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


@dataclass(frozen=True)
class Viewer:
    """The person who asks: `role` is clinician, compliance or patient; `patient_id` is set for patients."""

    user_id: UUID
    role: str
    aal: str
    patient_id: UUID | None


class StaffRole(Enum):
    """What a member of staff is."""

    CLINICIAN = "clinician"
    COMPLIANCE = "compliance"


class InvitationStatus(Enum):
    """PENDING until the worker has settled it; SENT: the login is a member of staff, and a new one has its mail."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"


@dataclass(frozen=True)
class StaffInvitation:
    """An invitation; `error` says in snake_case why it FAILED, `email` is None for all but the person who invited."""

    id: UUID
    role: StaffRole
    status: InvitationStatus
    error: str | None
    email: str | None = field(repr=False)
    created_at: datetime


@dataclass(frozen=True)
class NewMember:
    """A member of staff just made; `has_login` is False for who follows the link of the mail first."""

    user_id: UUID
    has_login: bool


def email_address(text: str) -> str:
    """The address in the one form we keep: lower case.

    What can be written without quotes, comments and foreign letters. Raises InvalidInput (bad_email).
    """
    address = text.lower()
    if len(text) > LONGEST_EMAIL or not _EMAIL.fullmatch(address):
        raise InvalidInput("bad_email", maximum=LONGEST_EMAIL)
    return address
