"""`resguardo fetches`."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app import settings
from app.commands.console import out, report_refusals
from app.deployment import require_own_database
from app.fetches.model import LARGEST_LINE_BYTES
from app.fetches.service import FetchLogs, ImportedLog
from app.postgres.database import Database
from app.settings import WorkerSettings

commands = typer.Typer(
    no_args_is_help=True, help="The bucket's access log beside the issued URLs: docs/fetches.md."
)


@commands.command("import")
def import_logs(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Files with one JSON event a line.")
    ],
) -> None:
    """Import files of R2's Data Access Logs, and report reads for which no URL was issued. Safe to repeat.

    Uses the worker's settings. Exits with 1 if there are such reads.
    """
    with report_refusals():
        found = asyncio.run(_import(settings.load(WorkerSettings), files))
    for path, done in zip(files, found, strict=True):
        period = (
            f"{done.first_at:%Y-%m-%d %H:%M}Z to {done.last_at:%Y-%m-%d %H:%M}Z"
            if done.first_at
            else "no event"
        )
        out.print(
            f"{path.name}: {done.line_count} lines, {done.unreadable_count} unreadable, {period}, "
            f"{done.fetch_count} reads, {done.finding_count} without an issued URL"
        )
    if any(done.finding_count for done in found):
        out.print("The query `objectFetches` lists the reads without an issued URL.")
        raise typer.Exit(1)


async def _import(loaded: WorkerSettings, files: list[Path]) -> list[ImportedLog]:
    database = Database(
        loaded.worker_database_url.get_secret_value(), application="resguardo-fetches", max_size=1
    )
    try:
        await database.open()
        await require_own_database(database, loaded.deployment)
        logs = FetchLogs(database, bucket=loaded.r2_bucket_name, own_key=loaded.r2_access_key_id)
        done = []
        for path in files:
            with path.open("rb") as file:
                done.append(
                    await logs.import_lines(iter(partial(file.readline, LARGEST_LINE_BYTES + 1), b""))
                )
        return done
    finally:
        await database.close()
