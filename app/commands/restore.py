"""`resguardo restore`: commands for use after the database was restored from a backup."""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app import settings
from app.commands.console import err, out, report_refusals
from app.deletions.restore_check import RestoreReport
from app.settings import WorkerSettings
from app.worker.services import open_services

commands = typer.Typer(no_args_is_help=True, help="After the database was restored from a backup.")


@commands.callback()
def _restore() -> None:
    """Make `check` a subcommand, because Typer drops the name of a command if the program has only one."""


@commands.command("check")
def check_restore(
    repeat: Annotated[bool, typer.Option("--repeat", help="Destroy again what came back.")] = False,
) -> None:
    """Compare the ledger of deletions and the audit log in the bucket with the database.

    The command lists the recordings that the ledger says are destroyed and that the restored database still
    contains. With --repeat, the worker destroys the listed recordings again. With --repeat, the command also finds
    objects that a legal hold has moved to keep/ since the backup.

    If the bucket has leaves of the audit log that the restored database lacks, the command says from which leaf on. The
    worker adopts these leaves when it starts, and needs no command for it.

    The exit code is 1 while the database contains a destroyed recording, or if the ledger has an entry that none of
    our keys signed.
    """
    with report_refusals():
        loaded = settings.load(WorkerSettings)
        report = asyncio.run(compare_ledger(loaded, repeat=repeat))
        differences = asyncio.run(compare_audit_logs(loaded))
    _print_report(report)
    _print_differences(differences)
    raise typer.Exit(0 if report.is_clean else 1)


async def compare_ledger(settings: WorkerSettings, *, repeat: bool) -> RestoreReport:
    """Compare the ledger of deletions in the bucket with the database, once. Raises SettingsError and AppError."""
    async with open_services(settings) as services:
        return await services.restores.run(repeat=repeat)


async def compare_audit_logs(settings: WorkerSettings) -> dict[str, int]:
    """Return, for each audit log that differs from the bucket, the index of the first leaf that differs. Raises
    SettingsError and AppError.
    """
    async with open_services(settings) as services:
        return await services.audit_adoption.find_differences()


def _print_differences(differences: dict[str, int]) -> None:
    for origin, index in differences.items():
        out.print(
            f"[yellow]audit log {origin}: the bucket has other or more leaves from leaf {index} on[/]; the worker "
            "adopts them when it starts"
        )


def _print_report(report: RestoreReport) -> None:
    out.print(f"{report.entries} deletions in the ledger")
    if report.moved:
        out.print(f"{report.moved} objects found where they were moved to after the backup")
    for recording_id in report.undone:
        kind = "signed note " if recording_id in report.notes else ""
        out.print(f"{_describe_fate(recording_id, report)} {kind}{recording_id}")
    for recording_id in report.unknown:
        out.print(f"not known to the database, which is older than the recording: {recording_id}")
    for recording_id in report.foreign:
        err.print(f"[red]not signed with a key of ours, or altered[/] {recording_id}")
    if report.foreign_keys:
        err.print(f"[red]objects in the ledger that are no entries[/] {report.foreign_keys}")
    if not report.is_clean:
        err.print("Next: resguardo restore check --repeat (docs/restore.md)")


def _describe_fate(recording_id: UUID, report: RestoreReport) -> str:
    if recording_id in report.repeated:
        return "[green]destroyed again by the worker[/]"
    if recording_id in report.held:
        return "[yellow]came back, and is held: release the hold first[/]"
    return "[red]came back[/]"
