"""The database reads quotas from its own rows. A caller cannot supply a quota."""

import psycopg
import pytest

from app.postgres.quotas import Quotas, apply_quotas, load_quotas
from tests.databases import Database
from tests.policies.acting import acting, refused, superuser
from tests.policies.world import Connection

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
        "invitations": wanted.invitations,
    }


def test_changed_quota_holds_from_the_next_use_on(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
    apply_quotas(practice.owner_url, Quotas(urls=1, subtitles=1, pages=2, invitations=1))
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
    with refused("RG429", "quota_pages"), acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")
    apply_quotas(practice.owner_url, Quotas(urls=1, subtitles=1, pages=3, invitations=1))
    with acting(practice, "clinician who owns") as doctor:
        _use(doctor, "pages")


@pytest.mark.parametrize("meter", ["urls", "subtitles", "pages", "invitations"])
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
