"""The audit events that compliance officers read. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from uuid import UUID

from app.errors import InvalidInput
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    RecordingBy,
    TimeRange,
    consultation_parameters,
    patient_parameters,
    recording_parameters,
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
    ids and field names, never the values of fields. `digest` is the SHA-256 of what the event is about, in hex: a
    signed note, the file of an export, the final checkpoint of a closed log, or a new key of the log.

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
    """A filter for audit rows. A filter field that is None matches every audit row. An audit row matches the filter if
    it matches all fields. `recording` matches the rows that name the recording among their entities.
    """

    actor_id: UUID | None = None
    action: str | None = None
    outcomes: Collection[Outcome] | None = None
    purposes: Collection[str] | None = None
    patient: PatientBy | None = None
    consultation: ConsultationBy | None = None
    recording: RecordingBy | None = None
    address: IPv4Address | IPv6Address | None = None
    session_fingerprint: str | None = None
    recorded: TimeRange | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statements that read the audit log."""
        return {
            "actor_id": self.actor_id,
            "action": self.action,
            "outcomes": None if self.outcomes is None else [outcome.value for outcome in self.outcomes],
            "purposes": None if self.purposes is None else [str(purpose) for purpose in self.purposes],
            **patient_parameters(self.patient),
            **consultation_parameters(self.consultation),
            **recording_parameters(self.recording),
            "address": None if self.address is None else str(self.address),
            "session_fingerprint": self.session_fingerprint,
            "since": self.recorded.since if self.recorded else None,
            "until": self.recorded.until if self.recorded else None,
        }


class AuditInterval(Enum):
    """The intervals of a summary, in UTC. A week begins on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def start(self, moment: datetime) -> datetime:
        """Return the start of the interval that contains the moment."""
        hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if self is AuditInterval.HOUR:
            return hour
        day = hour.replace(hour=0)
        if self is AuditInterval.WEEK:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is AuditInterval.MONTH else day

    def after(self, start: datetime) -> datetime:
        """Return the start of the next interval."""
        if self is AuditInterval.MONTH:
            return self.start(start + timedelta(days=31))
        days = {AuditInterval.HOUR: timedelta(hours=1), AuditInterval.DAY: timedelta(days=1)}
        return start + days.get(self, timedelta(days=7))


class AuditGrouping(Enum):
    """The attribute of the events for whose values a summary has a series each."""

    ACTION = "action"
    OUTCOME = "outcome"
    PURPOSE = "purpose"
    ACTOR = "actor"


MAX_INTERVALS: Final = 1_000
"""A summary has at most this many intervals."""


@dataclass(frozen=True)
class AuditSeries:
    """The number of events with one value in each interval of a summary."""

    value: str
    event_counts: tuple[int, ...]


@dataclass(frozen=True)
class AuditSummary:
    """How many events there are in each interval: all events, and those with each of the 20 most frequent values."""

    interval: AuditInterval
    grouping: AuditGrouping
    starts_at: tuple[datetime, ...]
    event_counts: tuple[int, ...]
    series: tuple[AuditSeries, ...]


@dataclass(frozen=True)
class AuditCount:
    """The number of events in one interval, of all events (`value` is None) or of those with one value."""

    starts_at: datetime
    value: str | None
    event_count: int


def split_range(recorded: TimeRange | None, interval: AuditInterval) -> tuple[datetime, ...]:
    """Return the start of each interval that lies in the range at least in part. Raises InvalidInput
    (bad_summary_range) if the range has no start or no end, is empty, has more than `MAX_INTERVALS` intervals, or has
    an interval that begins or ends outside of the years 1 to 9999.
    """
    since, until = (recorded.since, recorded.until) if recorded else (None, None)
    if since is None or until is None or since >= until:
        raise InvalidInput("bad_summary_range", maximum=MAX_INTERVALS)
    try:
        starts = [interval.start(since)]
        while (following := interval.after(starts[-1])) < until and len(starts) <= MAX_INTERVALS:
            starts.append(following)
    except OverflowError as error:
        raise InvalidInput("bad_summary_range", maximum=MAX_INTERVALS) from error
    if len(starts) > MAX_INTERVALS:
        raise InvalidInput("bad_summary_range", maximum=MAX_INTERVALS)
    return tuple(starts)


def build_summary(
    interval: AuditInterval,
    grouping: AuditGrouping,
    starts_at: tuple[datetime, ...],
    counts: Iterable[AuditCount],
) -> AuditSummary:
    """Return the summary of the counts, with 0 for each interval without a count. The series with the most events
    comes first.
    """
    places = {start: place for place, start in enumerate(starts_at)}
    series: dict[str | None, list[int]] = {None: [0] * len(starts_at)}
    for count in counts:
        series.setdefault(count.value, [0] * len(starts_at))[places[count.starts_at]] = count.event_count
    total = series.pop(None)
    named = [AuditSeries(value, tuple(counted)) for value, counted in series.items() if value is not None]
    named.sort(key=lambda one: (-sum(one.event_counts), one.value))
    return AuditSummary(interval, grouping, starts_at, tuple(total), tuple(named))
