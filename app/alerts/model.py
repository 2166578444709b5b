"""The kinds of alerts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID


class AlertKind(StrEnum):
    """The kind of an alert. `app/texts/alerts.toml` has the texts of each kind."""

    ACCESS_COPY_FAILED = "ACCESS_COPY_FAILED"
    ACCESS_COPY_INCOMPLETE = "ACCESS_COPY_INCOMPLETE"
    ACCESS_REQUEST_OVERDUE = "ACCESS_REQUEST_OVERDUE"
    ACCESS_REVIEW_DUE = "ACCESS_REVIEW_DUE"
    ACCOUNTING_OVERDUE = "ACCOUNTING_OVERDUE"
    AMENDMENT_OVERDUE = "AMENDMENT_OVERDUE"
    AUDIT_BUCKET_DIFFERS = "AUDIT_BUCKET_DIFFERS"
    AUDIT_EXPORT_FAILED = "AUDIT_EXPORT_FAILED"
    AUDIT_LOG_ADOPTED = "AUDIT_LOG_ADOPTED"
    AUDIT_LOG_COUNTS_DIFFER = "AUDIT_LOG_COUNTS_DIFFER"
    AUDIT_LOG_DIFFERS = "AUDIT_LOG_DIFFERS"
    AUDIT_LOG_UNPUBLISHED = "AUDIT_LOG_UNPUBLISHED"
    AUDIT_LOG_UNSEALED = "AUDIT_LOG_UNSEALED"
    AUDIT_SEALING_FAILED = "AUDIT_SEALING_FAILED"
    AUDIT_WITNESS_DIFFERS = "AUDIT_WITNESS_DIFFERS"
    BAN_FAILED = "BAN_FAILED"
    BREACH_COUNT_FAILED = "BREACH_COUNT_FAILED"
    BREACH_DUE = "BREACH_DUE"
    BREACH_OVERDUE = "BREACH_OVERDUE"
    BUCKET_DRIFT = "BUCKET_DRIFT"
    DELETION_FAILING = "DELETION_FAILING"
    EGRESS_DIED = "EGRESS_DIED"
    EMERGENCY_ACCESS = "EMERGENCY_ACCESS"
    EXPORT_NOT_DELETED = "EXPORT_NOT_DELETED"
    FETCH_NOT_ISSUED = "FETCH_NOT_ISSUED"
    JOB_FAILED = "JOB_FAILED"
    NO_LEADER = "NO_LEADER"
    OBJECTS_MISSING_TOO_MANY = "OBJECTS_MISSING_TOO_MANY"
    OBJECTS_ORPHANED_TOO_MANY = "OBJECTS_ORPHANED_TOO_MANY"
    OBJECT_MISSING = "OBJECT_MISSING"
    RECORDING_LOST = "RECORDING_LOST"
    REVIEW_UNATTESTED = "REVIEW_UNATTESTED"
    SIGN_INS_MISSING = "SIGN_INS_MISSING"
    STRAY_EGRESS = "STRAY_EGRESS"
    TASK_FAILING = "TASK_FAILING"
    TRANSCRIPT_UNREADABLE = "TRANSCRIPT_UNREADABLE"
    VENDOR_AGREEMENT_EXPIRING = "VENDOR_AGREEMENT_EXPIRING"
    WEBHOOK_ENDPOINT_FAILING = "WEBHOOK_ENDPOINT_FAILING"


class AlertStatus(StrEnum):
    """Whether the last evaluation found the cause of an alert."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


@dataclass(frozen=True)
class Finding:
    """A cause of an alert. `key` tells the causes of one kind apart, and `ids` are the ids of the affected entities."""

    key: str = ""
    entity_type: str | None = None
    ids: Sequence[UUID] = field(default=())


@dataclass(frozen=True)
class OpenAlerts:
    """How many alerts of one kind are open. `opened_at` is when the oldest of them was opened. `kind` is a name of an
    AlertKind, or of a kind that a newer release has added.
    """

    kind: str
    open_count: int
    opened_at: datetime


@dataclass(frozen=True)
class ChangedAlerts:
    """The keys of the alerts of one kind that a transaction opened, and of those that it closed."""

    opened: list[str]
    closed: list[str]


FROM_ROWS: Final = (
    AlertKind.ACCESS_REQUEST_OVERDUE,
    AlertKind.ACCOUNTING_OVERDUE,
    AlertKind.AMENDMENT_OVERDUE,
    AlertKind.ACCESS_COPY_FAILED,
    AlertKind.ACCESS_COPY_INCOMPLETE,
    AlertKind.BREACH_COUNT_FAILED,
    AlertKind.BREACH_DUE,
    AlertKind.BREACH_OVERDUE,
    AlertKind.REVIEW_UNATTESTED,
    AlertKind.AUDIT_EXPORT_FAILED,
    AlertKind.EXPORT_NOT_DELETED,
    AlertKind.DELETION_FAILING,
    AlertKind.BUCKET_DRIFT,
    AlertKind.OBJECT_MISSING,
    AlertKind.RECORDING_LOST,
    AlertKind.EGRESS_DIED,
    AlertKind.STRAY_EGRESS,
    AlertKind.FETCH_NOT_ISSUED,
    AlertKind.AUDIT_LOG_ADOPTED,
    AlertKind.AUDIT_LOG_UNSEALED,
    AlertKind.SIGN_INS_MISSING,
    AlertKind.BAN_FAILED,
    AlertKind.JOB_FAILED,
    AlertKind.TRANSCRIPT_UNREADABLE,
    AlertKind.AUDIT_BUCKET_DIFFERS,
)
"""The kinds with causes that the stored rows show (`private.find_alert_causes`)."""
