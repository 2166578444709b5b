"""Staff members, their roles and their invitations. Pure."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from app.errors import InvalidInput
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters

LONGEST_EMAIL = 254
"""The length limit in characters, from RFC 5321's limit on a path. Supabase Auth's limit is 255."""

LONGEST_PUBLISHED_NAME = 100

_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


class Role(Enum):
    """The role of a person who calls the API."""

    CLINICIAN = "clinician"
    COMPLIANCE = "compliance"
    PATIENT = "patient"


class AssuranceLevel(Enum):
    """How strongly a session was authenticated: AAL1 with a password, AAL2 with a second factor. Supabase Auth may
    use AAL3 later.
    """

    AAL1 = "aal1"
    AAL2 = "aal2"
    AAL3 = "aal3"


@dataclass(frozen=True)
class Viewer:
    """The caller. The fields of the patient are set if the caller is a patient."""

    user_id: UUID
    role: Role
    assurance_level: AssuranceLevel
    patient_id: UUID | None
    patient_external_id: str | None


class StaffRole(Enum):
    """The role of a staff member."""

    CLINICIAN = "clinician"
    COMPLIANCE = "compliance"


class StaffStatus(Enum):
    """The status of a staff member. A SUSPENDED member has no access."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True)
class StaffMember:
    """A staff member. `suspended_at` is set if the member is suspended. `last_used_at` is None if the member has never
    used the login, or if the query did not read it.
    """

    id: UUID
    user_id: UUID
    role: StaffRole
    status: StaffStatus
    created_at: datetime
    role_given_at: datetime
    suspended_at: datetime | None
    published_name: str | None = field(default=None, repr=False)
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class StaffFilter:
    """A filter for staff members. None matches every member."""

    roles: tuple[StaffRole, ...] | None = None
    statuses: tuple[StaffStatus, ...] | None = None


class InvitationStatus(Enum):
    """The status of an invitation: PENDING until the worker settles it. SENT means that the invited person is now a
    staff member; if the login is new, the person got the invitation mail.
    """

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"


@dataclass(frozen=True)
class StaffInvitation:
    """An invitation. `error` is the code of the reason if the invitation FAILED. Only the officer who sent the
    invitation sees `email`; for everyone else it is None.
    """

    id: UUID
    role: StaffRole
    status: InvitationStatus
    error: str | None
    email: str | None = field(repr=False)
    created_at: datetime


@dataclass(frozen=True)
class NewMember:
    """A new staff member. `has_login` is False if the person must first follow the link in the mail."""

    user_id: UUID
    has_login: bool


def normalize_published_name(text: str | None) -> str | None:
    """Return the name without spaces around it, or None for None. Raises InvalidInput (bad_published_name) for a name
    that is empty, too long, or has control characters, direction marks or invisible characters.
    """
    if text is None:
        return None
    name = text.strip()
    if (
        len(name) > LONGEST_PUBLISHED_NAME
        or has_unsafe_characters(name)
        or remove_unsafe_characters(name) != name
        or not name
    ):
        raise InvalidInput("bad_published_name", maximum=LONGEST_PUBLISHED_NAME)
    return name


def normalize_email(text: str) -> str:
    """Return the email address in the form in which it is stored, which is lower case.

    The function refuses email addresses with quotes, comments or non-ASCII characters. Raises InvalidInput
    (bad_email).
    """
    address = text.lower()
    if len(text) > LONGEST_EMAIL or not _EMAIL.fullmatch(address):
        raise InvalidInput("bad_email", maximum=LONGEST_EMAIL)
    return address
