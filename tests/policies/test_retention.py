"""Tests of retention in the database: the approval of retention policies, and their effect on existing recordings."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from app.retention.model import (
    RetentionPolicy,
    Terms,
    compute_coming_of_age,
    compute_due_at,
    find_shortened_places,
)
from tests.databases import Database
from tests.policies.acting import acting, at_once, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, SHA256, Connection, begin_as, claims_of, id_of
from tests.practice import Practice

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
READY = ANA.id_of("over READY")
LIVE = ANA.id_of("live RECORDING")
DAY = timedelta(days=1)
STILL = (
    "create or replace function private.now() returns timestamptz language plpgsql volatile"
    " set search_path = pg_catalog, pg_temp as $$ begin return '{}'::timestamptz; end $$"
)


@pytest.fixture
def practice(practice: Database) -> Database:
    """Return the seeded database with a second compliance officer, Dora, and with the database's clock stopped at
    NOW.
    """
    with superuser(practice) as connection:
        builder = Practice(connection)
        dora = builder.user(id_of("dora"), email="dora@example.org")
        builder.session(dora, id_of("dora session"))
        builder.member(dora, "compliance")
        connection.execute("delete from resguardo.legal_holds")
        connection.execute("delete from resguardo.retention_approvals")
        connection.execute("delete from resguardo.retention_policies")
        connection.execute(
            "update resguardo.deletions set status = 'DELETED' where recording_id = %s",
            [BRUNO.id_of("over FAILED")],
        )
    set_clock(practice, NOW)
    return practice


def set_clock(database: Database, at: datetime) -> None:
    with superuser(database) as connection:
        connection.execute(STILL.format(at.isoformat()).encode())


def policy(
    days: int = 90, *, kinds: Mapping[str, int] | None = None, minors: int | None = 18, existing: bool = False
) -> RetentionPolicy:
    return RetentionPolicy(
        name="any",
        default=Terms(days, 2557),
        kinds={kind: Terms(term, 2557) for kind, term in (kinds or {}).items()},
        minors_until_age_years=minors,
        grace_days=7,
        jurisdiction=None,
        applies_to_existing=existing,
    )


def propose(database: Database, name: str, terms: RetentionPolicy) -> int:
    with psycopg.connect(database.owner_url) as owner:
        made: int = value(
            owner, "select private.propose_policy(%s, %s, '', %s)", name, SHA256, Jsonb(terms.terms)
        )
    return made


def approve(database: Database, officer: str, of_policy: int) -> bool:
    with psycopg.connect(database.api_url) as connection:
        begin_as(connection, claims_of(officer))
        is_there: bool = value(connection, "select private.approve_policy(%s)", of_policy)
    return is_there


def activate(database: Database, name: str, terms: RetentionPolicy) -> int:
    """Propose a new retention policy, and approve it as one or, if necessary, two compliance officers. Return its
    id.
    """
    made = propose(database, name, terms)
    approve(database, "carla", made)
    if status(database, made) != "ACTIVE":
        approve(database, "dora", made)
    assert status(database, made) == "ACTIVE"
    return made


def status(database: Database, of_policy: int) -> str:
    with superuser(database) as connection:
        found: str = value(
            connection, "select status from resguardo.retention_policies where id = %s", of_policy
        )
    return found


def kept(database: Database, recording: UUID) -> tuple[Any, ...]:
    """Return the retention class, the due date and the retention policy of a recording."""
    with superuser(database) as connection:
        row = connection.execute(
            "select retention_class, due_at, retention_policy from resguardo.recordings where id = %s",
            [recording],
        ).fetchone()
    assert row is not None
    return tuple(row)


def start(
    connection: Connection, name: str = "new", medium: str = "VIDEO", video_id: str | None = None
) -> UUID:
    """Insert a requested recording of Ana's consultation `startable`. Return its id."""
    made = ANA.id_of(name)
    connection.execute(
        "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name,"
        " medium, video_id) values (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            made,
            ANA.id_of("startable"),
            ANA.doctor_id,
            ANA.patient_id,
            ANA.doctor_id,
            ANA.room_of("startable"),
            medium,
            video_id and ANA.id_of(video_id),
        ],
    )
    return made


def end(database: Database, recording: UUID, *steps: str) -> None:
    with superuser(database) as connection:
        for step in steps or ("STARTING", "VERIFYING", "READY"):
            connection.execute(
                "update resguardo.recordings set status = %s, sha256 = %s, size_bytes = 5 where id = %s",
                [step, SHA256, recording],
            )


def is_minor(database: Database, birth_date: date) -> None:
    with superuser(database) as connection:
        connection.execute(
            "update resguardo.patients set birth_date = %s where id = %s", [birth_date, ANA.patient_id]
        )


# Approval of policies


def test_the_first_policy_where_something_is_recorded_takes_two_officers(practice: Database) -> None:
    made = propose(practice, "first", policy())
    assert approve(practice, "carla", made)
    assert status(practice, made) == "PROPOSED"
    assert kept(practice, READY) == ("keep", None, None)

    assert approve(practice, "dora", made)
    assert status(practice, made) == "ACTIVE"
    assert kept(practice, READY)[2] == made
    assert kept(practice, READY)[1] >= NOW


def test_the_same_officer_does_not_count_twice(practice: Database) -> None:
    made = propose(practice, "first", policy())
    approve(practice, "carla", made)
    with refused("RG409", "retention_same_officer"):
        approve(practice, "carla", made)
    assert status(practice, made) == "PROPOSED"


def test_an_officer_who_was_suspended_since_does_not_count(practice: Database) -> None:
    made = propose(practice, "first", policy())
    approve(practice, "carla", made)
    with superuser(practice) as connection:
        connection.execute(
            "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
            [id_of("carla")],
        )
    approve(practice, "dora", made)
    assert status(practice, made) == "PROPOSED"


@pytest.mark.parametrize(
    ("after", "officers"),
    [
        (policy(91), 1),
        (policy(90, kinds={"follow_up": 365}), 1),
        (policy(90, minors=21), 1),
        (policy(89), 2),
        (policy(90, kinds={"follow_up": 89}), 2),
        (policy(90, minors=17), 2),
        (policy(90, minors=None), 2),
        (policy(3650, kinds={"follow_up": 1}), 2),
    ],
)
def test_lengthening_takes_one_officer_and_shortening_two(
    practice: Database, after: RetentionPolicy, officers: int
) -> None:
    first = activate(practice, "first", policy())
    second = propose(practice, "second", after)
    approve(practice, "carla", second)
    assert status(practice, second) == ("ACTIVE" if officers == 1 else "PROPOSED")
    if officers == 2:
        approve(practice, "dora", second)
    assert (status(practice, first), status(practice, second)) == ("SUPERSEDED", "ACTIVE")


def test_a_proposal_is_judged_against_what_is_in_force_when_it_is_approved(practice: Database) -> None:
    activate(practice, "first", policy(90))
    shorter_now = propose(practice, "later", policy(100))
    activate(practice, "second", policy(365))
    approve(practice, "carla", shorter_now)
    assert status(practice, shorter_now) == "PROPOSED"


def test_what_an_older_policy_keeps_longer_is_not_cut_by_one_officer(practice: Database) -> None:
    """The second policy shortens the term of new recordings only, and two officers approve it. The third policy has
    a longer term than the second policy, but the third policy also applies to existing recordings and would shorten
    their term.
    """
    activate(practice, "first", policy(365))
    activate(practice, "second", policy(90))
    third = propose(practice, "third", policy(91, existing=True))
    approve(practice, "carla", third)
    assert status(practice, third) == "PROPOSED"
    assert kept(practice, READY)[1] > NOW + 200 * DAY


def test_a_settled_proposal_is_not_decided_again(practice: Database) -> None:
    made = propose(practice, "first", policy())
    with acting(practice, "compliance") as connection:
        assert value(connection, "select private.reject_policy(%s)", made)
    for call in ("approve_policy", "reject_policy"):
        with refused("RG409", "retention_policy_settled"), acting(practice, "compliance") as connection:
            connection.execute(f"select private.{call}(%s)".encode(), [made])
    assert status(practice, made) == "REJECTED"


def test_unknown_proposal_is_reported_as_absent(practice: Database) -> None:
    with acting(practice, "compliance") as connection:
        assert not value(connection, "select private.approve_policy(0)")
        assert not value(connection, "select private.reject_policy(0)")
    with superuser(practice) as reader:
        told = reader.execute(
            "select outcome, reason from audit.events where action like 'retention.%'"
        ).fetchall()
    assert told == [("ABSENT", "not_found")] * 2


def test_two_officers_at_once_are_two(practice: Database) -> None:
    activate(practice, "first", policy())
    made = propose(practice, "second", policy(30))
    with psycopg.connect(practice.api_url) as carla:
        begin_as(carla, claims_of("carla"))
        carla.execute("select private.approve_policy(%s)", [made])
        with at_once(practice, carla, lambda: approve(practice, "dora", made)) as dora:
            carla.commit()
        assert dora.result()
    assert status(practice, made) == "ACTIVE"


def test_two_policies_at_once_come_into_force_one_after_the_other(practice: Database) -> None:
    activate(practice, "first", policy())
    longer, longest = propose(practice, "longer", policy(100)), propose(practice, "longest", policy(200))
    with psycopg.connect(practice.api_url) as carla:
        begin_as(carla, claims_of("carla"))
        carla.execute("select private.approve_policy(%s)", [longest])
        with at_once(practice, carla, lambda: approve(practice, "dora", longer)) as dora:
            carla.commit()
        assert dora.result()
    assert (status(practice, longest), status(practice, longer)) == ("ACTIVE", "PROPOSED")


def test_nobody_proposes_but_the_owner(practice: Database) -> None:
    for who in ("compliance", "clinician who owns", "resguardo_worker", "resguardo_api"):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute(
                "select private.propose_policy('x', %s, '', %s)", [SHA256, Jsonb(policy().terms)]
            )


def test_a_name_is_used_once(practice: Database) -> None:
    propose(practice, "first", policy())
    with pytest.raises(psycopg.errors.UniqueViolation, match="retention_policies_name_key"):
        propose(practice, "first", policy(91))


def test_the_first_policy_is_adopted_only_where_nothing_is_recorded_or_decided(database: Database) -> None:
    adopt = "select private.adopt_policy(%s, %s, '', %s)"
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        first = value(owner, adopt, "one", SHA256, Jsonb(policy().terms))
        assert first is not None
        assert value(owner, adopt, "two", SHA256, Jsonb(policy(1).terms)) is None
    assert status(database, first) == "ACTIVE"


def test_no_policy_is_adopted_where_something_is_recorded(practice: Database) -> None:
    with psycopg.connect(practice.owner_url) as owner:
        made = value(owner, "select private.adopt_policy('one', %s, '', %s)", SHA256, Jsonb(policy().terms))
    assert made is None


# The effect on recordings


def test_without_a_policy_nothing_is_due_and_everything_is_under_keep(practice: Database) -> None:
    with superuser(practice) as connection:
        made = start(connection)
    end(practice, made)
    assert kept(practice, made) == ("keep", None, None)


def test_a_recording_is_classed_when_it_is_asked_for_and_due_when_it_ends(practice: Database) -> None:
    first = activate(practice, "first", policy(90, kinds={"follow_up": 30}))
    with superuser(practice) as connection:
        made = start(connection)
        video_id = start(connection, "sound", "SPEAKERS", "new")
        assert value(
            connection,
            "select private.compose_object_key(r) from resguardo.recordings as r where r.id = %s",
            made,
        ) == (f"r/d30/{ANA.id_of('startable')}/{made}/")
    assert kept(practice, made) == ("d30", None, None)
    set_clock(practice, NOW + DAY)
    end(practice, made)
    end(practice, video_id)
    assert kept(practice, made) == ("d30", NOW + 31 * DAY, first)
    assert kept(practice, video_id) == ("d30", None, None)


@pytest.mark.parametrize("outcome", ["FAILED", "ABORTED", "LOST"])
def test_failed_recording_is_due_too(practice: Database, outcome: str) -> None:
    first = activate(practice, "first", policy())
    end(practice, LIVE, outcome)
    assert kept(practice, LIVE)[1:] == (NOW + 90 * DAY, first)


@pytest.mark.parametrize("clock", ["ended_at", "stored_at"])
def test_due_date_counts_from_the_latest_clock(practice: Database, clock: str) -> None:
    activate(practice, "first", policy())
    with superuser(practice) as connection:
        connection.execute(
            f"update resguardo.recordings set {clock} = %s where id = %s".encode(),  # noqa: S608
            [NOW + 5 * DAY, LIVE],
        )
    set_clock(practice, NOW - 365 * DAY)
    end(practice, LIVE, "VERIFYING", "READY")
    assert kept(practice, LIVE)[1] == NOW + 95 * DAY


def test_a_clock_that_jumps_back_a_year_makes_nothing_due_early(practice: Database) -> None:
    activate(practice, "first", policy())
    with superuser(practice) as connection:
        connection.execute("update resguardo.recordings set ended_at = %s where id = %s", [NOW, LIVE])
    set_clock(practice, NOW - 365 * DAY)
    end(practice, LIVE, "VERIFYING", "READY")
    assert kept(practice, LIVE)[1] >= NOW + 90 * DAY


def test_what_was_lost_and_turns_up_keeps_its_policy_and_is_never_due_sooner(practice: Database) -> None:
    first = activate(practice, "first", policy(90))
    end(practice, LIVE, "VERIFYING", "LOST")
    activate(practice, "second", policy(10))
    set_clock(practice, NOW - 30 * DAY)
    end(practice, LIVE, "READY")
    assert kept(practice, LIVE)[1:] == (NOW + 90 * DAY, first)


def test_a_new_policy_leaves_what_exists_alone(practice: Database) -> None:
    first = activate(practice, "first", policy(90))
    end(practice, LIVE, "VERIFYING", "READY")
    activate(practice, "second", policy(10))
    assert kept(practice, LIVE)[1:] == (NOW + 90 * DAY, first)


def test_a_new_policy_that_says_so_dates_what_exists_from_its_end(practice: Database) -> None:
    activate(practice, "first", policy(90))
    end(practice, LIVE, "VERIFYING", "READY")
    set_clock(practice, NOW + 20 * DAY)
    second = activate(practice, "second", policy(30, existing=True))
    assert kept(practice, LIVE)[1:] == (NOW + 30 * DAY, second)
    third = activate(practice, "third", policy(365, existing=True))
    assert kept(practice, LIVE)[1:] == (NOW + 365 * DAY, third)


def test_nothing_becomes_due_in_the_past_and_what_was_due_stays_due(practice: Database) -> None:
    activate(practice, "first", policy(90))
    end(practice, LIVE, "VERIFYING", "READY")
    set_clock(practice, NOW + 50 * DAY)
    activate(practice, "second", policy(10, existing=True))
    assert kept(practice, LIVE)[1] == NOW + 50 * DAY
    set_clock(practice, NOW + 52 * DAY)
    activate(practice, "third", policy(11, existing=True))
    assert kept(practice, LIVE)[1] == NOW + 50 * DAY


def test_recording_in_destruction_gets_no_new_due_date(practice: Database) -> None:
    """In this test, Ana's FAILED recording is being destroyed, and Bruno's FAILED recording is not."""
    first = activate(practice, "first", policy(90))
    assert kept(practice, ANA.id_of("over FAILED"))[2] is None
    assert kept(practice, BRUNO.id_of("over FAILED"))[2] == first


def test_a_recording_that_ends_while_a_policy_comes_into_force_is_dated(practice: Database) -> None:
    made = propose(practice, "first", policy())
    approve(practice, "carla", made)
    with psycopg.connect(practice.superuser_url) as worker:
        worker.execute("update resguardo.recordings set status = 'VERIFYING' where id = %s", [LIVE])
        worker.execute("update resguardo.recordings set status = 'LOST' where id = %s", [LIVE])
        with at_once(practice, worker, lambda: approve(practice, "dora", made)) as dora:
            worker.commit()
        assert dora.result()
    assert kept(practice, LIVE)[1:] == (NOW + 90 * DAY, made)


def test_a_minor_is_kept_until_of_age_and_where_no_rule_of_the_bucket_reaches(practice: Database) -> None:
    activate(practice, "first", policy())
    is_minor(practice, date(2015, 6, 1))
    with superuser(practice) as connection:
        made = start(connection)
    end(practice, made)
    assert kept(practice, made)[:2] == ("keep", compute_coming_of_age(date(2015, 6, 1), 18))


def test_a_minor_who_comes_of_age_before_the_term_ends_has_the_term(practice: Database) -> None:
    activate(practice, "first", policy())
    is_minor(practice, NOW.date().replace(year=NOW.year - 18) + 30 * DAY)
    with superuser(practice) as connection:
        made = start(connection)
    end(practice, made)
    assert kept(practice, made)[:2] == ("d90", NOW + 90 * DAY)


REGISTER = "select private.register_patient('mrn-paula', %s, %s)"


def test_a_birth_date_given_later_keeps_what_is_recorded_already(practice: Database) -> None:
    activate(practice, "first", policy())
    end(practice, LIVE, "VERIFYING", "READY")
    with acting(practice, "clinician who owns") as connection:
        for _ in range(2):
            value(connection, REGISTER, id_of("paula"), date(2015, 6, 1))
        value(connection, REGISTER, id_of("paula"), None)
    assert kept(practice, LIVE)[1] == compute_coming_of_age(date(2015, 6, 1), 18)
    with superuser(practice) as reader:
        assert value(reader, "select count(*) from audit.events where action = 'recording.date'") == 1
        assert [r[0] for r in reader.execute("select recording_id from private.outgrown()").fetchall()] == []


@pytest.mark.parametrize(
    ("birth_date", "reason"),
    [(date(2015, 6, 2), "patient_birth_date_differs"), (date(2027, 3, 3), "patient_birth_date_ahead")],
)
def test_another_birth_date_and_one_to_come_are_refused(
    practice: Database, birth_date: date, reason: str
) -> None:
    is_minor(practice, date(2015, 6, 1))
    with refused("RG409", reason), acting(practice, "clinician who owns") as connection:
        value(connection, REGISTER, id_of("paula"), birth_date)


def test_the_birth_date_of_somebody_elses_patient_is_shown_to_nobody(practice: Database) -> None:
    for who in ("clinician who owns", "compliance", "resguardo_worker", "resguardo_api"):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute("select birth_date from resguardo.patients")


def test_an_import_goes_where_its_recording_will_be(practice: Database) -> None:
    activate(practice, "first", policy(90, kinds={"follow_up": 30}))
    with acting(practice, "clinician who owns") as connection:
        made = value(
            connection,
            "insert into resguardo.recording_imports (consultation_id, doctor_id, patient_id, content_type, size_bytes)"
            " values (%s, %s, %s, 'video/mp4', 5) returning id",
            ANA.id_of("startable"),
            ANA.doctor_id,
            ANA.patient_id,
        )
    activate(practice, "second", policy(365))
    with acting(practice, "clinician who owns") as connection:
        recording = value(connection, "select private.complete_import(%s)", made)
    with superuser(practice) as reader:
        key, prefix = reader.execute(
            "select s.object_key, private.compose_object_key(r) from resguardo.recordings as r"
            " join private.recording_secrets as s on s.recording_id = r.id where r.id = %s",
            [recording],
        ).fetchone() or ("", "")
    assert key == prefix + "import.mp4"
    assert key.startswith("r/d30/")


def test_what_is_due_later_than_the_buckets_own_rule_has_outgrown_it(practice: Database) -> None:
    activate(practice, "first", policy(90))
    with superuser(practice) as connection:
        made = start(connection)
        connection.execute(
            "update resguardo.recordings set stored_at = %s, created_at = %s where id = %s", [NOW, NOW, made]
        )
    end(practice, made)
    outgrown = "select count(*) from private.outgrown() where recording_id = %s"
    with superuser(practice) as reader:
        assert value(reader, outgrown, made) == 0
    activate(practice, "second", policy(95, existing=True))
    with superuser(practice) as reader:
        assert value(reader, outgrown, made) == 0
    activate(practice, "third", policy(96, existing=True))
    with acting(practice, "resguardo_worker") as worker:
        assert value(worker, outgrown, made) == 1


# The preview for compliance


def test_preview_equals_the_effect_of_the_activation(practice: Database) -> None:
    activate(practice, "first", policy(90))
    end(practice, LIVE, "VERIFYING", "READY")
    with superuser(practice) as connection:
        connection.execute(
            "insert into resguardo.legal_holds (consultation_id, matter, custodian, placed_by)"
            " values (%s, 'm', 'c', %s)",
            [BRUNO.id_of("over"), id_of("carla")],
        )
        connection.execute("delete from resguardo.access_requests where status = 'OPEN'")
    made = propose(practice, "second", policy(30, existing=True))
    with acting(practice, "compliance") as connection:
        told = connection.execute(
            "select sum(recordings), sum(sooner), sum(held), min(earliest_due_at)"
            " from private.preview_policy(%s)",
            [made],
        ).fetchone()
    before = kept(practice, LIVE)
    approve(practice, "carla", made)
    approve(practice, "dora", made)
    with superuser(practice) as reader:
        done = reader.execute(
            "select count(*), min(due_at) from resguardo.recordings where retention_policy = %s", [made]
        ).fetchone()
    assert told is not None
    assert done is not None
    assert (told[0], told[3]) == done
    assert told[1:3] == (1, 4)  # All other recordings were due before and stay due
    assert kept(practice, LIVE)[1] < before[1]


def test_a_preview_of_what_leaves_the_rest_alone_is_empty(practice: Database) -> None:
    activate(practice, "first", policy(90))
    made = propose(practice, "second", policy(30))
    with acting(practice, "compliance") as connection:
        assert connection.execute("select * from private.preview_policy(%s)", [made]).fetchall() == []


def test_the_storage_report_counts_what_is_stored_and_what_goes_soon(practice: Database) -> None:
    activate(practice, "first", policy(10))
    with superuser(practice) as connection:
        connection.execute(
            "delete from resguardo.access_requests where status = 'OPEN' and patient_id = %s",
            [BRUNO.patient_id],
        )
    with acting(practice, "compliance") as connection:
        stored = connection.execute("select * from private.report_storage()").fetchall()
        coming = connection.execute("select * from private.report_coming(30)").fetchone()
    assert sum(row[2] for row in stored) == 2
    assert sum(row[3] for row in stored) == 2000
    assert {row[0] for row in stored} == {"keep"}
    # Each doctor has a READY, a FAILED, an ABORTED and a LOST recording. Paula has requested access to hers, and
    # each FAILED recording is in destruction.
    assert coming == (4, 4000, 4, 4000, 0, 0)


# SQL and Python compute the same dates

days = st.integers(1, 36_500)
terms = st.builds(Terms, days, days)
policies = st.builds(
    RetentionPolicy,
    name=st.just("any"),
    default=terms,
    kinds=st.dictionaries(st.sampled_from(["first", "follow_up"]), terms),
    minors_until_age_years=st.none() | st.integers(1, 100),
    grace_days=days,
    jurisdiction=st.none(),
    applies_to_existing=st.booleans(),
)
SLOW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(policies, policies)
def test_sql_and_python_agree_on_what_is_shorter(
    finished: dict[str, Connection], before: RetentionPolicy, after: RetentionPolicy
) -> None:
    told = value(
        finished["superuser"], "select private.shortens(%s, %s)", Jsonb(before.terms), Jsonb(after.terms)
    )
    assert told == bool(find_shortened_places(before, after))


@SLOW
@given(
    policies,
    st.sampled_from(["first", "follow_up", "other"]),
    st.none() | st.dates(date(1900, 1, 1), date(2030, 1, 1)),
    st.datetimes(datetime(2026, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - made aware
)
def test_sql_and_python_agree_on_when_something_is_due(
    finished: dict[str, Connection],
    each: RetentionPolicy,
    kind: str,
    birth_date: date | None,
    counted_from: datetime,
) -> None:
    told = value(
        finished["superuser"],
        "select private.due_of(%s, %s, %s, %s)",
        Jsonb(each.terms),
        kind,
        birth_date,
        counted_from,
    )
    assert told == compute_due_at(each, kind, birth_date, counted_from)
