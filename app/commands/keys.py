"""`resguardo keys`."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app import deployment, settings
from app.commands.console import err, out, refusals_told
from app.db import Database
from app.errors import InvalidInput
from app.keyring import new_key_line
from app.keys import escrow as escrows
from app.keys import service
from app.settings import WorkerSettings

PASSPHRASE = "RESGUARDO_ESCROW_PASSPHRASE"  # noqa: S105 - the name of the variable that holds it

commands = typer.Typer(no_args_is_help=True, help="The root keys, their rotation and their escrow.")


@commands.command("new")
def new_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="Its name, such as 2026-11.")]) -> None:
    """Prints a new root key, to be put first into ROOT_KEYS. It is kept nowhere else."""
    with refusals_told():
        typer.echo(new_key_line(key_id))
        err.print("Put it before the others in ROOT_KEYS, restart every worker, then: resguardo keys rotate.")
        err.print(
            "Write a new escrow before anything is recorded: without its key nothing of it can be read."
        )


@commands.command("rotate")
def rotate_keys() -> None:
    """Wraps every recording's data key by the current root key. Stopped and begun again, it goes on.

    Ends with 1 where a data key could not be opened: the old root keys then have to stay.
    """
    with refusals_told():
        done = asyncio.run(_rotate(settings.load(WorkerSettings)))
        out.print(f"[green]{done.rewrapped}[/] data keys are wrapped by the current root key now")
        for recording_id in done.unreadable:
            out.print(f"[red]✗[/] {recording_id}: no root key here opens its data key")
        if done.unreadable:
            raise typer.Exit(1)
        out.print("Once no worker runs with the old root keys they can be left out of ROOT_KEYS.")
        out.print("Keep the old escrow for as long as a backup of the database is kept.")


@commands.command("escrow")
def write_escrow(file: Annotated[Path, typer.Argument(help="A file that is not there yet.")]) -> None:
    """Writes the root keys and the certificate's signing key under a passphrase.

    It is asked for twice, or read from RESGUARDO_ESCROW_PASSPHRASE; 16 characters at least.
    """
    with refusals_told():
        loaded = settings.load(WorkerSettings)
        passphrase = ask_passphrase(confirm=True)
        made = escrows.Escrow(
            deployment=loaded.deployment,
            made_at=datetime.now(UTC).replace(microsecond=0),
            root_keys=loaded.root_keys.get_secret_value(),
            certificate_signing_key=loaded.certificate_signing_key.get_secret_value(),
            certificate_former_public_keys=loaded.certificate_former_public_keys,
        )
        escrows.write_new(file, escrows.seal(made, passphrase))
        _show(escrows.read(file, passphrase))
        out.print(
            "Keep it and the passphrase apart from each other, and both apart from the database's backups."
        )


@commands.command("check")
def check_escrow(file: Annotated[Path, typer.Argument(help="What `keys escrow` wrote.")]) -> None:
    """Opens an escrow and says whose it is and which keys are in it, never the keys."""
    with refusals_told():
        _show(escrows.read(file, ask_passphrase(confirm=False)))


def ask_passphrase(*, confirm: bool) -> str:
    """From the environment, else from the terminal. Raises InvalidInput (passphrase_short, passphrases_differ)."""
    given = os.environ.get(PASSPHRASE)
    if given is None:
        given = str(typer.prompt("Passphrase", hide_input=True))
        if confirm and typer.prompt("The same again", hide_input=True) != given:
            raise InvalidInput("passphrases_differ")
    if confirm and len(given) < escrows.LEAST_PASSPHRASE:
        raise InvalidInput("passphrase_short", characters=escrows.LEAST_PASSPHRASE)
    return given


def _show(kept: escrows.Escrow) -> None:
    out.print(f"[green]✓[/] escrow of {escape(kept.deployment)}, made {kept.made_at:%Y-%m-%d %H:%M} UTC")
    for number, (key_id, value) in enumerate(kept.keyring.check_values().items()):
        current = ", the current one" if number == 0 else ""
        out.print(f"  root key {escape(key_id)} (check value {value.hex()[:16]}{current})")
    out.print("  the certificate's signing key")


async def _rotate(loaded: WorkerSettings) -> service.Rotation:
    database = Database(
        loaded.worker_database_url.get_secret_value(), application="resguardo-keys", max_size=2
    )
    columns = (TextColumn("rotating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        shown = progress.add_task("rotating", total=None)
        try:
            await database.open()
            await deployment.require_own_database(database, loaded.deployment)
            return await service.rotate(
                database,
                loaded.keyring,
                on_progress=lambda done, total: progress.update(shown, completed=done, total=total),
            )
        finally:
            await database.close()
