"""Proposals that need a second officer, with their kinds and reasons. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

from app.errors import InvalidInput


class ProposalKind(Enum):
    """The kind of change that a proposal makes."""

    RESET_SECOND_FACTOR = "RESET_SECOND_FACTOR"
    REINSTATE = "REINSTATE"
    REASSIGN_CONSULTATIONS = "REASSIGN_CONSULTATIONS"


class ProposalStatus(Enum):
    """The status of a proposal. The worker carries out an APPROVED proposal."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    DONE = "DONE"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


class ProposalReason(Enum):
    """Why an officer proposes a change. Each reason belongs to one kind of proposal."""

    DEVICE_LOST = "DEVICE_LOST"
    DEVICE_REPLACED = "DEVICE_REPLACED"
    DEVICE_COMPROMISED = "DEVICE_COMPROMISED"
    SUSPENDED_BY_MISTAKE = "SUSPENDED_BY_MISTAKE"
    RETURNED_TO_WORK = "RETURNED_TO_WORK"
    INVESTIGATION_CLOSED = "INVESTIGATION_CLOSED"
    LEFT_PRACTICE = "LEFT_PRACTICE"
    RETIRED = "RETIRED"
    LONG_ABSENCE = "LONG_ABSENCE"
    DIED = "DIED"


REASONS: Final[Mapping[ProposalKind, frozenset[ProposalReason]]] = {
    ProposalKind.RESET_SECOND_FACTOR: frozenset(
        {ProposalReason.DEVICE_LOST, ProposalReason.DEVICE_REPLACED, ProposalReason.DEVICE_COMPROMISED}
    ),
    ProposalKind.REINSTATE: frozenset(
        {
            ProposalReason.SUSPENDED_BY_MISTAKE,
            ProposalReason.RETURNED_TO_WORK,
            ProposalReason.INVESTIGATION_CLOSED,
        }
    ),
    ProposalKind.REASSIGN_CONSULTATIONS: frozenset(
        {
            ProposalReason.LEFT_PRACTICE,
            ProposalReason.RETIRED,
            ProposalReason.LONG_ABSENCE,
            ProposalReason.DIED,
        }
    ),
}


@dataclass(frozen=True)
class OfficerProposal:
    """A proposal about a member of staff. `error` is the code of the reason why it FAILED or was WITHDRAWN.
    `recipient_id` is the doctor who gets reassigned consultations. The counts are None before the worker has begun a
    reassignment.
    """

    id: UUID
    kind: ProposalKind
    member_id: UUID
    recipient_id: UUID | None
    reason: ProposalReason
    status: ProposalStatus
    error: str | None
    proposed_by: UUID
    proposed_at: datetime
    decided_by: UUID | None
    decided_at: datetime | None
    finished_at: datetime | None
    moved_count: int | None
    kept_for_consent_count: int | None
    kept_as_sensitive_count: int | None


@dataclass(frozen=True)
class ProposalFilter:
    """A filter for proposals. None matches every proposal."""

    kinds: tuple[ProposalKind, ...] | None = None
    statuses: tuple[ProposalStatus, ...] | None = None


def check_reason(kind: ProposalKind, reason: ProposalReason) -> None:
    """Raise InvalidInput (bad_proposal_reason) if the reason does not belong to the kind of proposal."""
    if reason not in REASONS[kind]:
        raise InvalidInput("bad_proposal_reason")
