"""Our migration runner and the Supabase CLI produce the same database, and Supabase's advisors report no problem.

The CLI is the npm package that `supabase-cli/package-lock.json` pins, installed once into `.cache/supabase-cli`.
The lock file has the binary's checksum for Linux on x64. For other systems, the package itself pins the binary's
version.
"""

import fcntl
import filecmp
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.errors import Conflict
from app.postgres.migrations import migrate, pending
from devstack.postgres import binaries_directory
from devstack.supabase_project import ProjectUrls
from tests.databases import MIGRATIONS, Database

PACKAGE = Path(__file__).parent / "supabase-cli"
INSTALLED = MIGRATIONS.parents[1] / ".cache" / "supabase-cli"
PROGRAM = INSTALLED / "node_modules" / ".bin" / "supabase"

pytestmark = pytest.mark.skipif(
    shutil.which("npm") is None, reason="the Supabase CLI comes through npm: no npm here"
)


@dataclass(frozen=True)
class Cli:
    """The Supabase CLI with its own home and working directory, so that it writes no file into the repository."""

    home: Path

    @property
    def migrations(self) -> Path:
        return self.home / "supabase" / "migrations"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments, f"--workdir={self.home}"],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "DO_NOT_TRACK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def push(self, url: str, *options: str) -> str:
        done = self.run("db", "push", f"--remote={url}", "--yes", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def _installed() -> None:
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if PROGRAM.exists() and filecmp.cmp(PACKAGE / "package.json", INSTALLED / "package.json"):
            return
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGE / name, INSTALLED)
        # `npm ci` would fail, because it requires every system's binary in the lock file.
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=INSTALLED, check=True, capture_output=True, timeout=300)


@pytest.fixture
def cli(tmp_path: Path, _installed: None) -> Cli:
    shutil.copytree(MIGRATIONS.parent, tmp_path / "supabase", ignore=shutil.ignore_patterns(".temp"))
    return Cli(tmp_path)


def _schema(url: str) -> list[str]:
    """Return pg_dump's lines of the whole schema, without the `\\restrict` lines, which contain a random word."""
    dump = subprocess.run(
        [binaries_directory() / "pg_dump", "--schema-only", f"--dbname={url}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [line for line in dump.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def _ledger(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select version, name, statements from supabase_migrations.schema_migrations order by version"
        ).fetchall()


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_push_and_runner_make_the_same_database(cli: Cli, new_project: Callable[[], ProjectUrls]) -> None:
    pushed, ours = new_project(), new_project()
    cli.push(pushed.owner_url)
    assert migrate(ours.owner_url, MIGRATIONS) == [version for version, *_ in _ledger(pushed.owner_url)]
    for applied, by_cli in zip(_ledger(ours.owner_url), _ledger(pushed.owner_url), strict=True):
        assert applied[:2] == by_cli[:2]
    assert _schema(ours.superuser_url) == _schema(pushed.superuser_url)
    assert migrate(pushed.owner_url, MIGRATIONS) == []
    assert "up to date" in cli.push(ours.owner_url)


def test_dry_runs_name_the_same_files(cli: Cli, project: ProjectUrls) -> None:
    told = cli.push(project.owner_url, "--dry-run")
    named = [line.partition("•")[2].strip() for line in told.splitlines() if "•" in line]
    assert named == [migration.path.name for migration in pending(project.owner_url, MIGRATIONS)]
    assert named


def test_both_refuse_a_late_migration(cli: Cli, project: ProjectUrls) -> None:
    migrate(project.owner_url, cli.migrations)
    (cli.migrations / "20200101000000_late.sql").write_text("create schema late")
    assert cli.run("db", "push", f"--remote={project.owner_url}", "--yes").returncode != 0
    with pytest.raises(Conflict, match="migration_out_of_order"):
        migrate(project.owner_url, cli.migrations)


def test_both_refuse_an_unknown_version(cli: Cli, project: ProjectUrls) -> None:
    migrate(project.owner_url, cli.migrations)
    min(cli.migrations.glob("*.sql")).unlink()
    assert cli.run("db", "push", f"--remote={project.owner_url}", "--yes").returncode != 0
    with pytest.raises(Conflict, match="ledger_versions_unknown"):
        migrate(project.owner_url, cli.migrations)


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_advisors_find_unused_indexes_at_most(cli: Cli, database: Database) -> None:
    options = ["--type=all", "--level=info", "--fail-on=none", "--output-format=json"]
    done = cli.run("db", "advisors", f"--remote={database.owner_url}", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["results"]
    assert {"unused_index"} >= {lint["name"] for lint in found}, [
        lint["detail"] for lint in found if lint["name"] != "unused_index"
    ]


def test_advisors_do_find_a_table_without_policies(cli: Cli, database: Database) -> None:
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("create table public.bare (); alter table public.bare enable row level security")
    done = cli.run(
        "db",
        "advisors",
        f"--remote={database.owner_url}",
        "--type=all",
        "--level=info",
        "--output-format=json",
    )
    assert "rls_enabled_no_policy" in {lint["name"] for lint in json.loads(done.stdout)["results"]}
