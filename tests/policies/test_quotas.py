"""Tests of quotas: the database reads a quota from its own table, so a caller cannot choose the quota."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from app.postgres.quotas import Quotas, apply_quotas, load_quotas
from tests.databases import Database
from tests.policies.acting import LONGEST_WAIT_SECONDS, acting, at_once, refused, superuser, value
from tests.policies.actors import ANA, Connection

COUNTED = "select private.record_access('recording.list', 'recording', null, '{}', '{}', '{}', '{}', %s)"


def _rows(database: Database) -> dict[str, int]:
    with superuser(database) as reader:
        return dict(reader.execute("select q.meter, q.per_hour from private.quotas as q").fetchall())


def _use(connection: Connection, meter: str) -> None:
    connection.execute(COUNTED.encode(), [meter])


def test_migrated_database_has_the_quotas_of_the_file(practice: Database) -> None:
    wanted = load_quotas()
    assert _rows(practice) == {
        "urls": wanted.urls,
        "subtitles": wanted.subtitles,
        "pages": wanted.pages,
        "playbacks": wanted.playbacks,
        "invitations": wanted.invitations,
        "questions": wanted.questions,
        "exports": wanted.exports,
        "emergencies": wanted.emergencies,
    }


def test_changed_quota_holds_from_the_next_use_on(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1, playbacks=1, subtitles=1, pages=2, invitations=1, questions=1, exports=1, emergencies=1
        ),
    )
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
    with refused("RG429", "quota_pages"), acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1, playbacks=1, subtitles=1, pages=3, invitations=1, questions=1, exports=1, emergencies=1
        ),
    )
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")


@pytest.mark.parametrize(
    "meter", ["urls", "playbacks", "subtitles", "pages", "invitations", "questions", "exports"]
)
def test_meter_without_a_quota_allows_nothing(practice: Database, meter: str) -> None:
    with superuser(practice) as owner:
        owner.execute("delete from private.quotas")
    with refused("RG429", f"quota_{meter}"), acting(practice, "clinician who owns") as doctor:
        _use(doctor, meter)


@pytest.mark.parametrize("per_hour", [0, -1])
def test_quota_that_is_not_positive_is_refused_by_the_table(practice: Database, per_hour: int) -> None:
    with superuser(practice) as owner, pytest.raises(psycopg.errors.CheckViolation):
        owner.execute("update private.quotas set per_hour = %s", [per_hour])


@pytest.mark.parametrize("who", ["clinician who owns", "resguardo_worker", "resguardo_api"])
def test_nobody_reads_or_changes_the_quotas_directly(practice: Database, who: str) -> None:
    for statement in ("select * from private.quotas", "update private.quotas set per_hour = 1000000"):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute(statement.encode())


def test_no_function_takes_a_quota_from_its_caller(practice: Database) -> None:
    with superuser(practice) as reader:
        found = reader.execute(
            "select p.oid::regprocedure::text from pg_proc as p"
            " where p.pronamespace = 'private'::regnamespace and 'quota' = any (p.proargnames)"
        ).fetchall()
    assert found == []


def test_parallel_reads_of_one_person_do_not_wait_for_each_other(practice: Database) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            doctor = stack.enter_context(acting(practice, "clinician who owns"))
            doctor.execute("set local lock_timeout = '50ms'")
            _use(doctor, "pages")


@pytest.mark.parametrize("is_first_use", [True, False])
def test_more_parallel_reads_than_slots_are_all_counted(practice: Database, *, is_first_use: bool) -> None:
    if not is_first_use:
        _read(practice)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        for _ in range(8):
            _use(stack.enter_context(acting(practice, "clinician who owns")), "pages")
        ninth = pool.submit(_read, practice)
        stack.close()
        assert ninth.result(LONGEST_WAIT_SECONDS) is None
    assert _used(practice) == 9 + (not is_first_use)


@pytest.mark.parametrize("is_kept", [True, False])
def test_read_waits_for_the_transaction_that_holds_the_last_use(practice: Database, *, is_kept: bool) -> None:
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1, playbacks=1, subtitles=1, pages=1, invitations=1, questions=1, exports=1, emergencies=1
        ),
    )
    with acting(practice, "clinician who owns") as holder:
        _use(holder, "pages")
        with at_once(practice, holder, lambda: _read(practice)) as other:
            if is_kept:
                holder.commit()
            else:
                holder.rollback()
            assert getattr(other.exception(LONGEST_WAIT_SECONDS), "sqlstate", None) == (
                "RG429" if is_kept else None
            )
    assert _used(practice) == 1


@pytest.mark.parametrize("quota", [1, 7, 20])
def test_parallel_reads_use_a_quota_up_and_never_exceed_it(practice: Database, quota: int) -> None:
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1,
            playbacks=1,
            subtitles=1,
            pages=quota,
            invitations=1,
            questions=1,
            exports=1,
            emergencies=1,
        ),
    )
    with ThreadPoolExecutor(10) as pool:
        reads = [pool.submit(_read, practice) for _ in range(quota + 15)]
        errors = [read.exception() for read in reads]
    refusals = [error for error in errors if error is not None]
    assert {getattr(error, "sqlstate", None) for error in refusals} == {"RG429"}
    assert len(reads) - len(refusals) == _used(practice) == quota


def test_read_that_is_rolled_back_gives_its_use_back(practice: Database) -> None:
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1, playbacks=1, subtitles=1, pages=1, invitations=1, questions=1, exports=1, emergencies=1
        ),
    )
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
        doctor.rollback()
    _read(practice)
    with refused("RG429", "quota_pages"):
        _read(practice)


def test_lowered_quota_counts_the_uses_before_it(practice: Database) -> None:
    for _ in range(5):
        _read(practice)
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1, playbacks=1, subtitles=1, pages=5, invitations=1, questions=1, exports=1, emergencies=1
        ),
    )
    with refused("RG429", "quota_pages"):
        _read(practice)


def test_new_hour_starts_again_and_adds_no_rows(practice: Database) -> None:
    apply_quotas(
        practice.owner_url,
        Quotas(
            urls=1, playbacks=1, subtitles=1, pages=2, invitations=1, questions=1, exports=1, emergencies=1
        ),
    )
    for _ in range(2):
        _read(practice)
    with superuser(practice) as owner:
        owner.execute("update private.usage set window_start = window_start - interval '1 hour'")
        before = value(owner, "select count(*) from private.usage")
    for _ in range(2):
        _read(practice)
    with refused("RG429", "quota_pages"):
        _read(practice)
    with superuser(practice) as owner:
        assert value(owner, "select count(*) from private.usage") == before


def _read(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")


def _used(practice: Database) -> int:
    """Return how many pages of lists the doctor has requested within this hour's quota."""
    with superuser(practice) as owner:
        used: int = value(
            owner,
            "select coalesce(sum(u.used), 0) from private.usage as u where u.person_id = %s and u.meter = 'pages'",
            ANA.doctor_id,
        )
        return used
