"""`resguardo drill`."""

import json
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import settings
from app.commands.checkout import load_devstack
from app.commands.console import out, report_refusals
from app.commands.keys import ask_passphrase
from app.drill import service as drills
from app.drill.model import LIMIT_HOURS, DrillReport, Step
from app.settings import BucketWriterSettings

_SAID = {
    "audit_checkpoint_missing": "the bucket lacks the newest checkpoint that was published before the dump",
    "audit_checkpoint_differs": "the bucket has another root for the newest checkpoint in the dump",
    "database_error": "the restored database does not answer as one of ours",
    "database_of_another_deployment": "the dump is another practice's",
    "database_of_pre_release": "the dump is of a version of before the first release, which cannot be upgraded",
    "database_unmarked": "the dump bears no deployment's mark",
    "dump_truncated": "the dump ends too early",
    "escrow_of_another_deployment": "the escrow is another practice's",
    "escrow_unreadable": "the passphrase is not the one it was written with, or the file was altered",
    "data_key_wrong": "its data key cannot be opened with the escrow's root key",
    "root_key_missing": "the escrow lacks this root key: write a new one after each `keys new`",
    "root_key_unknown": "the escrow lacks the root key of its data key",
    "root_key_wrong": "the escrow has another key under this name",
    "not_restored": "an error while it was restored",
    "object_missing": "the bucket has no such object",
    "object_size_differs": "the object has another size",
    "object_digest_differs": "the object is not what was recorded: its SHA-256 differs",
    "ledger_entry_foreign": "an entry of the ledger was not signed by us, or altered",
    "transition_not_logged": "the audit log does not say how it came to be READY",
}

commands = typer.Typer(no_args_is_help=True, help="Whether the backups can be restored, tried.")


@commands.callback()
def _commands() -> None:
    """Make `restore` a subcommand, because Typer drops the name of a command if the program has only one."""


@commands.command("restore")
def restore(
    dump: Annotated[Path, typer.Option(help="What pg_dump wrote, in custom or plain format.")],
    escrow: Annotated[Path, typer.Option(help="What `resguardo keys escrow` wrote.")],
    sample: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many recordings are compared with their hashes.")
    ] = drills.DEFAULT_SAMPLE,
    report: Annotated[
        Path | None, typer.Option(help="Write what was found to this file, which is not there yet.")
    ] = None,
) -> None:
    """Restore a dump into a new Postgres on this machine, with the keys from the escrow file, and remove the
    restored data afterwards.

    For a random sample of recordings, the command compares each object in the bucket with its hash in the dump. The
    command reads the bucket that the settings name (DEPLOYMENT, R2_...) and writes nothing to this bucket.

    The exit code is 0 if every check passed, and 1 if one failed.
    """
    restorer = load_devstack("restoring", command="resguardo drill")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with report_refusals():
        loaded = settings.load(BucketWriterSettings)
        if report is not None and report.exists():
            raise typer.BadParameter("the file is there already", param_hint="--report")
        order = drills.DrillOrder(dump, escrow, ask_passphrase(confirm=False), sample)
        made = _run_with_progress(loaded, order, restorer)
    if report is not None:
        report.write_text(json.dumps(made.as_json(), indent=2) + "\n", encoding="utf-8")
    _print_result(made)
    raise typer.Exit(0 if made.is_ok else 1)


def _run_with_progress(
    loaded: BucketWriterSettings, order: drills.DrillOrder, restorer: drills.Restorer
) -> DrillReport:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        shown = progress.add_task("", total=None)

        def end(step: Step) -> None:
            progress.console.print(_format_step(step))

        return drills.run_drill(
            loaded,
            order,
            drills.DrillProgress(
                on_begin=lambda name: progress.reset(shown, description=name, total=None),
                on_end=end,
                on_checked=lambda done, total: progress.update(shown, completed=done, total=total),
            ),
            restorer,
        )


def _format_step(step: Step) -> str:
    mark = "[green]✓[/]" if step.is_ok else "[red]✗[/]"
    found = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in step.found.items())
    lines = [f"{mark} {step.name:<20} {step.seconds:8.1f} s  {escape(found)}"]
    for one in step.problems:
        said = _SAID.get(one.reason, one.reason.replace("_", " "))
        lines.append(f"    {escape(one.about + ': ' if one.about else '')}{escape(said)} ({one.reason})")
    return "\n".join(lines)


def _print_result(made: DrillReport) -> None:
    word = "within" if made.is_within_limit else "[red]beyond[/]"
    out.print(
        f"drill: {'ok' if made.is_ok else 'FAILED'}, {made.seconds:.1f} s, {word} the {LIMIT_HOURS} h of the proposed "
        "rule (NPRM 90 FR 898); nothing of what was restored is left"
    )
