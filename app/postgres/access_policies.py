"""Reads the files of `policies/access`, which define the complete access to every table and function.

Only `resguardo migrate` applies the access policies, at every run. The database stores the version of the files,
and every audit row contains this version.
"""

import hashlib
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from app.packaged import repository_path
from app.postgres.owner import as_owner

ACCESS_DIRECTORY = repository_path("policies/access")
MIGRATIONS_DIRECTORY = repository_path("supabase/migrations")

_VERSION = """\
create or replace function private.policy_version() returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return '{version}';
end
$$;
"""
_IS_APPLIED = "select to_regprocedure('private.policy_version()') is not null"


def access_version(directory: Path = ACCESS_DIRECTORY) -> str:
    """Return the version of the access policies: the first 16 hex digits of the SHA-256 over the names and contents
    of the files.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.sql")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def access_sql(directory: Path = ACCESS_DIRECTORY) -> str:
    """Return the SQL statements that set all access rights. The statements can run again without changing anything."""
    files = [path.read_text(encoding="utf-8").strip() for path in sorted(directory.glob("*.sql"))]
    return "\n\n".join([_VERSION.format(version=access_version(directory)).strip(), *files]) + "\n"


def apply_access(owner_url: str) -> tuple[str, ...]:
    """Set all access rights in one transaction, as the owner, and store a seal of these rights. If the access
    rights later differ from the seal, a migration or a person has changed the rights.

    Like a migration, the call waits until no open transaction uses the tables. Returns how the rights differed from
    the previous seal. The seal also covers the current bodies of the database functions.
    """
    with as_owner(owner_url) as connection:
        changed = _changed(connection)
        connection.execute(access_sql().encode())
        connection.execute("select private.seal_access()")
    return changed


def _changed(connection: psycopg.Connection) -> tuple[str, ...]:
    if not _value(connection, _IS_APPLIED):
        return ()
    return tuple(_value(connection, "select changed from private.access_standing()") or ())


def _value(connection: psycopg.Connection, statement: LiteralString) -> Any:
    row = connection.execute(statement).fetchone()
    return None if row is None else row[0]
