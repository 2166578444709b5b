"""Tests of review cases in the database: one open case for each rule and key, a bounded list of events, and no case
for an officer about their own activity.
"""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.databases import Database
from tests.policies.acting import acting, at_once, superuser, value
from tests.policies.actors import ANA, BRUNO, Connection, id_of

OPEN: LiteralString = "select private.open_case('denied_burst', %s, %s, %s, %s, %s)"
CARLA = id_of("carla")
SIMON = id_of("simon")


def _events(connection: Connection, count: int, actor: UUID = ANA.doctor_id, at: str = "now") -> list[UUID]:
    rows = connection.execute(
        "insert into audit.events (recorded_at, actor_id, actor_role, action, operation, outcome, purpose, basis,"
        " policy_version) select %s::timestamptz + n * interval '1 ms', %s, 'clinician', 'recording.read', 'R',"
        " 'DENIED', 'TREATMENT', 'refused', '' from generate_series(1, %s) as n returning id",
        [at, actor, count],
    )
    return [row[0] for row in rows.fetchall()]


def _open(
    connection: Connection,
    events: Sequence[UUID],
    key: str = "k",
    subject: UUID | None = ANA.doctor_id,
    patients: Sequence[UUID] = (ANA.patient_id,),
) -> UUID:
    made = value(connection, OPEN, subject, list(patients), [ANA.id_of("over")], list(events), key)
    return UUID(str(made))


def _case(connection: Connection, case_id: UUID) -> dict[str, Any]:
    row = connection.execute(
        "select to_jsonb(c) from resguardo.review_cases as c where c.id = %s", [case_id]
    ).fetchone()
    assert row is not None
    return dict(row[0])


def _decide(connection: Connection, case_id: UUID, officer: UUID = CARLA) -> None:
    connection.execute(
        "update resguardo.review_cases set status = 'DECIDED', disposition = 'APPROPRIATE', disposition_text = 'x',"
        " decided_by = %s, decided_at = now() where id = %s",
        [officer, case_id],
    )


def test_second_call_with_the_same_events_adds_nothing(practice: Database) -> None:
    with superuser(practice) as owner:
        events = _events(owner, 3)
        first = _open(owner, events)
        before = _case(owner, first)
        assert _open(owner, events) == first
        assert _case(owner, first) == before
        assert (before["event_count"], before["listed_event_count"], before["status"]) == (3, 3, "OPEN")
        opened = owner.execute(
            "select count(*) from audit.events where action = 'review_case.open' and entities @> %s",
            [f'[{{"ids": ["{first}"]}}]'],
        ).fetchone()
        assert opened == (1,)


def test_later_events_join_the_open_case_and_its_range_of_time_grows_both_ways(practice: Database) -> None:
    with superuser(practice) as owner:
        case_id = _open(owner, _events(owner, 2, at="2026-11-20 12:00Z"))
        late = _events(owner, 1, at="2026-11-20 09:00Z")
        assert _open(owner, late, patients=[BRUNO.patient_id]) == case_id
        case = _case(owner, case_id)
        assert case["event_count"] == 3
        assert case["first_event_at"].startswith("2026-11-20T09:00")
        assert case["last_event_at"].startswith("2026-11-20T12:00")
        assert case["patient_ids"] == [str(ANA.patient_id), str(BRUNO.patient_id)]


def test_decided_case_takes_no_events_and_new_events_open_another_case(practice: Database) -> None:
    with superuser(practice) as owner:
        events = _events(owner, 2)
        first = _open(owner, events, subject=SIMON)
        _decide(owner, first)
        assert _open(owner, events) == first
        assert _open(owner, []) == first
        late = _events(owner, 1)
        second = _open(owner, [*events, *late], subject=SIMON)
        assert second != first
        assert (_case(owner, first)["event_count"], _case(owner, second)["event_count"]) == (2, 1)
        assert value(owner, "select private.has_open_case(%s)", SIMON)
        assert value(owner, "select private.is_in_open_case(%s)", late[0])
        _decide(owner, second)
        assert _open(owner, late) in {first, second}
        assert not value(owner, "select private.is_in_open_case(%s)", late[0])
        assert not value(owner, "select private.has_open_case(%s)", SIMON)


def test_case_lists_at_most_1000_events_and_counts_the_others(practice: Database) -> None:
    with superuser(practice) as owner:
        case_id = _open(owner, _events(owner, 990))
        more = _events(owner, 25)
        _open(owner, more)
        case = _case(owner, case_id)
        assert (case["event_count"], case["listed_event_count"]) == (1015, 1000)
        [listed] = owner.execute(
            "select count(*) from resguardo.review_case_events where case_id = %s", [case_id]
        ).fetchall()
        assert listed == (1000,)
        assert all(value(owner, "select private.is_in_open_case(%s)", event) for event in more)


def test_case_names_at_most_1000_patients_and_says_that_there_are_more(practice: Database) -> None:
    with superuser(practice) as owner:
        case_id = _open(owner, _events(owner, 1), patients=[uuid4() for _ in range(1000)])
        assert not _case(owner, case_id)["has_more_patients"]
        _open(owner, _events(owner, 1), patients=[uuid4()])
        case = _case(owner, case_id)
        assert (len(case["patient_ids"]), case["has_more_patients"]) == (1000, True)


def test_event_that_the_log_lacks_is_neither_listed_nor_counted(practice: Database) -> None:
    with superuser(practice) as owner:
        case = _case(owner, _open(owner, [uuid4()]))
        assert (case["event_count"], case["listed_event_count"], case["first_event_at"]) == (0, 0, None)


@pytest.mark.parametrize(("subject", "is_shown"), [(CARLA, False), (SIMON, True), (None, True)])
def test_officer_sees_no_case_about_their_own_activity(
    practice: Database, subject: UUID | None, is_shown: bool
) -> None:
    with superuser(practice) as owner:
        case_id = _open(owner, _events(owner, 1), subject=subject)
    with acting(practice, "compliance") as officer:
        shown = officer.execute(
            "select c.id, (select count(*) from resguardo.review_case_events as e where e.case_id = c.id)"
            " from resguardo.review_cases as c where c.id = %s",
            [case_id],
        ).fetchall()
        listed = officer.execute(
            "select from resguardo.review_case_events as e where e.case_id = %s", [case_id]
        ).fetchall()
    assert shown == ([(case_id, 1)] if is_shown else [])
    assert len(listed) == is_shown


def test_parallel_calls_open_one_case(practice: Database) -> None:
    with superuser(practice) as owner:
        events = _events(owner, 2)

    def open_second() -> UUID:
        with superuser(practice) as connection:
            return _open(connection, events[1:])

    with psycopg.connect(practice.superuser_url) as holder:
        first = _open(holder, events[:1])
        with at_once(practice, holder, open_second) as second:
            holder.commit()
            assert second.result() == first
    with superuser(practice) as owner:
        assert _case(owner, first)["event_count"] == 2
