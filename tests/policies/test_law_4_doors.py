"""Law 4 at the door: which role a person's transaction takes, and what suspending does at once."""

import time

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.world import ANA, BRUNO, PEOPLE_ROLES, begin_as, claims_of, id_of


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
        assert value(connection, "select private.suspend_staff(%s)", ANA.doctor_id) is True
        assert value(connection, "select private.suspend_staff(%s)", id_of("stranger")) is False
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
    statement = "select private.release_object_key('recording.issue_url', %s, 900, null, null)"
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


def test_law_4_a_token_that_expired_is_over_though_its_session_stands(practice: Database) -> None:
    claims = {**claims_of("ana"), "exp": int(time.time()) - 60}
    with refused("RG401", "session_over"), psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims)
        connection.execute("select private.person()")
