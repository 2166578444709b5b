"""Tests of the file `supabase/adopters/map_roles.sql`, which derives Resguardo's staff from an adopter's own table
of roles. A person to whom the adopter's table gives a mapped role becomes staff in Resguardo.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.databases import Database
from tests.policies.acting import acting, at_once, refused, superuser, value
from tests.policies.actors import ANA, actor, begin_as, claims_of, id_of
from tests.policies.seed import seed
from tests.practice import Practice

MAPPING = Path(__file__).parents[2] / "supabase" / "adopters" / "map_roles.sql"
TABLE: LiteralString = (
    "create table public.user_roles (user_id uuid not null, role text not null, primary key (user_id, role))"
)
ADD: LiteralString = "insert into public.user_roles values (%s, %s)"
REMOVE: LiteralString = "delete from public.user_roles where user_id = %s"
MEMBER: LiteralString = "select role, status, origin from resguardo.staff where user_id = %s"


@pytest.fixture
def practice(database: Database) -> Database:
    """Return the test practice of `tests.policies.actors` with the role table of an adopter (an app that uses
    Resguardo). The adopter's role table already contains a doctor.
    """
    seed(database.superuser_url)
    with psycopg.connect(database.owner_url) as owner:
        owner.execute(TABLE)
        owner.execute(ADD, [id_of("early"), "doctor"])
        owner.execute(ADD, [id_of("early porter"), "porter"])
        owner.execute("grant select, insert, update, delete, truncate on public.user_roles to service_role")
    _install(database)
    return database


def _install(database: Database, edit: Callable[[str], str] = str) -> None:
    with psycopg.connect(database.owner_url) as owner:
        owner.execute(edit(MAPPING.read_text(encoding="utf-8")).encode())


def _member(database: Database, user_id: UUID) -> tuple[Any, ...] | None:
    with superuser(database) as connection:
        return connection.execute(MEMBER, [user_id]).fetchone()


def _change(database: Database, statement: LiteralString, *values: object) -> None:
    """Change the adopter's role table as the adopter's backend would, with a database role that has no privileges
    on Resguardo's tables.
    """
    with superuser(database) as connection, connection.transaction():
        connection.execute("set local role service_role")
        connection.execute(statement, values)


def _mapped(database: Database, user_id: UUID) -> list[tuple[Any, ...]]:
    with superuser(database) as connection:
        return connection.execute(
            "select outcome, reason, actor_role, basis, patient_ids from audit.events"
            " where action = 'staff.map' and "
            "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
            " = array[%s::uuid] order by recorded_at",
            [user_id],
        ).fetchall()


def _signed_in(database: Database, name: str) -> UUID:
    """Insert a login without a role in Resguardo, and a session of this login at the assurance level aal2."""
    with superuser(database) as connection:
        practice = Practice(connection)
        practice.session(practice.user(id_of(name), email=f"{name}@example.org"), id_of(f"{name} session"))
    return id_of(name)


def test_rows_that_are_there_already_are_mapped(practice: Database) -> None:
    assert _member(practice, id_of("early")) == ("clinician", "active", "MAPPED")
    assert _member(practice, id_of("early porter")) is None


def test_file_run_again_changes_nothing(practice: Database) -> None:
    _install(practice)
    assert _member(practice, id_of("early")) == ("clinician", "active", "MAPPED")
    assert len(_mapped(practice, id_of("early"))) == 1


def test_inserted_row_makes_a_member_who_gets_in_at_once(practice: Database) -> None:
    nora = _signed_in(practice, "nora")
    _change(practice, ADD, nora, "nurse")
    assert _member(practice, nora) == ("clinician", "active", "MAPPED")
    with psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims_of("nora"))
        assert value(connection, "select private.person()") == nora
    assert _mapped(practice, nora) == [("ALLOWED", "add_clinician", "service_role", "role_mapping", [])]


def test_role_that_is_not_mapped_makes_nobody(practice: Database) -> None:
    porter = uuid4()
    _change(practice, ADD, porter, "porter")
    _change(practice, ADD, porter, "privacy_officer")
    assert _member(practice, porter) is None
    assert _mapped(practice, porter) == []


def test_compliance_is_given_only_by_the_line_that_says_so(practice: Database) -> None:
    officer = uuid4()
    _change(practice, ADD, officer, "privacy_officer")
    assert _member(practice, officer) is None
    _install(practice, lambda text: text.replace("-- , (3, 'privacy", ", (3, 'privacy"))
    assert _member(practice, officer) == ("compliance", "active", "MAPPED")


def test_removed_role_takes_effect_at_once(practice: Database) -> None:
    """If a person's role is removed, the database refuses the next statement of the person's open session, and
    deletes the session (law 4).
    """
    nora = _signed_in(practice, "nora")
    _change(practice, ADD, nora, "nurse")
    with psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims_of("nora"))
        assert value(connection, "select private.person()") == nora
        _change(practice, REMOVE, nora)
        with refused("RG401"):
            connection.execute("select private.person()")
    with superuser(practice) as connection:
        assert value(connection, "select count(*) from auth.sessions where user_id = %s", nora) == 0
        connection.execute(
            "insert into auth.sessions (id, user_id, aal) values (%s, %s, 'aal2')",
            [id_of("nora session"), nora],
        )
    with psycopg.connect(practice.api_url) as connection:
        begin_as(connection, claims_of("nora"))
        with refused("RG401", "staff_suspended"):
            connection.execute("select private.person()")
    assert _member(practice, nora) == ("clinician", "suspended", "MAPPED")
    assert [reason for _, reason, *_ in _mapped(practice, nora)] == ["add_clinician", "suspend_clinician"]


def test_removed_role_stops_the_recordings_of_that_doctor(practice: Database) -> None:
    with superuser(practice) as connection:
        connection.execute("update resguardo.staff set origin = 'MAPPED' where user_id = %s", [ANA.doctor_id])
    _change(practice, ADD, ANA.doctor_id, "doctor")
    _change(practice, REMOVE, ANA.doctor_id)
    recording = ANA.id_of("live RECORDING")
    with superuser(practice) as connection:
        assert (
            value(connection, "select status from resguardo.recordings where id = %s", recording)
            == "STOPPING"
        )
        assert value(
            connection,
            "select count(*) from jobs.procrastinate_jobs where task_name = 'stop_recording' and args ->> 'id' = %s",
            str(recording),
        )


def test_restored_row_ends_the_suspension_by_the_table(practice: Database) -> None:
    _change(practice, REMOVE, id_of("early"))
    assert _member(practice, id_of("early")) == ("clinician", "suspended", "MAPPED")
    _change(practice, ADD, id_of("early"), "doctor")
    assert _member(practice, id_of("early")) == ("clinician", "active", "MAPPED")


def test_suspension_by_compliance_stands_whatever_the_table_says(practice: Database) -> None:
    _change(practice, REMOVE, id_of("early"))
    with acting(practice, "compliance") as carla:
        assert value(carla, "select private.suspend_staff(%s)", id_of("early"))
    _change(practice, ADD, id_of("early"), "doctor")
    assert _member(practice, id_of("early")) == ("clinician", "suspended", "MAPPED")


def test_table_does_not_change_an_invited_member(practice: Database) -> None:
    _change(practice, ADD, id_of("carla"), "doctor")
    assert _member(practice, id_of("carla")) == ("compliance", "active", "OWN")
    _change(practice, REMOVE, id_of("carla"))
    assert _member(practice, id_of("carla")) == ("compliance", "active", "OWN")
    assert _mapped(practice, id_of("carla")) == []


def test_patients_login_is_left_alone_and_it_is_written_down(practice: Database) -> None:
    _change(practice, ADD, id_of("paula"), "doctor")
    assert _member(practice, id_of("paula")) is None
    with psycopg.connect(practice.api_url) as connection:
        begin_as(connection, actor("patient").claims)
        assert value(connection, "select private.patient()") == ANA.patient_id
    (row,) = _mapped(practice, id_of("paula"))
    assert (row[0], row[1], row[4]) == ("FAILED", "login_is_patient", [ANA.patient_id])


def test_first_line_that_fits_decides_for_whoever_has_several_roles(practice: Database) -> None:
    _install(practice, lambda text: text.replace("-- , (3, 'privacy", ", (3, 'privacy"))
    early = id_of("early")
    _change(practice, ADD, early, "privacy_officer")
    assert _member(practice, early) == ("clinician", "active", "MAPPED")
    _change(practice, "delete from public.user_roles where user_id = %s and role = 'doctor'", early)
    assert _member(practice, early) == ("compliance", "active", "MAPPED")


def test_updated_row_moves_the_role_from_one_to_another(practice: Database) -> None:
    successor = uuid4()
    _change(
        practice, "update public.user_roles set user_id = %s where user_id = %s", successor, id_of("early")
    )
    assert _member(practice, successor) == ("clinician", "active", "MAPPED")
    assert _member(practice, id_of("early")) == ("clinician", "suspended", "MAPPED")
    _change(practice, "update public.user_roles set role = 'porter' where user_id = %s", successor)
    assert _member(practice, successor) == ("clinician", "suspended", "MAPPED")


def test_emptied_table_suspends_those_it_made_and_no_other(practice: Database) -> None:
    _change(practice, "truncate public.user_roles")
    assert _member(practice, id_of("early")) == ("clinician", "suspended", "MAPPED")
    assert _member(practice, id_of("ana")) == ("clinician", "active", "OWN")


def test_two_roles_taken_away_at_once_leave_none(practice: Database) -> None:
    _change(practice, ADD, id_of("early"), "nurse")
    one = "delete from public.user_roles where user_id = %s and role = %s"
    with psycopg.connect(practice.owner_url) as first:
        first.execute(one, [id_of("early"), "doctor"])
        with at_once(practice, first, lambda: _change(practice, one, id_of("early"), "nurse")) as second:
            first.commit()
            second.result(10)
    assert _member(practice, id_of("early")) == ("clinician", "suspended", "MAPPED")


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "resguardo_api", "clinician"])
def test_mapping_functions_are_callable_only_by_the_trigger(practice: Database, role: str) -> None:
    call = "select private.map_staff(gen_random_uuid(), 'compliance')"
    with superuser(practice) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"set local role {role}".encode())
        with refused("42501"), connection.transaction():
            connection.execute(call)
        with refused("42501"), connection.transaction():
            connection.execute("select private.mapped_role_of(gen_random_uuid())")
