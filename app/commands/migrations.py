"""The commands `resguardo migrations`, for developers of the database schema."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.commands.checkout import require_schemas
from app.commands.console import out, report_refusals
from app.postgres.access_policies import MIGRATIONS_DIRECTORY
from app.postgres.migration_files import INITIAL, SCHEMAS_DIRECTORY, initial_migration, write_new_migration
from app.postgres.migrations import list_migrations

commands = typer.Typer(
    no_args_is_help=True, help="The files of supabase/migrations, for developers of the schema."
)


def _slug(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,79}", name):
        raise typer.BadParameter("use lowercase letters, digits and underscores, and begin with a letter")
    return name


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(callback=_slug, help="What the migration does, as in add_rooms.")],
) -> None:
    """Writes an empty migration file with the next version number. The developer then writes the change of
    supabase/schemas into the new file.
    """
    require_schemas(SCHEMAS_DIRECTORY, command="resguardo migrations")
    with report_refusals():
        out.print(str(write_new_migration(name, datetime.now(UTC))), soft_wrap=True)


@commands.command("initial")
def initial() -> None:
    """Generates the first migration from supabase/schemas, as long as there is no second migration."""
    require_schemas(SCHEMAS_DIRECTORY, command="resguardo migrations")
    with report_refusals():
        text = initial_migration()
        if [migration.path.name for migration in list_migrations(MIGRATIONS_DIRECTORY)] not in (
            [],
            [INITIAL],
        ):
            raise typer.BadParameter("databases already have it: use `resguardo migrations new NAME`")
        (MIGRATIONS_DIRECTORY / INITIAL).write_text(text, encoding="utf-8")
