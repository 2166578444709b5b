"""Tests that `supabase/schemas` and `supabase/migrations` create equal databases. The comparison of the two
databases does not cover grants and policies.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import InvalidInput
from app.postgres.access_policies import MIGRATIONS_DIRECTORY
from app.postgres.migration_files import INITIAL, SCHEMAS_DIRECTORY, initial_migration, write_new_migration
from app.postgres.migrations import list_migrations, migrate
from devstack.supabase_project import ProjectUrls
from tests.migrations.catalogue import Catalogue, read_catalogue

SCHEMAS = sorted(SCHEMAS_DIRECTORY.glob("*.sql"))
STALE = "run `make migration`: supabase/schemas has changed"


def _by_schemas(project: ProjectUrls) -> ProjectUrls:
    with psycopg.connect(project.owner_url) as owner:
        for path in SCHEMAS:
            owner.execute(path.read_bytes())
    return project


def _differences(left: Catalogue, right: Catalogue) -> dict[str, list[tuple[Any, ...]]]:
    return {part: found for part in left if (found := [row for row in left[part] if row not in right[part]])}


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_schemas_and_migrations_make_the_same_database(new_project: Callable[[], ProjectUrls]) -> None:
    current, migrated = _by_schemas(new_project()), new_project()
    migrate(migrated.owner_url, MIGRATIONS_DIRECTORY)
    ours, theirs = read_catalogue(current.superuser_url), read_catalogue(migrated.superuser_url)
    assert all(ours[part] for part in ours if part != "policies")
    assert _differences(ours, theirs) == {}, "the migrations lack this"
    assert _differences(theirs, ours) == {}, "supabase/schemas lacks this"


CHANGES: dict[str, tuple[str, LiteralString]] = {
    "a column's default": (
        "columns",
        "alter table resguardo.staff alter column status set default 'suspended'",
    ),
    "a column's type": ("columns", "alter table resguardo.staff alter column origin type varchar(20)"),
    "a column that may be null": ("columns", "alter table private.usage alter column used drop not null"),
    "a column": ("columns", "alter table resguardo.staff add column extra text"),
    "a comment on a column": ("columns", "comment on column resguardo.recordings.error is 'x'"),
    "a comment on a table": ("relations", "comment on table audit.events is 'x'"),
    "a comment on a schema": ("schemas", "comment on schema jobs is 'x'"),
    "row security": ("relations", "alter table resguardo.staff disable row level security"),
    "a right on a table": ("relations", "grant select on resguardo.staff to resguardo_api"),
    "a right on a function": ("functions", "grant execute on function private.now() to resguardo_api"),
    "a policy": ("policies", "create policy p on resguardo.staff for select using (true)"),
    "an index": ("indexes", "drop index resguardo.recordings_room_idx"),
    "a check": ("constraints", "alter table private.usage drop constraint usage_pkey"),
    "a check not validated": (
        "constraints",
        "alter table private.usage add constraint c check (used > 0) not valid",
    ),
    "a trigger": ("triggers", "drop trigger consents_guard on resguardo.consents"),
    "a disabled trigger": ("triggers", "alter table resguardo.consents disable trigger consents_guard"),
    "a view": ("views", "create view private.v as select 1 as n"),
    "a function's body": (
        "functions",
        (
            "create or replace function private.today() returns date language plpgsql volatile security definer"
            " set search_path = pg_catalog, pg_temp as $$ begin return current_date; end $$"
        ),
    ),
    "a function's settings": ("functions", "alter function private.today() set lock_timeout = 1"),
    "a type": ("types", "create type private.t as enum ('a')"),
    "a label of an enum": ("types", "alter type jobs.procrastinate_job_status add value 'x'"),
    "a sequence": ("sequences", "alter sequence jobs.procrastinate_jobs_id_seq increment by 2"),
    "a row": ("rows", "delete from private.tasks where name = 'start_recording'"),
}


def test_catalogue_shows_each_kind_of_difference(project: ProjectUrls) -> None:
    """Proves that the comparison of two databases detects each kind of difference."""
    _by_schemas(project)
    before = read_catalogue(project.superuser_url)
    for name, (part, change) in CHANGES.items():
        with psycopg.connect(project.superuser_url) as connection:
            connection.execute(change)
            after = read_catalogue(connection)
            connection.rollback()
        assert part in _differences(before, after).keys() | _differences(after, before).keys(), name
    assert read_catalogue(project.superuser_url) == before


def test_columns_in_another_order_are_a_difference(project: ProjectUrls) -> None:
    with psycopg.connect(project.owner_url) as owner:
        owner.execute("create schema private; create table private.t (a text, b text)")
        before = read_catalogue(owner)
        owner.execute("alter table private.t drop column a; alter table private.t add column a text")
        assert _differences(before, read_catalogue(owner)).keys() == {"columns"}


def test_initial_migration_is_generated_from_the_schemas() -> None:
    later = [migration.path.name for migration in list_migrations(MIGRATIONS_DIRECTORY)][1:]
    if not later:
        assert (MIGRATIONS_DIRECTORY / INITIAL).read_text(encoding="utf-8") == initial_migration(), STALE


def _defined() -> Iterator[str]:
    for path in SCHEMAS:
        text = re.sub(r"\$(\w*)\$.*?\$\1\$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for kind, name in re.findall(
            r"^create (?:or replace )?(function|table|view|type) ([a-z0-9_.]+)",
            text,
            re.MULTILINE | re.IGNORECASE,
        ):
            yield f"{kind} {name}"


def test_each_function_table_and_view_is_defined_once() -> None:
    counted = Counter(_defined())
    assert len(counted) > 200
    assert [name for name, times in counted.items() if times > 1] == []


def test_schema_files_alter_no_table_but_to_switch_row_security_and_triggers() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SCHEMAS if "procrastinate" not in path.name]
    altered = [line for text in texts for line in re.findall(r"^(?:alter|drop) .*", text, re.MULTILINE)]
    assert altered
    allowed = r"alter table \S+ enable (row level security|always trigger \w+);"
    assert [line for line in altered if not re.fullmatch(allowed, line)] == []


def test_schema_files_are_numbered_and_named_after_their_noun() -> None:
    assert [path.name for path in SCHEMAS if not re.fullmatch(r"[0-9]{2}_[a-z_]+\.sql", path.name)] == []
    numbers = Counter(path.name[:2] for path in SCHEMAS)
    assert [number for number, times in numbers.items() if times > 1] == []


NOW = datetime(2026, 12, 24, 18, 30, 5, tzinfo=UTC)


def test_new_migration_has_the_time_as_its_version_and_says_what_to_write(tmp_path: Path) -> None:
    path = write_new_migration("add_rooms", NOW, tmp_path)
    assert path.name == "20261224183005_add_rooms.sql"
    assert all(line.startswith("--") for line in path.read_text(encoding="utf-8").splitlines())


def test_new_migration_comes_after_a_newest_one_that_is_later_than_the_clock(tmp_path: Path) -> None:
    (tmp_path / "20270101235959_newest.sql").write_text("select 1")
    assert write_new_migration("one", NOW, tmp_path).name == "20270102000000_one.sql"
    assert write_new_migration("two", NOW, tmp_path).name == "20270102000001_two.sql"


def test_new_migration_is_applied_as_it_is_and_changes_nothing(project: ProjectUrls, tmp_path: Path) -> None:
    path = write_new_migration("nothing_yet", NOW, tmp_path)
    assert migrate(project.owner_url, tmp_path) == [path.name[:14]]


@pytest.mark.parametrize("name", ["", "Rooms", "1st", "a-b", "a/b", "../a", "a b", "a" * 81])
def test_new_migration_with_a_name_that_is_no_slug_is_refused(name: str) -> None:
    before = set(MIGRATIONS_DIRECTORY.iterdir())
    assert CliRunner().invoke(cli, ["migrations", "new", "--", name]).exit_code == 2
    assert set(MIGRATIONS_DIRECTORY.iterdir()) == before


def test_new_migration_without_schema_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="migrations_missing"):
        write_new_migration("add_rooms", NOW, tmp_path, tmp_path / "schemas")
    assert list(tmp_path.iterdir()) == []


def test_initial_migration_without_schema_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="migrations_missing"):
        initial_migration(tmp_path)
