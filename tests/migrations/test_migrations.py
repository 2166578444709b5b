"""The migration runner applies whole files, in order, and each file once."""

import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from app.errors import Conflict, InvalidInput, UpstreamFailed
from app.postgres.migrations import migrate, pending, set_login_passwords
from devstack.supabase_project import ProjectUrls
from tests.databases import MIGRATIONS, Database


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    _write(
        tmp_path, "20260101000000_first.sql", "create schema s;\n\n-- a table\ncreate table s.t (n int);\n"
    )
    _write(tmp_path, "20260102000000_second.sql", "insert into s.t values (1); insert into s.t values (2);")
    return tmp_path


def _write(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


LEDGER = "select version, name, statements from supabase_migrations.schema_migrations order by version"


def test_migrate_applies_oldest_first_and_writes_the_ledger(project: ProjectUrls, directory: Path) -> None:
    heard: list[str] = []
    assert migrate(project.owner_url, directory, on_applied=heard.append) == [
        "20260101000000",
        "20260102000000",
    ]
    assert heard == ["20260101000000", "20260102000000"]
    assert _rows(project.owner_url, "select n from s.t order by n") == [(1,), (2,)]
    assert _rows(project.owner_url, LEDGER) == [
        ("20260101000000", "first", ["create schema s;\n\n-- a table\ncreate table s.t (n int);\n"]),
        ("20260102000000", "second", ["insert into s.t values (1); insert into s.t values (2);"]),
    ]


def test_migrate_runs_as_an_owner_who_is_no_superuser(project: ProjectUrls, directory: Path) -> None:
    migrate(project.owner_url, directory)
    query = "select rolname, rolsuper from pg_class join pg_roles r on r.oid = relowner where relname = 't'"
    assert _rows(project.owner_url, query) == [(project.owner, False)]


def test_migrate_applies_only_what_is_new(project: ProjectUrls, directory: Path) -> None:
    migrate(project.owner_url, directory)
    assert migrate(project.owner_url, directory) == []
    _write(directory, "20260103000000_third.sql", "insert into s.t values (3)")
    assert migrate(project.owner_url, directory) == ["20260103000000"]


def test_pending_lists_and_changes_nothing(project: ProjectUrls, directory: Path) -> None:
    assert [migration.version for migration in pending(project.owner_url, directory)] == [
        "20260101000000",
        "20260102000000",
    ]
    assert _rows(
        project.owner_url, "select to_regnamespace('supabase_migrations'), to_regnamespace('s')"
    ) == [(None, None)]


def test_migration_older_than_the_newest_applied_is_refused(project: ProjectUrls, directory: Path) -> None:
    migrate(project.owner_url, directory)
    _write(directory, "20260101120000_late.sql", "create table s.late ()")
    with pytest.raises(Conflict, match="migration_out_of_order") as refusal:
        migrate(project.owner_url, directory)
    assert refusal.value.detail == {"version": "20260101120000", "newest": "20260102000000"}
    assert _rows(project.owner_url, "select to_regclass('s.late')") == [(None,)]


def test_ledger_with_an_unknown_version_is_refused(project: ProjectUrls, directory: Path) -> None:
    migrate(project.owner_url, directory)
    (directory / "20260101000000_first.sql").unlink()
    _write(directory, "20260103000000_third.sql", "create table s.third ()")
    for act in (migrate, pending):
        with pytest.raises(Conflict, match="ledger_versions_unknown") as refusal:
            act(project.owner_url, directory)
        assert refusal.value.detail == {"versions": "20260101000000"}
    assert _rows(project.owner_url, "select to_regclass('s.third')") == [(None,)]


@pytest.mark.parametrize("others", [(), ("20261121100000", "20270101000000")])
def test_ledger_of_before_the_first_release_is_refused_by_name(
    project: ProjectUrls, directory: Path, others: tuple[str, ...]
) -> None:
    migrate(project.owner_url, directory)
    with psycopg.connect(project.owner_url) as connection:
        for version in ("20261121090000", *others):
            connection.execute(
                "insert into supabase_migrations.schema_migrations (version) values (%s)", [version]
            )
    for act in (migrate, pending):
        with pytest.raises(Conflict, match="database_of_pre_release"):
            act(project.owner_url, directory)


def test_database_of_an_earlier_text_of_a_file_is_refused(project: ProjectUrls, directory: Path) -> None:
    migrate(project.owner_url, directory)
    _write(directory, "20260101000000_first.sql", "create schema s; create table s.t (n int, another int)")
    for act in (migrate, pending):
        with pytest.raises(Conflict, match="database_of_pre_release") as refusal:
            act(project.owner_url, directory)
        assert refusal.value.detail == {"version": "20260101000000"}


LEDGERS_OF_THE_CLI: list[tuple[list[str], bool]] = [
    (["create schema s", "-- a table\ncreate table s.t (n int)"], True),
    (["create schema s"], False),
    (["-- a table\ncreate table s.t (n int)"], False),
    (["-- a table\ncreate table s.t (n int)", "create schema s"], False),
    (["create schema s", "-- a table\ncreate table s.t (n text)"], False),
    ([], False),
]


@pytest.mark.parametrize(("statements", "is_accepted"), LEDGERS_OF_THE_CLI)
def test_ledger_of_the_supabase_cli_is_accepted_if_its_statements_are_the_whole_file(
    project: ProjectUrls, directory: Path, statements: list[str], is_accepted: bool
) -> None:
    migrate(project.owner_url, directory)
    with psycopg.connect(project.owner_url) as connection:
        connection.execute(
            "update supabase_migrations.schema_migrations set statements = %s where name = 'first'",
            [statements],
        )
    if is_accepted:
        assert migrate(project.owner_url, directory) == []
    else:
        with pytest.raises(Conflict, match="database_of_pre_release"):
            migrate(project.owner_url, directory)


def test_ledger_without_statements_is_taken_as_it_is(project: ProjectUrls, directory: Path) -> None:
    migrate(project.owner_url, directory)
    with psycopg.connect(project.owner_url) as connection:
        connection.execute("alter table supabase_migrations.schema_migrations drop column statements")
    assert pending(project.owner_url, directory) == []


def test_failing_file_rolls_back_whole_and_keeps_the_ones_before(
    project: ProjectUrls, directory: Path
) -> None:
    _write(
        directory,
        "20260103000000_third.sql",
        "create table s.third (); select 1 / 0; create table s.never ()",
    )
    with pytest.raises(UpstreamFailed, match="migration_failed") as failure:
        migrate(project.owner_url, directory)
    assert failure.value.detail == {"version": "20260103000000", "sqlstate": "22012"}
    assert _rows(project.owner_url, "select to_regclass('s.third')") == [(None,)]
    assert [row[0] for row in _rows(project.owner_url, LEDGER)] == ["20260101000000", "20260102000000"]


def test_failing_statement_is_reported_with_its_line_if_postgres_names_it(
    project: ProjectUrls, directory: Path
) -> None:
    _write(directory, "20260103000000_third.sql", "create table s.third ();\n\nselect 'é', no_such_column;\n")
    with pytest.raises(UpstreamFailed, match="migration_failed") as failure:
        migrate(project.owner_url, directory)
    assert failure.value.detail == {"version": "20260103000000", "sqlstate": "42703", "line": 3}


def test_setting_of_one_file_does_not_reach_the_next(project: ProjectUrls, directory: Path) -> None:
    _write(directory, "20260103000000_third.sql", "select pg_catalog.set_config('search_path', 's', false)")
    _write(directory, "20260104000000_fourth.sql", "create table here ()")
    migrate(project.owner_url, directory)
    assert _rows(project.owner_url, "select to_regclass('public.here')") == [("here",)]


def test_two_at_once_apply_each_file_once(project: ProjectUrls, directory: Path) -> None:
    _write(directory, "20260103000000_third.sql", "select pg_sleep(0.2)")
    results: list[list[str]] = []
    runs = [
        threading.Thread(target=lambda: results.append(migrate(project.owner_url, directory)))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(map(len, results)) == [0, 3]


@pytest.mark.parametrize("name", ["20260103_short.sql", "20260103000000.sql", "third.sql"])
def test_misnamed_file_is_refused_before_anything_runs(
    project: ProjectUrls, directory: Path, name: str
) -> None:
    _write(directory, name, "select 1")
    with pytest.raises(InvalidInput, match="migration_name"):
        migrate(project.owner_url, directory)
    assert _rows(project.owner_url, "select to_regnamespace('s')") == [(None,)]


def test_version_given_twice_is_refused(project: ProjectUrls, directory: Path) -> None:
    _write(directory, "20260102000000_twin.sql", "select 1")
    with pytest.raises(InvalidInput, match="migration_version_twice"):
        migrate(project.owner_url, directory)


def test_missing_directory_is_refused(project: ProjectUrls, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="migrations_missing"):
        migrate(project.owner_url, tmp_path / "nowhere")


def test_unreachable_database_is_told_without_its_url(directory: Path) -> None:
    with pytest.raises(UpstreamFailed, match=r"\Adatabase_unreachable\Z"):
        migrate("postgresql://somebody:password@127.0.0.1:1/nothing", directory)


def test_login_password_is_stored_as_a_scram_verifier(project: ProjectUrls) -> None:
    role = project.superuser_url.rpartition("/")[2] + "_login"
    with psycopg.connect(project.owner_url, autocommit=True) as connection:
        connection.execute(f"create role {role} login".encode())
        try:
            set_login_passwords(project.owner_url, {role: SecretStr("it's %s")})
            stored = dict(_rows(project.superuser_url, "select rolname, rolpassword from pg_authid"))
            assert stored[role].startswith("SCRAM-SHA-256$4096:")
            psycopg.connect(project.owner_url, user=role, password="it's %s").close()
        finally:
            connection.execute(f"drop role {role}".encode())


def test_login_password_of_a_missing_role_is_told_without_the_password(project: ProjectUrls) -> None:
    with pytest.raises(UpstreamFailed, match="login_password_failed") as failure:
        set_login_passwords(project.owner_url, {"nobody_here": SecretStr("secret-word")})
    assert "secret-word" not in f"{failure.value!r} {failure.value.detail} {failure.value.__cause__}"


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_all_migrations_are_applied_on_either_kind_of_project(database: Database) -> None:
    assert pending(database.owner_url, MIGRATIONS) == []
    assert len(_rows(database.owner_url, LEDGER)) == len(list(MIGRATIONS.glob("*.sql")))


ACLS = """
with acls (name, acl) as (
    select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner))
    from pg_proc where pronamespace::regnamespace::text in :ours
    union all
    select
        oid::regclass::text,
        coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
    from pg_class where relnamespace::regnamespace::text in :ours and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select c.oid::regclass::text || '.' || a.attname, a.attacl
    from pg_attribute as a join pg_class as c on c.oid = a.attrelid
    where c.relnamespace::regnamespace::text in :ours and a.attacl is not null
    union all
    select nspname, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace where nspname in :ours
)
select name, case g.grantee when 0 then 'public' else g.grantee::regrole::text end, g.privilege_type
from acls, aclexplode(acl) as g
where g.grantee = 0 or g.grantee::regrole::text <> %s
""".replace(":ours", "('resguardo', 'audit', 'private', 'jobs')")


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_migrations_alone_grant_nothing_to_anybody(project: ProjectUrls) -> None:
    """`supabase db push` alone grants nothing to anybody. Only `resguardo migrate` applies the grants and policies
    that give access.
    """
    with psycopg.connect(project.owner_url, autocommit=True) as connection:
        connection.execute("alter default privileges grant all on tables to service_role")
        connection.execute("alter default privileges grant all on sequences to anon")
        connection.execute("alter default privileges grant all on routines to authenticated")
    migrate(project.owner_url, MIGRATIONS)
    with psycopg.connect(project.superuser_url) as connection:
        assert connection.execute(ACLS.encode(), [project.owner]).fetchall() == []
        assert connection.execute("select count(*) from pg_policies").fetchone() == (0,)
        unsecured = connection.execute(
            "select relname from pg_class where relnamespace = 'resguardo'::regnamespace"
            " and relkind in ('r', 'p') and not relrowsecurity"
        ).fetchall()
        assert unsecured == []


def test_each_function_is_defined_once_and_no_access_is_in_the_migrations() -> None:
    text = "".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    defined = re.findall(r"^create (?:or replace )?function ([a-z_.]+)\(", text, re.MULTILINE | re.IGNORECASE)
    assert len(defined) > 200
    assert [name for name, times in Counter(defined).items() if times > 1] == []
    assert re.findall(r"^(?:grant|create policy) .*", text, re.MULTILINE) == []
