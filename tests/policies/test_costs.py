"""Tests of the cost ledger and of the daily budget for language models."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from uuid import UUID

import pytest

from app.postgres.quotas import LanguageBudget, apply_language_budget
from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, Case, Connection

READY = "over READY"
HELD = "transcribe_recording"


def _count(database: Database, case: Case, tokens: int) -> None:
    with acting(database, "resguardo_worker") as worker:
        worker.execute(
            "select private.count_tokens(%s, 'api.example.org', 'a-model', %s, 0, 0)",
            [case.id_of(READY), tokens],
        )


def _left(database: Database, case: Case) -> int:
    with superuser(database) as reader:
        return int(value(reader, "select private.language_budget_left(%s)", case.doctor_id))


def _entries(database: Database, recording: UUID) -> dict[tuple[str, str], int]:
    with superuser(database) as reader:
        rows = reader.execute(
            "select kind, unit, sum(quantity)::bigint from private.cost_entries where recording_id = %s group by 1, 2",
            [recording],
        ).fetchall()
    return {(kind, unit): quantity for kind, unit, quantity in rows}


def _clear(database: Database) -> None:
    with superuser(database) as owner:
        owner.execute("delete from private.cost_entries")
        owner.execute("delete from private.held_language_work")
        owner.execute("delete from private.language_budget_lifts")


def _lift(database: Database, case: Case) -> None:
    with acting(database, "compliance") as officer:
        officer.execute("select * from private.lift_language_budget(%s)", [case.doctor_id])


def _jobs(connection: Connection, case: Case) -> int:
    return int(
        value(
            connection,
            "select count(*) from jobs.procrastinate_jobs where task_name = %s and args ->> 'id' = %s",
            HELD,
            str(case.id_of(READY)),
        )
    )


def test_each_doctor_has_a_budget_of_their_own(practice: Database) -> None:
    _clear(practice)
    apply_language_budget(practice.owner_url, LanguageBudget(100))
    _count(practice, ANA, 70)
    assert (_left(practice, ANA), _left(practice, BRUNO)) == (30, 100)
    _count(practice, ANA, 70)
    assert (_left(practice, ANA), _left(practice, BRUNO)) == (0, 100)


def test_budget_begins_again_on_the_next_day(practice: Database) -> None:
    _clear(practice)
    apply_language_budget(practice.owner_url, LanguageBudget(100))
    _count(practice, ANA, 100)
    assert _left(practice, ANA) == 0
    with superuser(practice) as owner:
        owner.execute("update private.cost_entries set day = day - 1")
    assert _left(practice, ANA) == 100


def test_question_beyond_the_budget_is_refused_until_the_next_day(practice: Database) -> None:
    _clear(practice)
    apply_language_budget(practice.owner_url, LanguageBudget(100))
    with acting(practice, "clinician who owns") as doctor:
        doctor.execute("select private.require_language_budget()")
    _count(practice, ANA, 100)
    with refused("RG429", "language_budget_used_up"), acting(practice, "clinician who owns") as doctor:
        doctor.execute("select private.require_language_budget()")


def test_only_tokens_of_language_models_use_the_budget(practice: Database) -> None:
    _clear(practice)
    apply_language_budget(practice.owner_url, LanguageBudget(100))
    with acting(practice, "resguardo_worker") as worker:
        for kind, unit in (("SPEECH", "MILLISECONDS"), ("EGRESS", "MILLISECONDS"), ("STORAGE", "BYTES")):
            worker.execute(
                "select private.count_usage(%s, %s, 'vendor', '', %s, 1000000)",
                [ANA.id_of(READY), kind, unit],
            )
    assert _left(practice, ANA) == 100


def test_no_function_of_recording_storage_transcription_or_copies_reads_the_budget(
    practice: Database,
) -> None:
    with superuser(practice) as reader:
        readers = {
            name
            for (name,) in reader.execute(
                "select p.proname from pg_proc as p where p.pronamespace = 'private'::regnamespace"
                " and p.prosrc ~ 'language_budget|language_tokens_used|held_language_work'"
            )
        }
    budgets = {
        *("language_budget_left", "require_language_budget", "hold_language_work", "resume_language_work"),
        "lift_language_budget",
    }
    others = {
        name for name in readers - budgets if not name.startswith(("ask_", "begin_insight", "begin_section"))
    }
    assert {name for name in others if "record" in name or "transcri" in name or "export" in name} == set()


def test_held_work_resumes_when_the_budget_permits_it(practice: Database) -> None:
    _clear(practice)
    apply_language_budget(practice.owner_url, LanguageBudget(100))
    _count(practice, ANA, 100)
    with acting(practice, "resguardo_worker") as worker:
        for _ in range(2):
            worker.execute("select private.hold_language_work(%s, %s)", [ANA.id_of(READY), HELD])
    with acting(practice, "resguardo_worker") as worker:
        assert value(worker, "select private.resume_language_work()") == 0
    with superuser(practice) as owner:
        before = _jobs(owner, ANA)
        owner.execute("update private.cost_entries set day = day - 1")
    with acting(practice, "resguardo_worker") as worker:
        assert value(worker, "select private.resume_language_work()") == 1
        assert value(worker, "select private.resume_language_work()") == 0
    with superuser(practice) as owner:
        assert _jobs(owner, ANA) == before + 1


def test_lifted_budget_bounds_nothing_until_the_next_day(practice: Database) -> None:
    _clear(practice)
    apply_language_budget(practice.owner_url, LanguageBudget(100))
    _count(practice, ANA, 100)
    with acting(practice, "resguardo_worker") as worker:
        worker.execute("select private.hold_language_work(%s, %s)", [ANA.id_of(READY), HELD])
    _lift(practice, ANA)
    _lift(practice, ANA)
    assert _left(practice, ANA) > 10**15
    with superuser(practice) as owner:
        assert value(owner, "select count(*) from private.held_language_work") == 0
        owner.execute("update private.language_budget_lifts set day = day - 1")
    assert _left(practice, ANA) == 0


def test_budget_is_lifted_for_doctors_alone(practice: Database) -> None:
    with acting(practice, "compliance") as officer:
        found = officer.execute("select * from private.lift_language_budget(gen_random_uuid())").fetchall()
    assert found == []


def test_without_a_stored_budget_no_request_is_permitted(practice: Database) -> None:
    _clear(practice)
    with superuser(practice) as owner:
        owner.execute("delete from private.language_budget")
    assert _left(practice, ANA) == 0
    apply_language_budget(practice.owner_url, LanguageBudget(5))
    assert _left(practice, ANA) == 5


@pytest.mark.parametrize("budget", [0, -1])
def test_budget_that_is_not_positive_is_refused_by_the_table(practice: Database, budget: int) -> None:
    with refused("23514"), superuser(practice) as owner:
        owner.execute("update private.language_budget set tokens_per_day = %s", [budget])


def test_parallel_answers_are_all_counted(practice: Database) -> None:
    _clear(practice)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: _count(practice, ANA, 7), range(24)))
    assert _entries(practice, ANA.id_of(READY)) == {("LANGUAGE", "INPUT_TOKENS"): 168}


def test_doctor_counts_only_for_their_own_recordings(practice: Database) -> None:
    statement = "select private.count_tokens(%s, 'vendor', 'model', 1, 0, 1)"
    with acting(practice, "clinician who owns") as doctor:
        doctor.execute(statement, [ANA.id_of(READY)])
    with refused("RG404"), acting(practice, "clinician who owns") as doctor:
        doctor.execute(statement, [BRUNO.id_of(READY)])
    with refused("23514"), acting(practice, "clinician who owns") as doctor:
        doctor.execute("select private.count_tokens(%s, 'vendor', 'model', -5, 0, 1)", [ANA.id_of(READY)])


def test_report_counts_stored_bytes_for_each_day(practice: Database) -> None:
    _clear(practice)
    today = date.fromisoformat(str(_today(practice)))
    with superuser(practice) as owner:
        for days, size in ((40, 1000), (10, -1000)):
            owner.execute(
                "insert into private.cost_entries (recording_id, day, kind, vendor, model, unit, doctor_id, quantity)"
                " values (%s, %s, 'STORAGE', 'bucket', '', 'BYTES', %s, %s)",
                [ANA.id_of(READY), today - timedelta(days), ANA.doctor_id, size],
            )
    for since, until, expected in ((50, -1, 30), (20, 0, 10), (5, -1, 0), (60, 35, 5)):
        for grouping in ("MONTH", "DOCTOR", "VENDOR"):
            with acting(practice, "compliance") as officer:
                rows = officer.execute(
                    "select quantity::bigint from private.report_costs(%s, %s, %s)",
                    [today - timedelta(since), today - timedelta(until), grouping],
                ).fetchall()
            assert sum(quantity for (quantity,) in rows) == expected * 1000, (since, until, grouping)


def test_report_groups_by_month_doctor_and_vendor(practice: Database) -> None:
    _clear(practice)
    _count(practice, ANA, 5)
    _count(practice, BRUNO, 6)
    today = date.fromisoformat(str(_today(practice)))
    period = [today - timedelta(1), today + timedelta(1)]
    with acting(practice, "compliance") as officer:
        found = {
            grouping: officer.execute(
                "select month, doctor_id, vendor, model, quantity::int from private.report_costs(%s, %s, %s)"
                " order by quantity",
                [*period, grouping],
            ).fetchall()
            for grouping in ("MONTH", "DOCTOR", "VENDOR")
        }
    assert found["MONTH"] == [(today.replace(day=1), None, None, None, 11)]
    assert found["DOCTOR"] == [(None, ANA.doctor_id, None, None, 5), (None, BRUNO.doctor_id, None, None, 6)]
    assert found["VENDOR"] == [(None, None, "api.example.org", "a-model", 11)]


def _today(database: Database) -> object:
    with superuser(database) as reader:
        return value(reader, "select private.today()")


def test_egress_and_stored_bytes_are_counted_when_the_recording_changes(practice: Database) -> None:
    _clear(practice)
    recording = ANA.id_of("over VERIFYING")
    with superuser(practice) as owner:
        owner.execute(
            "update resguardo.recordings set started_at = null, ended_at = null where id = %s", [recording]
        )
        owner.execute(
            "update resguardo.recordings set started_at = now() - interval '61.5 s', ended_at = now() where id = %s",
            [recording],
        )
        owner.execute(
            "update resguardo.recordings set status = 'READY', size_bytes = 1234, sha256 = repeat('a', 64)"
            " where id = %s",
            [recording],
        )
    video = _video(practice, recording)
    assert _entries(practice, video) == {("EGRESS", "MILLISECONDS"): 61_500, ("STORAGE", "BYTES"): 1234}


def _video(database: Database, recording: UUID) -> UUID:
    with superuser(database) as reader:
        found = value(
            reader, "select coalesce(video_id, id) from resguardo.recordings where id = %s", recording
        )
    assert isinstance(found, UUID)
    return found
