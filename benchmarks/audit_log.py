"""An audit log of any size for benchmarks and plan tests, with frequent and rare values for each filter.

The busy doctor is the actor of 3 in 10 events, and the busy patient is a subject of 1 in 13 events. All events of
the busy consultation are in the first third of the log. One event in 11 is a list of ten patients, ten consultations
and ten recordings. The rare values occur once in 2,500 to 20,000 events. Two in five events come from one address, and
one in five from one session. The purposes exclude one another, so two of them never match the same event.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg

from app.audit.model import AuditFilter, Outcome
from app.postgres.queries import Queries
from app.postgres.references import ConsultationBy, PatientBy, RecordingBy, TimeRange

_AT_ONCE: Final = 100_000
_TRIGGERS: Final = ("events_queue_for_index", "events_queue_for_sealing")
_TABLES: Final = (
    "select c.oid::regclass::text from pg_class as c"
    " where c.relnamespace = 'audit'::regnamespace and c.relkind = 'r'"
)
_sql = Queries(Path(__file__).with_name("audit.sql"))

_BUSY_DOCTOR, _DOCTOR, _RARE_DOCTOR = UUID(int=0), UUID(int=4), UUID(int=99)
_BUSY_PATIENT, _PATIENT, _RARE_PATIENT = UUID(int=1_000_000), UUID(int=1_000_007), UUID(int=1_009_999)
_BUSY_CONSULTATION, _CONSULTATION = UUID(int=2_000_000), UUID(int=2_000_021)
_BUSY_RECORDING, _RECORDING = UUID(int=3_000_000), UUID(int=3_000_031)
_NOBODY = UUID(int=1)

FILTERS: Final = {
    "busy actor": AuditFilter(actor_id=_BUSY_DOCTOR),
    "rare actor": AuditFilter(actor_id=_RARE_DOCTOR),
    "common action": AuditFilter(action="recording.read"),
    "rare action": AuditFilter(action="hold.place"),
    "absent action": AuditFilter(action="hold.release"),
    "ALLOWED": AuditFilter(outcomes=(Outcome.ALLOWED,)),
    "DENIED": AuditFilter(outcomes=(Outcome.DENIED,)),
    "ABSENT": AuditFilter(outcomes=(Outcome.ABSENT,)),
    "FAILED": AuditFilter(outcomes=(Outcome.FAILED,)),
    "DENIED or FAILED": AuditFilter(outcomes=(Outcome.DENIED, Outcome.FAILED)),
    "busy patient": AuditFilter(patient=PatientBy(_BUSY_PATIENT)),
    "patient": AuditFilter(patient=PatientBy(_PATIENT)),
    "rare patient": AuditFilter(patient=PatientBy(_RARE_PATIENT)),
    "busy consultation": AuditFilter(consultation=ConsultationBy(_BUSY_CONSULTATION)),
    "consultation": AuditFilter(consultation=ConsultationBy(_CONSULTATION)),
    "absent consultation": AuditFilter(consultation=ConsultationBy(_NOBODY)),
    "TREATMENT": AuditFilter(purposes=("TREATMENT",)),
    "PATIENT_REQUEST": AuditFilter(purposes=("PATIENT_REQUEST",)),
    "LEGAL": AuditFilter(purposes=("LEGAL",)),
    "LEGAL or OPERATIONS": AuditFilter(purposes=("LEGAL", "OPERATIONS")),
    "PAYMENT": AuditFilter(purposes=("PAYMENT",)),
    "busy recording": AuditFilter(recording=RecordingBy(_BUSY_RECORDING)),
    "recording": AuditFilter(recording=RecordingBy(_RECORDING)),
    "absent recording": AuditFilter(recording=RecordingBy(_NOBODY)),
    "busy address": AuditFilter(address=ip_address("192.0.2.1")),
    "address": AuditFilter(address=ip_address("198.51.100.7")),
    "rare address": AuditFilter(address=ip_address("2001:db8::1")),
    "busy session": AuditFilter(session_fingerprint="a" * 64),
    "rare session": AuditFilter(session_fingerprint="b" * 64),
    "absent session": AuditFilter(session_fingerprint="c" * 64),
    "since": AuditFilter(recorded=TimeRange(since=datetime(2030, 6, 1, tzinfo=UTC))),
    "until": AuditFilter(recorded=TimeRange(until=datetime(2027, 6, 1, tzinfo=UTC))),
    "since and until": AuditFilter(
        recorded=TimeRange(datetime(2028, 1, 1, tzinfo=UTC), datetime(2028, 2, 1, tzinfo=UTC))
    ),
}
"""Filters with one condition, by name. `pairs()` combines them."""

_MOST_VACUUMS: Final = 200
"""A transaction of another session, for example an automatic ANALYZE, can keep VACUUM from marking rows as visible."""

_IS_VISIBLE: Final = """
select bool_and(c.relallvisible = c.relpages)
from pg_catalog.pg_class as c
where c.oid in ('audit.event_blocks'::regclass, 'audit.event_bitmaps'::regclass)
    or c.oid in (select i.inhrelid from pg_catalog.pg_inherits as i where i.inhparent = 'audit.events'::regclass)
"""


def fill(superuser_url: str, events: int, on_progress: Callable[[int], None] = lambda _: None) -> None:
    """Write events into an empty audit log, and put them into the blocks of the search index. The function
    turns the triggers of the audit log off while it writes, so the events are not sealed.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        # Autovacuum would run meanwhile, and keep VACUUM from marking the rows as visible to all.
        for (name,) in connection.execute(_TABLES).fetchall():
            connection.execute(f"alter table {name} set (autovacuum_enabled = false)".encode())
        for trigger in _TRIGGERS:
            connection.execute(f"alter table audit.events disable trigger {trigger}".encode())
        for first in range(1, events + 1, _AT_ONCE):
            last = min(events, first + _AT_ONCE - 1)
            connection.execute(_sql["fill_log"], {"events": events, "first": first, "last": last})
            on_progress(last // 2)
        connection.execute(_sql["queue_for_index"])
        for trigger in _TRIGGERS:
            connection.execute(f"alter table audit.events enable always trigger {trigger}".encode())
        connection.execute("vacuum analyze audit.events, audit.unindexed")
        blocks = 0
        while connection.execute(_sql["index_events"]).fetchone() == (True,):
            blocks += 1
            on_progress(events // 2 + blocks * 512)
        for _ in range(_MOST_VACUUMS):
            connection.execute(
                "vacuum analyze audit.events, audit.unindexed, audit.event_blocks, audit.event_bitmaps"
            )
            if connection.execute(_IS_VISIBLE).fetchone() == (True,):
                return
    raise RuntimeError("another transaction kept VACUUM from marking the rows as visible")


def pairs() -> dict[str, AuditFilter]:
    """Return every pair of filters that set different conditions, each combined into one filter."""
    names = list(FILTERS)
    return {
        f"{one}, {other}": _both(FILTERS[one], FILTERS[other])
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        if not _conditions(FILTERS[one]).keys() & _conditions(FILTERS[other]).keys()
    }


def _both(one: AuditFilter, other: AuditFilter) -> AuditFilter:
    return replace(one, **_conditions(other))


def _conditions(wanted: AuditFilter) -> dict[str, Any]:
    given = {one.name: getattr(wanted, one.name) for one in fields(wanted)}
    return {name: value for name, value in given.items() if value is not None}
