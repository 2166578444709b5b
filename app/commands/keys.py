"""`resguardo keys`."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app import deployment, settings
from app.commands.console import err, out, report_refusals
from app.errors import InvalidInput
from app.keys import escrow as escrows
from app.keys import service
from app.keys.keyring import Keyring, new_key_line
from app.postgres.database import Database
from app.settings import WorkerSettings

T = TypeVar("T")
PASSPHRASE = "RESGUARDO_ESCROW_PASSPHRASE"  # noqa: S105 - the name of the variable that holds it

commands = typer.Typer(no_args_is_help=True, help="The root keys, their rotation and their escrow.")


@commands.command("new")
def new_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="Its name, such as 2026-11.")]) -> None:
    """Print a new root key. The operator must put the new key first in the setting ROOT_KEYS. The command does not
    store the new root key.
    """
    with report_refusals():
        typer.echo(new_key_line(key_id))
        err.print("Put it before the others in ROOT_KEYS, restart every worker, then: resguardo keys rotate.")
        err.print(
            "Write a new escrow before anything is recorded: without its key nothing of it can be read."
        )


@commands.command("status")
def show_status() -> None:
    """Show how many keys each root key wraps, and which root keys may be removed from ROOT_KEYS.

    The exit code is 1 if ROOT_KEYS lacks a root key that is still needed, or has a different key under that root
    key's name.
    """
    with report_refusals():
        loaded = settings.load(WorkerSettings)
        counted = asyncio.run(_run_with_database(loaded, lambda database, _: service.count_keys(database)))
        for key_id in dict.fromkeys((*loaded.keyring.ids, *(one.root_key_id for one in counted))):
            _print_root_key(key_id, loaded.keyring, [one for one in counted if one.root_key_id == key_id])
        asyncio.run(_run_with_database(loaded, service.require_root_keys))


@commands.command("rotate")
def rotate_keys() -> None:
    """Wrap the data key of every recording and patient, and the word index's key, with the current root key. A
    second call continues.

    The exit code is 1 if a key could not be unwrapped. The old root keys must stay in ROOT_KEYS until the current
    root key wraps every key.
    """
    with report_refusals():
        done = asyncio.run(_rotate(settings.load(WorkerSettings)))
        out.print(f"[green]{done.rewrapped}[/] data keys are wrapped by the current root key now")
        for recording_id in done.unreadable:
            out.print(f"[red]✗[/] {recording_id}: no root key here opens its data key")
        for patient_id in done.unreadable_patients:
            out.print(f"[red]✗[/] patient {patient_id}: no root key here opens the data key")
        if done.is_word_index_unreadable:
            out.print("[red]✗[/] the word index: no root key here opens its key")
        if not done.is_complete:
            raise typer.Exit(1)
        out.print("Once no worker runs with the old root keys they can be left out of ROOT_KEYS.")
        out.print("Keep the old escrow for as long as a backup of the database is kept.")


@commands.command("escrow")
def write_escrow(file: Annotated[Path, typer.Argument(help="A file that is not there yet.")]) -> None:
    """Write the root keys and the certificates' signing key into a file, encrypted with a passphrase.

    The command asks for the passphrase twice, or reads it from RESGUARDO_ESCROW_PASSPHRASE. The passphrase must
    have at least 16 characters.
    """
    with report_refusals():
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
        _print_escrow(escrows.read(file, passphrase))
        out.print(
            "Keep it and the passphrase apart from each other, and both apart from the database's backups."
        )


@commands.command("check")
def check_escrow(file: Annotated[Path, typer.Argument(help="What `keys escrow` wrote.")]) -> None:
    """Open an escrow file and show its deployment and the names of its keys, never the keys."""
    with report_refusals():
        _print_escrow(escrows.read(file, ask_passphrase(confirm=False)))


def ask_passphrase(*, confirm: bool) -> str:
    """Return the passphrase from the environment, or ask for it in the terminal. Raises InvalidInput
    (passphrase_short, passphrases_differ).
    """
    given = os.environ.get(PASSPHRASE)
    if given is None:
        given = str(typer.prompt("Passphrase", hide_input=True))
        if confirm and typer.prompt("The same again", hide_input=True) != given:
            raise InvalidInput("passphrases_differ")
    if confirm and len(given) < escrows.LEAST_PASSPHRASE:
        raise InvalidInput("passphrase_short", characters=escrows.LEAST_PASSPHRASE)
    return given


def _print_escrow(kept: escrows.Escrow) -> None:
    out.print(f"[green]✓[/] escrow of {escape(kept.deployment)}, made {kept.made_at:%Y-%m-%d %H:%M} UTC")
    for number, (key_id, value) in enumerate(kept.keyring.check_values().items()):
        current = ", the current one" if number == 0 else ""
        out.print(f"  root key {escape(key_id)} (check value {value.hex()[:16]}{current})")
    out.print("  the certificate's signing key")


def _print_root_key(key_id: str, keyring: Keyring, wrapped: list[service.KeyCount]) -> None:
    """Print one line about a root key: whether it is configured, and how many keys it wraps."""
    kinds = {
        "recording": "recordings' data keys",
        "patient": "patients' data keys",
        "word_index": "key of the word index",
    }
    told = ", ".join(f"{one.count} {kinds[one.kind]}" for one in wrapped) or "wraps nothing"
    if key_id not in keyring.ids:
        out.print(f"[red]✗[/] {escape(key_id)} (not in ROOT_KEYS): {told}")
    elif key_id == keyring.current_id:
        out.print(f"[green]✓[/] {escape(key_id)} (the current one): {told}")
    else:
        advice = "rotate" if wrapped else "may leave ROOT_KEYS"
        out.print(f"[yellow]·[/] {escape(key_id)}: {told} ({advice})")


async def _rotate(loaded: WorkerSettings) -> service.Rotation:
    columns = (TextColumn("rotating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        shown = progress.add_task("rotating", total=None)
        return await _run_with_database(
            loaded,
            partial(
                service.rotate,
                on_progress=lambda done, total: progress.update(shown, completed=done, total=total),
            ),
        )


async def _run_with_database(loaded: WorkerSettings, work: Callable[[Database, Keyring], Awaitable[T]]) -> T:
    """Run `work` with the database of this deployment, and refuse another deployment's database."""
    database = Database(
        loaded.worker_database_url.get_secret_value(), application="resguardo-keys", max_size=2
    )
    try:
        await database.open()
        await deployment.require_own_database(database, loaded.deployment)
        return await work(database, loaded.keyring)
    finally:
        await database.close()
