"""Writes the files of `supabase/migrations`, for developers of the schema.

`supabase/schemas` is the complete current schema. Until the first release, one generated migration contains the
whole schema. After the first release, each change of the schema also needs a migration, which a person writes.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from app.errors import InvalidInput
from app.postgres.access_policies import MIGRATIONS_DIRECTORY
from app.postgres.migrations import list_migrations

SCHEMAS_DIRECTORY: Final = MIGRATIONS_DIRECTORY.parent / "schemas"
INITIAL: Final = "20261201000000_initial.sql"

_VERSION: Final = "%Y%m%d%H%M%S"
_HEAD: Final = """\
-- The whole schema. `make migration` generates this file from supabase/schemas: edit those files, not this one.
--
-- It grants nobody anything. Access is in policies/access, and `resguardo migrate` applies it at every run.
"""
_NEW: Final = """\
-- Say here what changes, and why.
--
-- Change supabase/schemas first. Then write here the statements that bring a database of the migrations before this one
-- to that schema. tests/migrations/test_schemas.py prints what is still missing. Do not grant anything: access is in
-- policies/access.
"""


def initial_migration(schemas: Path = SCHEMAS_DIRECTORY) -> str:
    """Return the text of the only migration until the first release: all schema files, in the order of their
    numbers. Raises InvalidInput (migrations_missing) if there are no schema files, as in an installed wheel.
    """
    paths = sorted(schemas.glob("*.sql"))
    if not paths:
        raise InvalidInput("migrations_missing")
    return _HEAD + "".join(f"\n\n-- {path.name}\n\n{path.read_text(encoding='utf-8')}" for path in paths)


def write_new_migration(
    name: str, now: datetime, directory: Path = MIGRATIONS_DIRECTORY, schemas: Path = SCHEMAS_DIRECTORY
) -> Path:
    """Writes an empty migration file with the next version, and returns the file's path.

    The version is the current time, or one second after the newest existing version if that is later. Raises
    InvalidInput if a migration file has a wrong name, and InvalidInput (migrations_missing) if there are no schema
    files, as in an installed wheel.
    """
    if not schemas.is_dir():
        raise InvalidInput("migrations_missing")
    versions = [
        datetime.strptime(each.version, _VERSION).replace(tzinfo=UTC) for each in list_migrations(directory)
    ]
    version = max([now.astimezone(UTC), *(newest + timedelta(seconds=1) for newest in versions)])
    path = directory / f"{version.strftime(_VERSION)}_{name}.sql"
    path.write_text(_NEW, encoding="utf-8")
    return path
