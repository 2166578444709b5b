"""Shares of consultations with colleagues. Pure."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from app.errors import InvalidInput


class SharePurpose(StrEnum):
    """Why a doctor shares a consultation."""

    CARE_TEAM = "CARE_TEAM"
    COVERAGE = "COVERAGE"
    SECOND_OPINION = "SECOND_OPINION"
    REFERRAL = "REFERRAL"


class ShareEndReason(StrEnum):
    """Why a share ended before its term."""

    ENDED_BY_DOCTOR = "ENDED_BY_DOCTOR"
    ENDED_BY_COLLEAGUE = "ENDED_BY_COLLEAGUE"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    AUTHORIZATION_WITHDRAWN = "AUTHORIZATION_WITHDRAWN"
    COLLEAGUE_SUSPENDED = "COLLEAGUE_SUSPENDED"


@dataclass(frozen=True)
class ShareOrder:
    """The request for a share. Raises InvalidInput (bad_date) if its end has no time zone."""

    consultation_id: UUID
    colleague_id: UUID
    purpose: SharePurpose
    ends_at: datetime
    may_write_notes: bool = False

    def __post_init__(self) -> None:
        _require_zone(self.ends_at)


@dataclass(frozen=True)
class SignedAuthorization:
    """An authorization that a patient signed on paper. `colleague_id` is None for an authorization of emergency access.
    Raises InvalidInput (bad_date) if its end has no time zone.
    """

    consultation_id: UUID
    colleague_id: UUID | None
    signed_on: date
    is_signed_by_representative: bool
    expires_at: datetime

    def __post_init__(self) -> None:
        _require_zone(self.expires_at)


def _require_zone(time: datetime) -> None:
    if time.tzinfo is None:
        raise InvalidInput("bad_date")
