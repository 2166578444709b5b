"""The audit events that compliance officers read. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    TimeRange,
    consultation_parameters,
    patient_parameters,
)


class Outcome(StrEnum):
    """The result of an audited action. DENIED means that the requested row exists and the caller may not access it.
    ABSENT means that the requested row does not exist. The caller cannot distinguish DENIED from ABSENT, because
    the API gives the same answer.
    """

    ALLOWED = "ALLOWED"
    DENIED = "DENIED"
    ABSENT = "ABSENT"
    FAILED = "FAILED"


class ActorRole(Enum):
    """The role in which an actor acted. OPERATOR is every other login of the database, such as the owner's. At Supabase
    Auth, ADMINISTRATOR is anyone with the project's secret key, and UNREGISTERED is a login without a role here.
    """

    CLINICIAN = "clinician"
    COMPLIANCE = "compliance"
    PATIENT = "patient"
    API = "resguardo_api"
    WORKER = "resguardo_worker"
    ADMINISTRATOR = "service_role"
    UNREGISTERED = "unregistered"
    OPERATOR = "operator"

    @classmethod
    def _missing_(cls, value: object) -> "ActorRole":
        return cls.OPERATOR


class AuditOperation(Enum):
    """The kind of operation, as in FHIR's AuditEvent.action."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


@dataclass(frozen=True)
class AuditEntities:
    """The entities of one type that an action read, showed or changed."""

    type: str
    ids: tuple[UUID, ...]


@dataclass(frozen=True)
class AuditEvent:
    """An audit event: who did what, to whose data, why, from where, and with which result. An audit event contains
    ids and field names, never the values of fields. `digest` is the SHA-256 of the file that the actor signed, in hex.

    `occurred_at` is when the event happened, by the clock of the service that reported it. It is None for an event
    that Resguardo recorded itself.

    `session_fingerprint` is a one-way hash of the login session's id, so all events of one session have the same
    fingerprint.
    """

    id: UUID
    recorded_at: datetime
    occurred_at: datetime | None
    actor_id: UUID | None
    actor_role: ActorRole
    session_fingerprint: str | None
    aal: str | None
    action: str
    operation: AuditOperation
    outcome: Outcome
    reason: str | None
    purpose: str
    basis: str
    entities: tuple[AuditEntities, ...]
    patient_ids: tuple[UUID, ...]
    consultation_ids: tuple[UUID, ...]
    fields: tuple[str, ...]
    row_count: int
    byte_count: int | None
    digest: str | None
    request_id: UUID | None
    address: IPv4Address | IPv6Address | None
    policy_version: str


@dataclass(frozen=True)
class AuditFilter:
    """A filter for audit rows. A filter field that is None matches every audit row."""

    actor_id: UUID | None = None
    action: str | None = None
    outcomes: Collection[Outcome] | None = None
    patient: PatientBy | None = None
    consultation: ConsultationBy | None = None
    recorded: TimeRange | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statement that reads the audit log."""
        return {
            "actor_id": self.actor_id,
            "action": self.action,
            "outcomes": None if self.outcomes is None else [outcome.value for outcome in self.outcomes],
            **patient_parameters(self.patient),
            **consultation_parameters(self.consultation),
            "since": self.recorded.since if self.recorded else None,
            "until": self.recorded.until if self.recorded else None,
        }
