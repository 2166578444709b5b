"""Tests of the laws that the database alone enforces: 1, 2, 3, 5, 7 and 8. The tests of laws 4 and 6 are in
`test_law_4_doors.py`, `test_law_4_sessions.py` and `test_law_6_consent.py`.
"""

import re
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from app.recordings.model import RecordingStatus
from app.recordings.transitions import TRANSITIONS
from devstack.supabase_project import Grants
from tests.databases import Database
from tests.policies.acting import RELEASE, acting, at_once, outcome, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, DATA_API_ROLES, FINISHED, Connection, id_of

READY = ANA.id_of("over READY")
UNKNOWN = uuid4()
OUTSIDERS = (*DATA_API_ROLES, "authenticator")
LIVE = ("REQUESTED", "STARTING", "RECORDING", "STOPPING")


def newest_event(connection: Connection, action: str) -> tuple[Any, ...] | None:
    return connection.execute(
        "select outcome, reason, actor_id, actor_role, "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids, patient_ids, consultation_ids"
        " from audit.events where action = %s order by recorded_at desc, id desc limit 1",
        [action],
    ).fetchone()


@pytest.mark.parametrize(
    ("who", "recording", "key", "outcome", "reason", "patients"),
    [
        ("clinician who owns", READY, "keep/", "ALLOWED", None, [ANA.patient_id]),
        ("clinician who owns", ANA.id_of("over LOST"), "", "FAILED", "recording_lost", [ANA.patient_id]),
        ("clinician who does not", READY, None, "DENIED", "not_found", [ANA.patient_id]),
        ("clinician who owns", UNKNOWN, None, "ABSENT", "not_found", []),
    ],
)
def test_law_1_no_object_key_without_an_audit_row(
    practice: Database,
    who: str,
    recording: UUID,
    key: str | None,
    outcome: str,
    reason: str | None,
    patients: list[UUID],
) -> None:
    with acting(practice, who) as connection:
        got = value(connection, RELEASE, recording)
    assert got is None if key is None else got.startswith(key)
    with superuser(practice) as reader:
        event = newest_event(reader, "recording.issue_url")
    doctor = id_of("ana" if who == "clinician who owns" else "bruno")
    assert event is not None
    assert event[:6] == (outcome, reason, doctor, "clinician", [recording], patients)


def test_law_1_no_object_key_for_anyone_but_the_doctor(practice: Database) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute(RELEASE, [READY])


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        ("select private.read_object_key(%s)", None),
        ("select m.target_key from private.begin_move(%s) as m", "object_move"),
    ],
)
def test_law_1_function_that_gives_the_worker_an_object_key_writes_an_audit_row(
    practice: Database, read: LiteralString, reason: str | None
) -> None:
    with acting(practice, "resguardo_worker") as connection:
        assert value(connection, read, READY).startswith("keep/")
    with superuser(practice) as reader:
        event = newest_event(reader, "recording.read_key")
    assert event is not None
    assert event[:5] == ("ALLOWED", reason, None, "resguardo_worker", [READY])


def test_law_1_only_these_functions_touch_object_keys(practice: Database) -> None:
    with superuser(practice) as reader:
        sources = dict(
            reader.execute(
                "select proname, prosrc from pg_proc where prosrc like '%recording_secrets%'"
                " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
            ).fetchall()
        )
    assert set(sources) == {
        "assign_object_key",
        "begin_clip",
        "begin_thumbnail",
        "begin_export",
        "finish_clip",
        "begin_move",
        "begin_transcription",
        "claim_deletions",
        "complete_import",
        "endangered_prefixes",
        "find_moved_object",
        "keep_inventory",
        "keep_object",
        "missing_objects",
        "change_object_key",
        "protected_prefixes",
        "read_object_key",
        "release_object_key",
        "request_recording",
        "request_sound",
        "shred_keys",
        "unknown_object_keys",
        "unprotected_videos",
    }


def test_law_1_an_object_key_is_not_released_under_another_name(practice: Database) -> None:
    with refused("RG403"), acting(practice, "clinician who owns") as connection:
        connection.execute("select private.release_object_key('viewer.read', %s, null)", [READY])


def test_law_1_a_patient_cannot_write_that_staff_was_suspended(practice: Database) -> None:
    with refused("RG403"), acting(practice, "patient") as connection:
        connection.execute(
            "select private.record_access('staff.suspend', 'staff', null, %s, '{}', '{}', '{}', null)",
            [[id_of("carla")]],
        )


def test_law_1_a_hidden_and_an_absent_row_look_alike_and_are_told_apart_in_the_log(
    practice: Database,
) -> None:
    for recording, logged in ((READY, "DENIED"), (UNKNOWN, "ABSENT")):
        with acting(practice, "clinician who does not") as connection:
            answer = value(
                connection,
                "select private.record_access('recording.read', 'recording', %s, '{}', '{}', '{}', '{}', null)",
                recording,
            )
        assert answer is True
        with superuser(practice) as reader:
            event = newest_event(reader, "recording.read")
        assert event is not None
        assert (event[0], event[1], event[4]) == (logged, "not_found", [recording])


def test_law_1_the_log_names_the_asker_whatever_the_arguments(practice: Database) -> None:
    """No SQL function that a person may call takes the acting person's id as an argument. A person can therefore
    not write audit rows in somebody else's name.
    """
    with superuser(practice) as reader:
        before = value(reader, "select count(*) from audit.events")
        with acting(practice, "clinician who does not") as connection:
            connection.execute(
                "select private.record_access('recording.read', 'recording', null, %s, %s, '{}', '{}', null)",
                [[READY], [ANA.patient_id]],
            )
        actors = reader.execute(
            "select actor_id, actor_role from audit.events order by recorded_at desc limit %s",
            [value(reader, "select count(*) from audit.events") - before],
        ).fetchall()
    assert actors == [(BRUNO.doctor_id, "clinician")]


def test_law_1_the_triggers_that_write_the_log_cannot_be_borrowed(practice: Database) -> None:
    with refused("42501"), acting(practice, "clinician who owns") as connection:
        connection.execute("create temp table recordings (like resguardo.recordings)")
        connection.execute(
            "create trigger forged after insert on pg_temp.recordings"
            " for each row execute function private.audit_transition()"
        )


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_law_2_no_side_door_for_data_api_roles(practice: Database, grants: Grants) -> None:
    assert practice.grants == grants
    with superuser(practice) as reader:
        for role in OUTSIDERS:
            assert _rights(reader, role) == [], role


def _rights(reader: Connection, role: str) -> list[tuple[Any, ...]]:
    """Return all rights of a database role in our schemas, including those granted to PUBLIC, and the roles that it
    may take.
    """
    return reader.execute(
        """
        with ours as (
            select n.oid, n.nspname from pg_namespace as n
            where n.nspname in ('resguardo', 'audit', 'private', 'jobs')
        )
        select 'schema', o.nspname from ours as o where has_schema_privilege(%(role)s, o.oid, 'usage, create')
        union all
        select 'table', c.oid::regclass::text from pg_class as c join ours as o on o.oid = c.relnamespace
        where case when c.relkind in ('r', 'p', 'v') then
            has_any_column_privilege(%(role)s, c.oid, 'select, insert, update, references')
            or has_table_privilege(%(role)s, c.oid, 'select, insert, update, delete, truncate, references, trigger')
        end
        union all
        select 'sequence', c.oid::regclass::text from pg_class as c join ours as o on o.oid = c.relnamespace
        where case c.relkind when 'S' then has_sequence_privilege(%(role)s, c.oid, 'usage, select, update') end
        union all
        select 'function', p.oid::regprocedure::text from pg_proc as p join ours as o on o.oid = p.pronamespace
        where has_function_privilege(%(role)s, p.oid, 'execute')
        union all
        select 'role', r.rolname from pg_roles as r
        where r.rolname in ('clinician', 'compliance', 'patient', 'resguardo_api', 'resguardo_worker')
            and pg_has_role(%(role)s, r.oid, 'member')
        """,
        {"role": role},
    ).fetchall()


def test_law_2_nobody_but_the_api_becomes_one_of_the_people(practice: Database) -> None:
    with superuser(practice) as reader:
        members = reader.execute(
            "select distinct m.member::regrole::text from pg_auth_members as m where m.roleid::regrole::text"
            " in ('clinician', 'compliance', 'patient', 'resguardo_api', 'resguardo_worker')"
        ).fetchall()
    assert {name for (name,) in members} - {practice.owner} == {"resguardo_api"}


def test_law_2_the_logins_have_no_power_and_become_nothing_else(practice: Database) -> None:
    with superuser(practice) as reader:
        powers = reader.execute(
            "select rolname, rolinherit, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication"
            " from pg_roles where rolname in ('resguardo_api', 'resguardo_worker') order by 1"
        ).fetchall()
        assert powers == [("resguardo_api", False, False), ("resguardo_worker", False, False)]
        roles = [name for (name,) in reader.execute("select rolname from pg_roles where rolname !~ '^pg_'")]
    for url, own in (
        (practice.api_url, {"resguardo_api", "clinician", "compliance", "patient"}),
        (practice.worker_url, {"resguardo_worker"}),
    ):
        assert {role for role in roles if _may_become(url, role)} == own


def _may_become(url: str, role: str) -> bool:
    with psycopg.connect(url) as connection:
        try:
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        except InsufficientPrivilege:
            return False
        return True


@pytest.mark.parametrize(
    "statement",
    [
        "select 1 from auth.users",
        "select 1 from auth.sessions",
        "create table public.ours ()",
        "create schema ours",
        "alter role resguardo_api bypassrls",
        "set session_replication_role = replica",
        "select pg_read_file('/etc/hostname')",
        "copy (select 1) to program 'true'",
    ],
)
def test_law_2_the_logins_and_the_people_reach_nothing_of_the_others(
    practice: Database, statement: str
) -> None:
    for who in ("clinician who owns", "compliance", "patient", "resguardo_api", "resguardo_worker"):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute(statement.encode())


def test_law_2_nothing_of_ours_is_in_public(practice: Database) -> None:
    with superuser(practice) as reader:
        assert value(reader, "select count(*) from pg_class where relnamespace = 'public'::regnamespace") == 0
        assert value(reader, "select count(*) from pg_proc where pronamespace = 'public'::regnamespace") == 0


def test_law_3_a_function_of_the_asker_never_sees_a_hidden_row(practice: Database) -> None:
    """A condition of a query may contain a function of the caller. If row policies had no security barrier,
    Postgres could call a cheap function of the caller with the values of a hidden row.
    """
    with acting(practice, "clinician who owns") as connection:
        seen: list[str] = []
        connection.add_notice_handler(lambda notice: seen.append(notice.message_primary or ""))
        connection.execute(
            "create function pg_temp.peek(anyelement) returns boolean language plpgsql cost 0.0000001"
            " as $$ begin raise notice '%', $1; return true; end $$"
        )
        for table in ("recordings", "consultations", "participants", "consents", "staff"):
            name = sql.Identifier("resguardo", table)
            column = sql.SQL("user_id" if table == "staff" else "doctor_id")
            connection.execute(sql.SQL("select from {} where pg_temp.peek({})").format(name, column))
    assert set(seen) == {str(ANA.doctor_id)}


@pytest.mark.parametrize("old", FINISHED)
@pytest.mark.parametrize("new", [*LIVE, *FINISHED])
@pytest.mark.parametrize("who", ["worker", "superuser"])
def test_law_5_a_finished_recording_never_moves_back(
    finished: dict[str, Connection], who: str, old: str, new: str
) -> None:
    """A LOST recording may become READY if its object appears later. A recording with the status VERIFYING counts
    neither as finished nor as live.
    """
    may = old == new or RecordingStatus(new) in TRANSITIONS[RecordingStatus(old)]
    connection = finished[who]
    with connection.transaction(force_rollback=True):
        state, *_ = outcome(
            connection,
            "update resguardo.recordings set status = %s where id = %s",
            new,
            ANA.id_of(f"over {old}"),
        )
    assert state == ("" if may else "RG409")


def test_law_5_a_ready_recording_keeps_its_hash(practice: Database) -> None:
    with refused("RG409"), acting(practice, "resguardo_worker") as connection:
        connection.execute("update resguardo.recordings set sha256 = %s where id = %s", ["cd" * 32, READY])


@pytest.mark.parametrize(
    ("status", "reason"), [("VERIFYING", "recording_is_finished"), ("RECORDING", "recording_has_begun")]
)
def test_law_5_a_doctor_cannot_abort_what_was_recorded(practice: Database, status: str, reason: str) -> None:
    recording = ANA.id_of("over VERIFYING" if status == "VERIFYING" else "live RECORDING")
    with refused("RG409", reason), acting(practice, "clinician who owns") as connection:
        connection.execute("update resguardo.recordings set status = 'ABORTED' where id = %s", [recording])


def test_law_5_every_step_leaves_its_audit_row(practice: Database) -> None:
    recording = ANA.id_of("live RECORDING")
    with acting(practice, "resguardo_worker") as connection:
        connection.execute(
            "update resguardo.recordings set status = 'FAILED', error = 'egress_failed' where id = %s",
            [recording],
        )
    with superuser(practice) as reader:
        assert newest_event(reader, "recording.transition") == (
            "FAILED",
            "RECORDING>FAILED:egress_failed",
            None,
            "resguardo_worker",
            [recording],
            [ANA.patient_id],
            [ANA.id_of("live")],
        )


def test_law_5_an_event_that_comes_twice_at_once_is_taken_once(practice: Database) -> None:
    def receive(connection: Connection) -> bool:
        taken: bool = value(
            connection, "select private.receive_livekit_event('EV_1', 'egress_ended', 'EG_1', 'room', now())"
        )
        return taken

    def second() -> bool:
        with acting(practice, "resguardo_api") as connection:
            return receive(connection)

    with acting(practice, "resguardo_api") as first:
        assert receive(first)
        with at_once(practice, first, second) as waiting:
            first.commit()
            assert waiting.result() is False
    with superuser(practice) as reader:
        assert value(reader, "select count(*) from private.livekit_events where event_id = 'EV_1'") == 1
        assert (
            value(reader, "select count(*) from jobs.procrastinate_jobs where args::text like '%%EV_1%%'")
            == 1
        )


def test_law_5_an_event_whose_first_taking_was_undone_is_taken_again(practice: Database) -> None:
    for end in ("rollback", "commit"):
        with acting(practice, "resguardo_api") as connection:
            assert value(
                connection, "select private.receive_livekit_event('EV_1', 'egress_ended', null, 'r', now())"
            )
            connection.execute(end)


def test_law_7_worker_may_destroy_a_recording_only_after_hold_and_access_request_have_ended(
    practice: Database,
) -> None:
    """In the seeded database, the destruction of one recording of each patient has begun, and a legal hold on the
    patient was placed later.
    """
    claim: LiteralString = "select d.recording_id from private.claim_deletions('2126-01-01', 100) as d"
    begun = (ANA.id_of("over FAILED"),)
    ends: tuple[LiteralString, ...] = (
        "update resguardo.legal_holds set released_at = now(), released_by = gen_random_uuid() where patient_id = %s",
        "update resguardo.access_requests set status = 'WITHDRAWN' where patient_id = %s and status = 'OPEN'",
    )
    for end in ends:
        with acting(practice, "resguardo_worker") as worker:
            assert begun not in worker.execute(claim).fetchall()
        with superuser(practice) as connection:
            connection.execute(end, [ANA.patient_id])
    with acting(practice, "resguardo_worker") as worker:
        assert worker.execute(claim).fetchall() == [begun]


def test_law_7_recording_is_not_deleted_before_its_objects_and_keys_are_destroyed(practice: Database) -> None:
    with superuser(practice) as connection, refused("RG409", "recording_not_destroyed"):
        connection.execute("update resguardo.recordings set status = 'DELETED' where id = %s", [READY])


def test_no_role_may_delete_or_truncate_a_table(practice: Database) -> None:
    """No role may delete rows of a table or truncate it, so only SQL functions of the owner delete rows."""
    with superuser(practice) as connection:
        able = connection.execute(
            "select r.rolname, n.nspname || '.' || c.relname, p.command"
            " from pg_class as c join pg_namespace as n on n.oid = c.relnamespace"
            " cross join unnest(array['clinician', 'compliance', 'patient', 'resguardo_api', 'resguardo_worker',"
            " 'anon', 'authenticated', 'service_role']) as r (rolname)"
            " cross join unnest(array['DELETE', 'TRUNCATE']) as p (command)"
            " where n.nspname in ('resguardo', 'private', 'audit') and c.relkind in ('r', 'p', 'v')"
            " and has_table_privilege(r.rolname, c.oid, p.command)"
        ).fetchall()
    assert able == []


def test_law_8_audit_rows_and_job_arguments_carry_ids_alone(practice: Database) -> None:
    """The audit rows and job arguments of the seeded database contain no person's name and no object key."""
    with acting(practice, "clinician who owns") as connection:
        connection.execute(RELEASE, [READY])
    words = re.compile(r"paula|pablo|example\.org|mrn-|keep/|203\.0\.113\.9", re.IGNORECASE)
    with superuser(practice) as reader:
        for statement in (
            "select e::text from audit.events as e",
            "select j::text from jobs.procrastinate_jobs as j",
        ):
            rows = [row for (row,) in reader.execute(statement.encode())]
            assert rows
            assert not [row for row in rows if words.search(row)]
        arguments = reader.execute("select args from jobs.procrastinate_jobs").fetchall()
    assert all(set(args) == {"id"} for (args,) in arguments)


@pytest.mark.parametrize(
    ("who", "task", "argument"),
    [
        ("patient", "ban_user", id_of("carla")),
        ("clinician who does not", "ban_user", id_of("ana")),
        ("clinician who does not", "stop_recording", ANA.id_of("live RECORDING")),
        ("patient", "start_recording", ANA.id_of("live RECORDING")),
        ("other patient", "enforce_consent", ANA.id_of("live")),
        ("signed-out clinician", "stop_recording", ANA.id_of("live RECORDING")),
    ],
)
def test_no_job_about_what_is_not_the_askers_own(
    practice: Database, who: str, task: str, argument: UUID
) -> None:
    with (
        pytest.raises(
            psycopg.Error, match=r"consultation_not_found|recording_not_found|session_over|unknown_task"
        ),
        acting(practice, who) as connection,
    ):
        connection.execute("select private.defer_job(%s, %s)", [task, argument])


@pytest.mark.parametrize(
    ("who", "task", "argument"),
    [
        ("patient", "enforce_consent", ANA.id_of("live")),
        ("clinician who owns", "enforce_consent", ANA.id_of("live")),
        ("clinician who owns", "start_recording", ANA.id_of("live RECORDING")),
        ("clinician who owns", "stop_recording", ANA.id_of("live RECORDING")),
        ("resguardo_worker", "verify_recording", READY),
    ],
)
def test_a_job_about_ones_own_is_queued_with_its_id_alone(
    practice: Database, who: str, task: str, argument: UUID
) -> None:
    with acting(practice, who) as connection:
        connection.execute("select private.defer_job(%s, %s)", [task, argument])
    with superuser(practice) as reader:
        newest = reader.execute(
            "select task_name, args, lock from jobs.procrastinate_jobs order by id desc limit 1"
        ).fetchone()
    assert newest == (task, {"id": str(argument)}, f"{task}:{argument}")


def test_no_task_that_is_not_known_is_queued(practice: Database) -> None:
    with refused("RG403", "unknown_task"), acting(practice, "resguardo_worker") as connection:
        connection.execute("select private.defer_job('anything', gen_random_uuid())")


def test_a_quota_lets_one_of_two_take_the_last_unit(practice: Database) -> None:
    def use(connection: Connection) -> None:
        connection.execute(
            "select private.record_access('recording.list', 'recording', null, '{}', '{}', '{}', '{}', 'urls')"
        )

    def second() -> None:
        with acting(practice, "clinician who owns") as connection:
            use(connection)

    with superuser(practice) as owner:
        owner.execute("update private.quotas set per_hour = 2 where meter = 'urls'")
    with acting(practice, "clinician who owns") as first:
        use(first)
        with at_once(practice, first, second) as waiting:
            first.commit()
            with refused("RG429", "quota_urls"):
                waiting.result()
    with superuser(practice) as reader:
        assert value(reader, "select sum(used) from private.usage where person_id = %s", ANA.doctor_id) == 2


COMPARED = r"doctor_id\s*(?:=|<>|is distinct from|is not distinct from)\s*([a-z_.]+(?:\(\))?)"
"""With what a function compares the doctor of a row."""
OF_MEMBERS_WORK = {
    ("end_work_of", "member"),
    ("language_budget_left", "of_doctor"),
    ("language_tokens_used", "of_doctor"),
    ("consultations_shared_with", "colleague"),
    ("consultations_in_emergency", "clinician"),
    ("reassign_consultations", "approved.member_id"),
    ("reassign_consultations", "approved.recipient_id"),
    ("find_single_hits", "event.actor_id"),
}
"""The recordings of a member who is suspended are stopped by compliance, who does not read them. The budget of a doctor
is a number of tokens, which the worker and the functions of the doctor's session read. The consultations that a
clinician sees without being their doctor are those of `private.shared_consultation_ids`, which asks private.doctor(),
and of the audit row, which is also written for a session that has ended. The worker reassigns consultations and
evaluates the rules of the review.
"""


def test_law_3_one_function_decides_whose_records_are_the_callers_own(practice: Database) -> None:
    with superuser(practice) as reader:
        functions = reader.execute(
            "select p.proname, p.prosrc from pg_proc as p"
            " where p.pronamespace = 'private'::regnamespace and p.prosrc like '%doctor_id%'"
        ).fetchall()
        policies = reader.execute(
            "select policyname, concat_ws(' ', qual, with_check) from pg_policies where schemaname = 'resguardo'"
            " and 'clinician' = any (roles) and concat_ws(' ', qual, with_check) like '%doctor_id%'"
        ).fetchall()
    compared = [(name, other, source) for name, source in functions for other in re.findall(COMPARED, source)]
    asked = [
        (name, other, source)
        for name, other, source in compared
        if not re.fullmatch(r"\w+\.doctor_id", other) and (name, other) not in OF_MEMBERS_WORK
    ]
    assert len(asked) >= 10
    assert {other for _, other, _ in asked} == {"doctor", "private.doctor()"}
    taken = r"\bdoctor (constant uuid )?:= private\.doctor\(\);"
    assert [name for name, other, source in asked if other == "doctor" and not re.search(taken, source)] == []
    assert len(policies) >= 8
    assert [name for name, expression in policies if "private.doctor()" not in expression] == []


@pytest.mark.parametrize("who", ["compliance", "patient"])
def test_law_3_only_a_clinician_has_records_as_a_doctor(practice: Database, who: str) -> None:
    with refused("42501"), acting(practice, who) as connection:
        connection.execute("select private.doctor()")
    with superuser(practice) as owner:
        owner.execute("grant execute on function private.doctor() to compliance, patient")
    with refused("RG403", "wrong_role"), acting(practice, who) as connection:
        connection.execute("select private.doctor()")


@pytest.mark.parametrize("column", ["birth_date", "user_id"])
def test_law_3_compliance_sees_no_birth_date_and_no_login_of_a_patient(
    practice: Database, column: LiteralString
) -> None:
    read = sql.SQL("select {} from resguardo.patients").format(sql.Identifier(column))
    with acting(practice, "compliance") as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(read)
