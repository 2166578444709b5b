"""`resguardo evidence`: writes a folder that an auditor can read offline."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app import deployment, settings
from app.commands.audit import covered_years, policy_of
from app.commands.console import err, out, report_refusals
from app.evidence.files import LogInBucket, LogInFolder, PublishedLog
from app.evidence.model import Pack, Range
from app.evidence.sections import OnProgress
from app.evidence.service import EvidenceOrder, EvidencePacks
from app.integrations import vendor_clients
from app.postgres.database import Database
from app.settings import WorkerSettings

_DAYS = ["%Y-%m-%d"]


def make_evidence(
    since: Annotated[datetime, typer.Option(formats=_DAYS, help="The first day, in UTC.")],
    until: Annotated[datetime, typer.Option(formats=_DAYS, help="The day after the last day, in UTC.")],
    to: Annotated[Path, typer.Option(help="The folder to write, which must not exist.")],
    drill: Annotated[
        list[Path] | None,
        typer.Option(help="A report of `resguardo drill restore`.", exists=True, dir_okay=False),
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="A folder with a copy of a bucket, instead of the bucket.", exists=True, file_okay=False
        ),
    ] = None,
) -> None:
    """Write an evidence pack: policies, coverage of the audit log, reviews, attestations, breach assessments,
    sanctions, drills, certificates, checkpoints and the verifier, with an index that cites the rule of each part.

    The pack has ids and no other data of patients. The audit log records the export and the digest of the pack.
    """
    wanted = Range(since.replace(tzinfo=UTC), until.replace(tzinfo=UTC))
    if wanted.since >= wanted.until:
        raise typer.BadParameter("it must be after --since", param_hint="--until")
    with report_refusals(), _progress_bar() as on_progress:
        loaded = settings.load(WorkerSettings)
        pack = asyncio.run(_make(loaded, EvidenceOrder(wanted, to, tuple(drill or ())), tiles, on_progress))
    _print_pack(to, pack)


def _print_pack(folder: Path, pack: Pack) -> None:
    for section in pack.sections:
        out.print(f"{escape(section.title)}: {escape(section.sentence)}")
    out.print(f"written: {escape(str(folder))}, {pack.file_count} files, {pack.size_bytes} bytes")
    out.print(f"SHA-256 of manifest.json: {pack.sha256}")
    if not pack.is_sealed:
        err.print(
            "The event that records this pack is not sealed or not cosigned yet. Is the worker running?"
        )


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        shown = progress.add_task("", total=None)
        yield lambda name, done, total: progress.update(shown, description=name, completed=done, total=total)


async def _make(
    loaded: WorkerSettings, order: EvidenceOrder, tiles: Path | None, on_progress: OnProgress
) -> Pack:
    database = Database(
        loaded.worker_database_url.get_secret_value(), application="resguardo-evidence", max_size=2
    )
    with ExitStack() as stack:
        log: PublishedLog
        if tiles is None:
            storage = vendor_clients.make_worker_storage(loaded)
            stack.callback(storage.close)
            log = LogInBucket(storage)
        else:
            log = LogInFolder(tiles)
        try:
            await database.open()
            await deployment.require_own_database(database, loaded.deployment)
            packs = EvidencePacks(
                database,
                log,
                deployment=loaded.deployment,
                policy=policy_of(loaded, covered_years()).format(),
            )
            return await packs.make(order, on_progress)
        finally:
            await database.close()
