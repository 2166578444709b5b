"""Applies `supabase/migrations` to a database like `supabase db push`, and keeps the same ledger. After `migrate`
has run, `supabase db push` finds nothing to do; after `supabase db push`, `migrate` finds nothing to do. The
ledger's DDL, the order of the files, the refusals, and the one transaction for each file are as in supabase/cli
(pkg/migration, read 2026-11-21). The Supabase CLI sends a file statement by statement and stores each statement in
the ledger. Unlike the Supabase CLI, `migrate` sends a whole file at once and stores the file's whole text in the
ledger.

`migrate` refuses a migration that is older than the newest applied one, and a ledger with versions that are not in
the directory. `migrate` also refuses a database from before the first release. Such a database contains an earlier
text of a file, or versions that a single file has since replaced. The module also refuses a `.sql` file that is not
named `<YYYYMMDDHHMMSS>_<name>.sql` (the CLI skips that file with a note). The module never repairs or reverts a
migration. Run `migrate` as the owner of the migrations (`postgres` on Supabase), over a direct or session-mode
connection. A lock prevents that two runs apply migrations at the same time. The lock belongs to the database
session, which a pooler in transaction mode would change.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import psycopg
from psycopg import sql

from app.errors import Conflict, InvalidInput, UpstreamFailed
from app.postgres.connections import set_again
from app.postgres.owner import as_owner

_FILE_NAME = re.compile(r"(?P<version>[0-9]{14})_(?P<name>.+)\.sql", re.ASCII)
_SEARCH_PATH = '"$user", public'
"""Postgres's own default, with which `supabase db push` runs the same files."""

_LOCK = "select pg_advisory_lock(hashtextextended('supabase_migrations.schema_migrations', 0))"
_LEDGER = (
    b"set local lock_timeout = '4s'",
    b"create schema if not exists supabase_migrations",
    b"create table if not exists supabase_migrations.schema_migrations (version text not null primary key)",
    b"alter table supabase_migrations.schema_migrations add column if not exists statements text[]",
    b"alter table supabase_migrations.schema_migrations add column if not exists name text",
)
_APPLIED = (
    "select m.version, to_jsonb(m) -> 'statements' from supabase_migrations.schema_migrations as m order by 1"
)
_RECORD = "insert into supabase_migrations.schema_migrations (version, name, statements) values (%s, %s, %s)"


_PRE_RELEASE: Final = "20261121"
"""The prefix of the versions that one file replaced before the first release."""

_Ledger = Mapping[str, list[str] | None]
"""The statements of each applied version, or None if the ledger does not contain them."""


class Secret(Protocol):
    """The interface of pydantic's SecretStr: a value that is hidden when printed."""

    def get_secret_value(self) -> str: ...


@dataclass(frozen=True)
class Migration:
    """One migration file. `name` is the part of the file name after the version, without `.sql`."""

    version: str
    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_bytes().decode()


def migrate(
    database_url: str, directory: Path, *, on_applied: Callable[[str], None] = lambda version: None
) -> list[str]:
    """Apply the pending migrations, oldest first, and return their versions. Calls `on_applied` after the commit of
    each migration.

    Each file and its ledger row commit together or not at all. If a migration fails, the migrations before it stay
    applied. Concurrent runs are safe: the second run waits and finds nothing to do. Raises InvalidInput if a
    migration file has a wrong name, and Conflict if the ledger does not match the directory of migrations. If a
    statement fails, raises UpstreamFailed (`migration_failed`) with the version, the SQLSTATE, and the line if
    Postgres names it.
    """
    migrations = list_migrations(directory)
    with as_owner(database_url, autocommit=True) as connection:
        connection.execute(_LOCK)
        todo = _pending(migrations, _applied(connection))
        if todo:
            _make_ledger(connection)
        for migration in todo:
            _apply(connection, migration)
            on_applied(migration.version)
    return [migration.version for migration in todo]


def pending(database_url: str, directory: Path) -> list[Migration]:
    """Return the migrations that `migrate` would apply, oldest first. The function changes nothing, and raises the
    same errors as `migrate`.
    """
    migrations = list_migrations(directory)
    with as_owner(database_url, autocommit=True) as connection:
        return _pending(migrations, _applied(connection))


def list_migrations(directory: Path) -> list[Migration]:
    """Return the directory's migrations, oldest first. Raises InvalidInput for a wrongly named file, or for two
    files with the same version.
    """
    if not directory.is_dir():
        raise InvalidInput("migrations_missing")
    migrations = [_named(path) for path in sorted(directory.glob("*.sql"))]
    versions = [migration.version for migration in migrations]
    for earlier, later in pairwise(versions):
        if earlier == later:
            raise InvalidInput("migration_version_twice", version=later)
    return migrations


def set_login_passwords(owner_url: str, passwords: Mapping[str, Secret]) -> None:
    """Set the passwords of login roles as SCRAM verifiers that this process computes, so that no password reaches
    the server or its log.

    The login roles must exist, and the connecting role must have created them. Raises UpstreamFailed
    (`login_password_failed`).
    """
    with as_owner(owner_url, autocommit=True) as connection, connection.transaction():
        connection.execute(_LOCK)
        for role, password in passwords.items():
            verifier = connection.pgconn.encrypt_password(
                password.get_secret_value().encode(), role.encode(), b"scram-sha-256"
            )
            statement = sql.SQL("alter role {} password {}").format(
                sql.Identifier(role), sql.Literal(verifier.decode())
            )
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                raise UpstreamFailed("login_password_failed", role=role, sqlstate=_state(error)) from error


def _named(path: Path) -> Migration:
    matched = _FILE_NAME.fullmatch(path.name)
    if matched is None:
        raise InvalidInput("migration_name", file=path.name)
    return Migration(matched["version"], matched["name"], path)


def _applied(connection: psycopg.Connection) -> _Ledger:
    try:
        return dict(connection.execute(_APPLIED).fetchall())
    except psycopg.errors.UndefinedTable:
        return {}


def _pending(migrations: Iterable[Migration], applied: _Ledger) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    unknown = sorted(applied.keys() - known.keys())
    if any(version.startswith(_PRE_RELEASE) for version in unknown):
        raise Conflict("database_of_pre_release")
    if unknown:
        raise Conflict("ledger_versions_unknown", versions=", ".join(unknown))
    for version, statements in applied.items():
        if statements is not None and not _are_whole(statements, known[version].text):
            raise Conflict("database_of_pre_release", version=version)
    todo = [migration for migration in migrations if migration.version not in applied]
    if todo and applied and todo[0].version < max(applied):
        raise Conflict("migration_out_of_order", version=todo[0].version, newest=max(applied))
    return todo


def _are_whole(statements: Iterable[str], text: str) -> bool:
    """Return whether the statements, joined in this order, are the whole text of a migration, apart from semicolons
    and white space.
    """
    at = 0
    for statement in statements:
        found = text.find(statement, at)
        if found < 0 or _has_words(text[at:found]):
            return False
        at = found + len(statement)
    return not _has_words(text[at:])


def _has_words(text: str) -> bool:
    return bool(text.replace(";", " ").strip())


def _make_ledger(connection: psycopg.Connection) -> None:
    with connection.transaction():
        for statement in _LEDGER:
            connection.execute(statement)


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    connection.execute("reset all")
    set_again(connection, _SEARCH_PATH)
    try:
        with connection.transaction():
            connection.execute(migration.text.encode())
            connection.execute(_RECORD, (migration.version, migration.name, [migration.text]))
    except psycopg.Error as error:
        raise UpstreamFailed(
            "migration_failed",
            version=migration.version,
            sqlstate=_state(error),
            **_line_of(error, migration.text),
        ) from error


def _line_of(error: psycopg.Error, text: str) -> dict[str, int]:
    """Return the number of the failed line, counted from 1, or nothing if the error came from a running statement."""
    position = error.diag.statement_position
    return {} if position is None else {"line": text.count("\n", 0, int(position) - 1) + 1}


def _state(error: psycopg.Error) -> str:
    return error.sqlstate or "none"
