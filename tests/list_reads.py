"""The pages of lists, as the services read them: one case for each list, role and filter."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString, cast
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from app.access_requests import store as access_requests
from app.access_requests.model import AccessRequestStatus
from app.consultations import store as consultations
from app.consultations.model import ConsultationFilter
from app.deletions import store as deletions
from app.deletions.model import DeletionFilter, DeletionStatus
from app.holds import store as holds
from app.postgres.database import Parameters, Transaction
from app.postgres.paging import Cursor, PageRequest
from app.postgres.references import ConsultationBy, PatientBy, TimeRange
from app.postgres.selection import Selection
from app.recordings import changes
from app.recordings import store as recordings
from app.recordings.model import RecordingFilter, RecordingStatus
from tests.databases import Database
from tests.policies.actors import Connection, id_of

FIRST: Final = 10


@dataclass(frozen=True)
class Facts:
    """Values of one doctor's rows, from which the filters of the cases are made."""

    consultation_id: UUID
    recording_id: UUID
    patient_id: UUID
    room_name: str
    oldest: datetime
    newest: datetime

    @property
    def middle(self) -> Cursor:
        """Return a page cursor that points to the middle of the doctor's lists."""
        return Cursor(self.oldest + (self.newest - self.oldest) / 2, self.recording_id)


Call = Callable[[Transaction, PageRequest, Facts], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Case:
    """A read to measure: a list, its filter, and the role that reads it. `most` is the largest allowed cost of the
    page in a large practice, as a multiple of the cost in a small practice.
    """

    name: str
    user: str
    call: Call
    most: float = 1.5


@dataclass(frozen=True)
class Statement:
    """A statement that a service runs, with its parameters."""

    text: LiteralString
    parameters: Parameters

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(re.findall(r"%\((\w+)\)s", self.text)))

    def prepare(self, connection: Connection, name: str) -> None:
        """Prepare the statement under this name. If the name belongs to an earlier prepared statement, replace that
        statement.
        """
        numbered = self.text
        for number, parameter in enumerate(self._names, start=1):
            numbered = numbered.replace(f"%({parameter})s", f"${number}")
        if connection.execute("select from pg_prepared_statements where name = %s", [name]).rowcount:
            connection.execute(sql.SQL("deallocate {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("prepare {} as ").format(sql.Identifier(name)) + sql.SQL(numbered))

    def explain(self, connection: Connection, name: str) -> dict[str, Any]:
        """Run the prepared statement, and return its plan with the buffers and the times."""
        values = sql.SQL(", ").join(sql.Literal(self.parameters[parameter]) for parameter in self._names)
        explain = sql.SQL("explain (analyze, buffers, timing off, format json) execute {}").format(
            sql.Identifier(name)
        )
        given = sql.SQL("({})").format(values) if self._names else sql.SQL("")
        row = connection.execute(explain + given).fetchone()
        assert row is not None
        return cast("dict[str, Any]", row[0][0])


class _NotedError(Exception):
    """The test transaction raises this error once it has recorded a statement, so that the statement does not run."""


class _Noting(Transaction):
    """A transaction that records the statement of a page instead of running it."""

    def __init__(self, role: str) -> None:
        super().__init__(cast("Any", None), role)
        self.noted: Statement | None = None

    async def one(self, sql: LiteralString, parameters: Parameters | None = None) -> DictRow | None:
        self.noted = Statement(sql, parameters or {})
        raise _NotedError

    async def all(self, sql: LiteralString, parameters: Parameters | None = None) -> list[DictRow]:
        self.noted = Statement(sql, parameters or {})
        raise _NotedError


_ROLES: Final = {"doctor": "clinician", "patient": "patient", "officer": "compliance"}


def statement(case: Case, facts: Facts, *, after: Cursor | None = None) -> Statement:
    """Return the statement that the service runs for this case's page."""
    noting = _Noting(_ROLES.get(case.user, ""))
    with suppress(_NotedError):
        asyncio.run(case.call(noting, PageRequest(FIRST, after), facts))
    assert noting.noted is not None
    return noting.noted


def facts(superuser: Connection, doctor_id: UUID) -> Facts:
    """Return the values of the doctor's rows from which the cases' filters are made. The recording among them is in
    the middle of the doctor's list.
    """
    row = superuser.execute(
        "select r.consultation_id, r.id, r.patient_id, r.room_name, l.oldest, l.newest"
        " from resguardo.recordings as r, (select min(created_at) as oldest, max(created_at) as newest,"
        " count(*) as rows from resguardo.recordings where doctor_id = %(id)s and medium = 'VIDEO') as l"
        " where r.doctor_id = %(id)s and r.medium = 'VIDEO' and r.created_at <= (l.oldest + (l.newest - l.oldest) / 2)"
        " order by r.created_at desc limit 1",
        {"id": doctor_id},
    ).fetchone()
    assert row is not None
    return Facts(*row)


@dataclass(frozen=True)
class Reader:
    """The person who reads the page of a case, with the connection to the person's practice and the values for the
    filters.
    """

    connection: Connection
    user: str
    facts: Facts


@contextmanager
def readers(large: Database, small: Database) -> Iterator[Callable[[Case], tuple[Reader, Reader]]]:
    """Yield a function that returns the readers of a case: one with many rows, and one with few.

    In the large practice, the doctor and the patient with many rows are compared with the doctor and the patient
    with few rows. A compliance officer sees all rows of a practice, so the officer of the large practice is
    compared with the officer of the small practice.
    """
    with (
        psycopg.connect(large.superuser_url) as of_large,
        psycopg.connect(small.superuser_url) as of_small,
        psycopg.connect(large.api_url, autocommit=True, prepare_threshold=None) as in_large,
        psycopg.connect(small.api_url, autocommit=True, prepare_threshold=None) as in_small,
    ):
        many, few = (facts(of_large, id_of(f"doctor {name}")) for name in ("big", "small"))
        all_of_small = facts(of_small, id_of("doctor big"))

        def of(case: Case) -> tuple[Reader, Reader]:
            if case.user == "officer":
                return Reader(in_large, "officer", many), Reader(in_small, "officer", all_of_small)
            return (
                Reader(in_large, f"{case.user} big", many),
                Reader(in_large, f"{case.user} small", few),
            )

        yield of


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's node and all nodes below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


_EVERYTHING: Final = Selection.of(
    *("consultation.externalId", "createdAt", "durationSeconds", "egressId", "endedAt", "id", "isHeld"),
    *(
        "mediaFiles.id",
        "mediaFiles.kind",
        "problem.code",
        "retentionEndsAt",
        "roomName",
        "sha256",
        "sizeBytes",
    ),
    *("startedAt", "status", "transcription.status", "insights.status"),
)
_NESTED: Final = Selection.of("consents.id", "externalId", "id", "participants.id", "participants.kind")
_DELETION: Final = Selection.of(
    "attemptCount", "finishedAt", "id", "problem.code", "recording.id", "recording.consultation.id", "status"
)
_SUBJECTS: Final = ("patient.externalId", "consultation.externalId", "consultation.participants.id")
_HOLD: Final = Selection.of("id", "isActive", "matter", "recordedFrom", *_SUBJECTS)
_REQUEST: Final = Selection.of("denial.ground", "export.status", "id", "isOverdue", *_SUBJECTS)
_S = RecordingStatus


def _recordings(name: str, wanted: Callable[[Facts], RecordingFilter], most: float = 1.5) -> Case:
    return Case(
        f"recordings {name}",
        "doctor",
        lambda tx, request, facts: recordings.list_page(tx, request, wanted(facts), _EVERYTHING),
        most,
    )


def _consultations(
    user: str,
    name: str = "all",
    wanted: Callable[[Facts], ConsultationFilter] = lambda _: ConsultationFilter(),
) -> Case:
    return Case(
        f"consultations {name} of the {user}",
        user,
        lambda tx, request, facts: consultations.list_page(tx, request, wanted(facts), _NESTED),
    )


def _deletions(user: str, name: str, wanted: Callable[[Facts], DeletionFilter], most: float = 1.5) -> Case:
    return Case(
        f"deletions {name}, {user}",
        user,
        lambda tx, request, facts: deletions.list_page(tx, request, wanted(facts), _DELETION),
        most,
    )


def _access_requests(user: str, status: AccessRequestStatus | None) -> Case:
    return Case(
        f"access requests {status or 'all'}, {user}",
        user,
        lambda tx, request, _: access_requests.list_page(
            tx, request, () if status is None else (status,), _REQUEST
        ),
    )


def _holds(name: str, is_active: bool | None) -> Case:
    return Case(
        f"holds {name}", "officer", lambda tx, request, _: holds.list_page(tx, request, is_active, _HOLD)
    )


CASES: Final = (
    _recordings("all", lambda _: RecordingFilter()),
    _recordings("READY", lambda _: RecordingFilter(statuses=(_S.READY,))),
    _recordings("LOST", lambda _: RecordingFilter(statuses=(_S.LOST,))),
    _recordings("STARTING", lambda _: RecordingFilter(statuses=(_S.STARTING,))),
    _recordings("LOST or FAILED", lambda _: RecordingFilter(statuses=(_S.LOST, _S.FAILED))),
    _recordings("of all statuses", lambda _: RecordingFilter(statuses=tuple(_S)), 5),
    _recordings(
        "of a consultation", lambda f: RecordingFilter(consultation=ConsultationBy(f.consultation_id))
    ),
    _recordings("of a room", lambda f: RecordingFilter(room_name=f.room_name)),
    _recordings("since the oldest", lambda f: RecordingFilter(since=f.oldest)),
    _recordings("since the newest", lambda f: RecordingFilter(since=f.newest)),
    _recordings("until the oldest", lambda f: RecordingFilter(until=f.oldest + timedelta(minutes=8))),
    _recordings("until the newest", lambda f: RecordingFilter(until=f.newest)),
    _recordings(
        "of a range",
        lambda f: RecordingFilter(since=f.oldest, until=f.oldest + (f.newest - f.oldest) / 2),
    ),
    _recordings("LOST since", lambda f: RecordingFilter(statuses=(_S.LOST,), since=f.oldest)),
    _recordings("READY until", lambda f: RecordingFilter(statuses=(_S.READY,), until=f.newest)),
    _recordings(
        "FAILED of a range",
        lambda f: RecordingFilter(statuses=(_S.FAILED,), since=f.oldest, until=f.newest),
    ),
    _recordings("READY of a room", lambda f: RecordingFilter(statuses=(_S.READY,), room_name=f.room_name), 5),
    _recordings(
        "of a consultation since",
        lambda f: RecordingFilter(consultation=ConsultationBy(f.consultation_id), since=f.oldest),
        5,
    ),
    _recordings(
        "of everything",
        lambda f: RecordingFilter(
            (_S.READY, _S.LOST),
            ConsultationBy(f.consultation_id),
            PatientBy(f.patient_id),
            f.room_name,
            f.oldest,
            f.newest,
        ),
        5,
    ),
    Case(
        "recordings changed last",
        "doctor",
        lambda tx, *_: changes.list_last_changed(tx, changes.MOST_PRESENT),
    ),
    _recordings("of a patient", lambda f: RecordingFilter(patient=PatientBy(f.patient_id))),
    _recordings(
        "of a patient in a range",
        lambda f: RecordingFilter(patient=PatientBy(f.patient_id), since=f.oldest, until=f.newest),
    ),
    _recordings("of an unknown patient", lambda _: RecordingFilter(patient=PatientBy(UUID(int=1)))),
    _consultations("doctor"),
    *(
        case
        for user in ("doctor", "patient")
        for case in (
            _consultations(
                user, "of a patient", lambda f: ConsultationFilter(patient=PatientBy(f.patient_id))
            ),
            _consultations(
                user,
                "in a range",
                lambda f: ConsultationFilter(
                    scheduled=TimeRange(f.oldest, f.oldest + (f.newest - f.oldest) / 2)
                ),
            ),
            _consultations(
                user,
                "of a patient in a range",
                lambda f: ConsultationFilter(PatientBy(f.patient_id), TimeRange(f.oldest, f.newest)),
            ),
        )
    ),
    _consultations("patient"),
    _consultations("officer"),
    Case("joined rooms", "doctor", lambda tx, *_: consultations.list_joined_rooms(tx)),
    Case(
        "open rooms",
        "doctor",
        lambda tx, _, f: consultations.show_rooms(
            tx,
            [f.consultation_id],
            Selection.of("name", "consultation.externalId", "consultation.patient.id"),
        ),
    ),
    *(
        case
        for user in ("doctor", "officer")
        for case in (
            _deletions(user, "all", lambda _: DeletionFilter()),
            _deletions(user, "DELETED", lambda _: DeletionFilter((DeletionStatus.DELETED,))),
            _deletions(user, "UNDONE", lambda _: DeletionFilter((DeletionStatus.UNDONE,))),
            _deletions(user, "REQUESTED", lambda _: DeletionFilter((DeletionStatus.REQUESTED,))),
            _deletions(user, "failing", lambda _: DeletionFilter(is_failing=True)),
            _deletions(user, "not failing", lambda _: DeletionFilter(is_failing=False)),
            _deletions(user, "of a recording", lambda f: DeletionFilter(recording_id=f.recording_id)),
            _deletions(
                user,
                "DELETING, not failing",
                lambda _: DeletionFilter((DeletionStatus.DELETING,), is_failing=False),
                5,
            ),
            _deletions(
                user,
                "DELETED of a recording",
                lambda f: DeletionFilter((DeletionStatus.DELETED,), f.recording_id, False),
                5,
            ),
        )
    ),
    _holds("all", None),
    _holds("active", True),
    _holds("released", False),
    *(
        _access_requests(user, status)
        for user in ("patient", "officer")
        for status in (
            None,
            AccessRequestStatus.WITHDRAWN,
            AccessRequestStatus.OPEN,
            AccessRequestStatus.FULFILLED,
        )
    ),
)
