"""A row of the audit log, as compliance reads it. Pure, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID


class Outcome(StrEnum):
    """How it ended: DENIED what exists, ABSENT what does not; the one who asked was told the same."""

    ALLOWED = "ALLOWED"
    DENIED = "DENIED"
    ABSENT = "ABSENT"
    FAILED = "FAILED"


@dataclass(frozen=True)
class AuditEvent:
    """Who did what, on whose data, why, from where, and how it ended. Ids and field names, never values.

    `session_fingerprint` is a one-way hash of the session's id, which is a key: one session, one fingerprint.
    """

    id: UUID
    recorded_at: datetime
    actor_id: UUID | None
    actor_role: str
    session_fingerprint: str | None
    aal: str | None
    action: str
    operation: str
    outcome: Outcome
    reason: str | None
    purpose: str
    basis: str
    entity_type: str
    entity_ids: tuple[UUID, ...]
    patient_ids: tuple[UUID, ...]
    consultation_ids: tuple[UUID, ...]
    fields: tuple[str, ...]
    row_count: int
    byte_count: int | None
    request_id: UUID | None
    address: IPv4Address | IPv6Address | None
    policy_version: str


@dataclass(frozen=True)
class AuditFilter:
    """Which rows; None is any. `until` is excluded."""

    actor_id: UUID | None = None
    action: str | None = None
    outcome: Outcome | None = None
    patient_id: UUID | None = None
    consultation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
