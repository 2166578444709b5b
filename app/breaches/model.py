"""Types of breach assessments, notices and sanctions. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.audit.model import AuditFilter
from app.errors import InvalidInput

MAX_TEXT_LENGTH: Final = 2000
"""The length limit of the rationale of a factor, in characters."""

_MOST_JURISDICTIONS: Final = 60
_JURISDICTION: Final = re.compile(r"[A-Z]{2}")


class BreachStatus(StrEnum):
    """The status of an assessment. A breach is NOTIFYING until all its notices are recorded."""

    OPEN = "OPEN"
    NOTIFYING = "NOTIFYING"
    CLOSED = "CLOSED"


class BreachCountStatus(StrEnum):
    """Whether the worker has read the affected patients and recordings from the audit log."""

    COUNTING = "COUNTING"
    COUNTED = "COUNTED"
    FAILED = "FAILED"


class BreachFactorKind(StrEnum):
    """The four factors of 164.402(2)(i) to (iv), in the order of the rule."""

    NATURE_AND_EXTENT = "NATURE_AND_EXTENT"
    UNAUTHORIZED_PERSON = "UNAUTHORIZED_PERSON"
    ACQUIRED_OR_VIEWED = "ACQUIRED_OR_VIEWED"
    MITIGATION = "MITIGATION"


class BreachRisk(StrEnum):
    """The risk that a factor adds to the probability that PHI was compromised."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class BreachDecision(StrEnum):
    """The decision on an assessment. UNINTENTIONAL_ACCESS, INADVERTENT_DISCLOSURE and NOT_RETAINED are the exceptions
    of 164.402(1)(i) to (iii). SECURED means that the PHI was not unsecured (164.402), because it was encrypted.
    """

    BREACH = "BREACH"
    LOW_PROBABILITY = "LOW_PROBABILITY"
    UNINTENTIONAL_ACCESS = "UNINTENTIONAL_ACCESS"
    INADVERTENT_DISCLOSURE = "INADVERTENT_DISCLOSURE"
    NOT_RETAINED = "NOT_RETAINED"
    SECURED = "SECURED"


class BreachLateReason(StrEnum):
    """The reason why a decision or a notice came after its deadline."""

    SCOPE_UNKNOWN = "SCOPE_UNKNOWN"
    EVIDENCE_LATE = "EVIDENCE_LATE"
    STAFF_ABSENCE = "STAFF_ABSENCE"
    VENDOR_LATE = "VENDOR_LATE"
    OVERSIGHT = "OVERSIGHT"


class DelayStatement(StrEnum):
    """How law enforcement stated that a notice would impede an investigation (164.412)."""

    ORAL = "ORAL"
    WRITTEN = "WRITTEN"


class BreachNoticeKind(StrEnum):
    """The recipients of a notice. An URGENT notice is sent in addition to the notice to the individuals. A SUBSTITUTE
    notice is for individuals with an unknown address (164.404(d)).
    """

    INDIVIDUALS = "INDIVIDUALS"
    URGENT = "URGENT"
    SUBSTITUTE = "SUBSTITUTE"
    SECRETARY = "SECRETARY"
    MEDIA = "MEDIA"


class BreachNoticeMethod(StrEnum):
    """The way in which a notice was sent."""

    FIRST_CLASS_MAIL = "FIRST_CLASS_MAIL"
    EMAIL = "EMAIL"
    TELEPHONE = "TELEPHONE"
    WEB_SITE = "WEB_SITE"
    PRESS = "PRESS"
    HHS_PORTAL = "HHS_PORTAL"


class SanctionCategory(StrEnum):
    """The category of a violation, by the intent of the member of staff."""

    CARELESS = "CARELESS"
    CURIOUS = "CURIOUS"
    MALICIOUS = "MALICIOUS"


class SanctionMeasure(StrEnum):
    """The sanction. The table private.sanction_measures says which sanctions each category permits."""

    COUNSELING = "COUNSELING"
    TRAINING = "TRAINING"
    WRITTEN_WARNING = "WRITTEN_WARNING"
    FINAL_WARNING = "FINAL_WARNING"
    SUSPENSION = "SUSPENSION"
    TERMINATION = "TERMINATION"


METHODS: Final[Mapping[BreachNoticeKind, frozenset[BreachNoticeMethod]]] = {
    BreachNoticeKind.INDIVIDUALS: frozenset({BreachNoticeMethod.FIRST_CLASS_MAIL, BreachNoticeMethod.EMAIL}),
    BreachNoticeKind.URGENT: frozenset({BreachNoticeMethod.TELEPHONE, BreachNoticeMethod.EMAIL}),
    BreachNoticeKind.SUBSTITUTE: frozenset(
        {
            BreachNoticeMethod.EMAIL,
            BreachNoticeMethod.TELEPHONE,
            BreachNoticeMethod.WEB_SITE,
            BreachNoticeMethod.PRESS,
        }
    ),
    BreachNoticeKind.SECRETARY: frozenset({BreachNoticeMethod.HHS_PORTAL}),
    BreachNoticeKind.MEDIA: frozenset({BreachNoticeMethod.PRESS}),
}
"""The methods that each kind of notice permits. The database makes the same check."""


@dataclass(frozen=True)
class BreachOrder:
    """A breach assessment that an officer opens by hand. Raises InvalidInput (breach_range) if the filter has no
    beginning or no end.
    """

    filter: AuditFilter
    subject_id: UUID | None
    discovered_on: date

    def __post_init__(self) -> None:
        recorded = self.filter.recorded
        if recorded is None or recorded.since is None or recorded.until is None:
            raise InvalidInput("breach_range")


@dataclass(frozen=True)
class Residents:
    """How many affected patients live in one state or jurisdiction, which two capital letters name."""

    jurisdiction: str
    count: int


@dataclass(frozen=True)
class NoticeOrder:
    """A notice that an officer records. Raises InvalidInput (bad_notice_method) if the kind of notice is not sent with
    the method, or has no jurisdiction.
    """

    kind: BreachNoticeKind
    method: BreachNoticeMethod
    jurisdiction: str | None
    sent_on: date
    late_reason: BreachLateReason | None

    def __post_init__(self) -> None:
        is_code = self.jurisdiction is None or (
            self.kind is BreachNoticeKind.MEDIA and _JURISDICTION.fullmatch(self.jurisdiction)
        )
        if self.method not in METHODS[self.kind] or not is_code:
            raise InvalidInput("bad_notice_method")


@dataclass(frozen=True)
class SanctionOrder:
    """A sanction that an officer records."""

    member_id: UUID
    assessment_id: UUID | None
    category: SanctionCategory
    measure: SanctionMeasure
    imposed_on: date


def require_rationale(text: str) -> str:
    """Return the text without spaces around it. Raises InvalidInput (bad_rationale) if it is empty or too long."""
    stripped = text.strip()
    if not 1 <= len(stripped) <= MAX_TEXT_LENGTH or "\0" in stripped:
        raise InvalidInput("bad_rationale", maximum=MAX_TEXT_LENGTH)
    return stripped


def require_residents(residents: Sequence[Residents] | None) -> list[dict[str, object]] | None:
    """Return the residents as JSON, or None. Raises InvalidInput (bad_residents) if a jurisdiction is no code of two
    capital letters, occurs twice, or has no resident.
    """
    if residents is None:
        return None
    names = {one.jurisdiction for one in residents}
    if (
        not 1 <= len(residents) <= _MOST_JURISDICTIONS
        or len(names) < len(residents)
        or not all(_JURISDICTION.fullmatch(one.jurisdiction) and one.count >= 1 for one in residents)
    ):
        raise InvalidInput("bad_residents")
    return [{"jurisdiction": one.jurisdiction, "count": one.count} for one in residents]
