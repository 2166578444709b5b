"""Access reviews and their entries. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from app.errors import InvalidInput
from app.staff.model import StaffRole

UNUSED_AFTER_DAYS = 90
FEWEST_DAYS, MOST_DAYS = 30, 366


def check_unused_days(days: int) -> None:
    """Raise InvalidInput (bad_unused_days) unless the number of days is from 30 to 366."""
    if not FEWEST_DAYS <= days <= MOST_DAYS:
        raise InvalidInput("bad_unused_days", minimum=FEWEST_DAYS, maximum=MOST_DAYS)


class AccessReviewStatus(Enum):
    """The status of an access review. The worker removes the access that an APPROVED review removes."""

    OPEN = "OPEN"
    APPROVED = "APPROVED"
    DONE = "DONE"
    REJECTED = "REJECTED"


class AccessDecision(Enum):
    """The decision of a review about the access of one member."""

    KEEP = "KEEP"
    REMOVE = "REMOVE"


class AccessOutcome(Enum):
    """The result of an approved review for the access of one member."""

    KEPT = "KEPT"
    REMOVED = "REMOVED"
    USED_SINCE = "USED_SINCE"
    SUSPENDED_ALREADY = "SUSPENDED_ALREADY"


@dataclass(frozen=True)
class AccessReview:
    """An access review. `sha256` is the digest of its entries as they were approved."""

    id: UUID
    status: AccessReviewStatus
    started_by: UUID
    started_at: datetime
    decided_by: UUID | None
    decided_at: datetime | None
    finished_at: datetime | None
    sha256: str | None


@dataclass(frozen=True)
class AccessReviewEntry:
    """The entry of a review about one member of staff. `decided_by` is None if no officer changed the decision."""

    id: UUID
    member_id: UUID
    member_since: datetime
    role: StaffRole
    role_given_at: datetime
    last_used_at: datetime | None
    is_unused: bool
    decision: AccessDecision
    decided_by: UUID | None
    outcome: AccessOutcome | None
