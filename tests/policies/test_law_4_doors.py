"""Tests of law 4 at the start of a transaction: which database role a person's transaction takes, and that a
suspension takes effect at once.
"""

import time
from typing import LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, PEOPLE_ROLES, begin_as, claims_of, id_of

SUSPEND: LiteralString = "select count(*) from private.suspend_staff(%s)"


@pytest.mark.parametrize(
    ("user", "role"), [("ana", "clinician"), ("carla", "compliance"), ("paula", "patient")]
)
def test_law_4_a_person_takes_the_role_that_the_database_knows(
    practice: Database, user: str, role: str
) -> None:
    with psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims_of(user))
        assert value(connection, "select current_user") == role
        connection.rollback()
        assert value(connection, "select current_user") == "resguardo_api"
        assert not value(connection, "select current_setting('request.jwt.claims', true)")


@pytest.mark.parametrize(
    ("user", "roles", "said"),
    [
        ("stranger", PEOPLE_ROLES, "not_registered"),
        ("ana", ["compliance"], "wrong_role"),
        ("paula", ["clinician", "compliance"], "wrong_role"),
        ("ana", [], "wrong_role"),
    ],
)
def test_law_4_a_role_that_is_not_allowed_is_not_taken(
    practice: Database, user: str, roles: list[str], said: str
) -> None:
    with refused("RG403", said), psycopg.connect(practice.api_url) as connection:
        connection.execute(
            "select private.begin_as(%s, %s, gen_random_uuid(), null, null, 5000)",
            [Jsonb(claims_of(user)), roles],
        )


def test_law_4_suspending_ends_a_doctors_sessions_at_once_and_queues_the_ban(practice: Database) -> None:
    with acting(practice, "compliance") as connection:
        assert value(connection, SUSPEND, ANA.doctor_id) == 1
        assert value(connection, SUSPEND, id_of("stranger")) == 0
    with refused("RG401"), acting(practice, "clinician who owns") as connection:
        connection.execute("select from resguardo.recordings")
    with superuser(practice) as reader:
        assert value(reader, "select count(*) from auth.sessions where user_id = %s", ANA.doctor_id) == 0
        jobs = reader.execute(
            "select args from jobs.procrastinate_jobs where task_name = 'ban_user'"
        ).fetchall()
        assert jobs == [({"id": str(ANA.doctor_id)},)]
        outcomes = reader.execute(
            "select outcome, actor_id from audit.events where action = 'staff.suspend' order by recorded_at"
        ).fetchall()
        assert outcomes == [("ALLOWED", id_of("carla")), ("ABSENT", id_of("carla"))]


def test_law_4_nobody_suspends_themselves_and_a_doctor_suspends_nobody(practice: Database) -> None:
    with refused("RG409", "own_suspension"), acting(practice, "compliance") as connection:
        connection.execute("select private.suspend_staff(%s)", [id_of("carla")])
    with refused("42501"), acting(practice, "clinician who owns") as connection:
        connection.execute("select private.suspend_staff(%s)", [BRUNO.doctor_id])


def test_law_4_another_persons_id_with_ones_own_session_is_refused(practice: Database) -> None:
    claims = {**claims_of("ana"), "session_id": claims_of("bruno")["session_id"]}
    with refused("RG401", "session_over"), psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims)
        connection.execute("select from resguardo.recordings")


@pytest.mark.parametrize("role", ["compliance", "patient"])
def test_law_4_a_doctor_who_sets_another_role_gets_nothing(practice: Database, role: str) -> None:
    table = "staff" if role == "compliance" else "consultations"
    with refused("RG403", "wrong_role"), acting(practice, "clinician who owns") as connection:
        connection.execute(f"set local role {role}".encode())
        connection.execute(f"select from resguardo.{table}".encode())


def test_law_4_a_code_that_is_too_old_releases_no_object_key(practice: Database) -> None:
    recording = ANA.id_of("over READY")
    statement = "select private.release_object_key('recording.issue_url', %s, 900)"
    for age_seconds, amr in ((0, "totp"), (901, "totp"), (0, "password")):
        with psycopg.connect(practice.api_url) as connection:
            claims = claims_of("ana")
            claims["amr"] = [
                {
                    "method": amr,
                    "timestamp": value(connection, "select extract(epoch from now())::float8") - age_seconds,
                }
            ]
            begin_as(connection, claims)
            if (age_seconds, amr) == (0, "totp"):
                assert value(connection, statement, recording)
                continue
            with refused("RG403", "totp_stale"):
                connection.execute(statement, [recording])


DELEGATED: LiteralString = "update auth.sessions set oauth_client_id = gen_random_uuid() where user_id = %s"
PATIENT: LiteralString = "select private.patient()"
PERSON: LiteralString = "select private.person()"


@pytest.mark.parametrize(("user", "statement"), [("ana", PERSON), ("carla", PERSON), ("paula", PATIENT)])
def test_law_4_a_session_of_an_oauth_client_is_refused_though_its_token_names_no_client(
    practice: Database, user: str, statement: LiteralString
) -> None:
    with superuser(practice) as auth:
        auth.execute(DELEGATED, [id_of(user)])
    with refused("RG401", "session_delegated"), psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims_of(user))
        connection.execute(statement)


@pytest.mark.parametrize(("user", "statement"), [("ana", PERSON), ("carla", PERSON), ("paula", PATIENT)])
def test_law_4_sessions_are_judged_by_the_columns_that_this_version_of_auth_has(
    practice: Database, user: str, statement: LiteralString
) -> None:
    """Supabase Auth is upgraded while a connection of the API is open, and nobody runs `resguardo migrate`. The
    database still checks a session by the columns that `auth.sessions` has at that time.
    """
    with superuser(practice) as auth, psycopg.connect(practice.api_url, autocommit=True) as connection:
        for change in (
            "alter table auth.sessions drop column oauth_client_id, drop column scopes",
            "alter table auth.sessions add column oauth_client_id uuid",
            "alter table auth.sessions add column scopes text",
        ):
            with connection.transaction():
                begin_as(connection, claims_of(user))
                assert value(connection, statement)
            auth.execute(change.encode())
        with connection.transaction():
            begin_as(connection, claims_of(user))
            assert value(connection, statement)
        auth.execute(DELEGATED, [id_of(user)])
        with refused("RG401", "session_delegated"), connection.transaction():
            begin_as(connection, claims_of(user))
            connection.execute(statement)


def test_law_4_the_log_names_a_session_by_a_fingerprint_that_opens_nothing(practice: Database) -> None:
    statement: LiteralString = (
        "select private.record_access('recording.list', 'recording', null, '{}', '{}', '{}', '{}', null)"
    )
    for session in ("session", "session", "aal1 session"):
        with superuser(practice) as auth:
            auth.execute("update auth.sessions set aal = 'aal2' where user_id = %s", [id_of("ana")])
        with psycopg.connect(practice.api_url) as connection:
            begin_as(connection, claims_of("ana", session=session))
            connection.execute(statement)
    with superuser(practice) as reader:
        rows = reader.execute(
            "select e::text, e.session_fingerprint from audit.events as e"
            " where e.actor_id = %s and e.action = 'recording.list' order by e.recorded_at",
            [id_of("ana")],
        ).fetchall()
        sessions = reader.execute("select id::text, replace(id::text, '-', '') from auth.sessions").fetchall()
    assert [rows[0][1] == rows[1][1], rows[1][1] == rows[2][1]] == [True, False]
    assert not any(name in text for text, _ in rows for names in sessions for name in names)
    for _, fingerprint in rows:
        assert len(fingerprint) == 64
        claims = {**claims_of("ana"), "session_id": fingerprint[:32]}
        with refused("RG401", "session_over"), psycopg.connect(practice.api_url) as connection:
            begin_as(connection, claims)
            connection.execute(PERSON)


def test_law_4_a_token_that_expired_is_over_though_its_session_stands(practice: Database) -> None:
    claims = {**claims_of("ana"), "exp": int(time.time()) - 60}
    with refused("RG401", "session_over"), psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims)
        connection.execute("select private.person()")
