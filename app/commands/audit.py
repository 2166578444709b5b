"""`resguardo audit`: verifies the audit log, and makes its receipts, keys and policy."""

import asyncio
import json
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app import deployment, settings
from app.audit.verification import receipts
from app.audit.verification.checkpoints import compose_origin, make_policy, parse_policy
from app.audit.verification.model import Finding, Report
from app.audit.verification.published import Published, PublishedBucket, PublishedFolder
from app.audit.verification.receipts import Receipt
from app.audit.verification.redaction import RedactionReason, redact
from app.audit.verification.service import Progress as OnProgress
from app.audit.verification.service import VerificationOrder, verify
from app.audit.verification.store import SealedRows
from app.commands.console import err, out, report_refusals
from app.integrations import vendor_clients
from app.integrations.witness.client import Witness
from app.postgres.database import Database
from app.settings import OwnerSettings, WorkerSettings
from app.transparency_log.checkpoints import SEED_BYTES, Ed25519Signer
from app.transparency_log.policies import Policy

FIRST_YEAR = 2026
"""The first year that has a partition of audit.events."""

_MOST_SHOWN = 20
_MOST_BYTES = 1_000_000

commands = typer.Typer(
    no_args_is_help=True, help="The audit log: verification, receipts, redaction and keys."
)


@commands.command("verify")
def verify_log(
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="A folder with a copy of a bucket, instead of the bucket.", exists=True, file_okay=False
        ),
    ] = None,
    database: Annotated[bool, typer.Option(help="Read the database.")] = True,
    bucket: Annotated[bool, typer.Option(help="Read the buckets of the settings.")] = True,
    policy: Annotated[
        Path | None,
        typer.Option(help="A policy (tlog-policy), instead of the settings'.", exists=True, dir_okay=False),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="A checkpoint that you kept from an earlier verification.", exists=True, dir_okay=False
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the findings as JSON to this file.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on a notice, too: for a run whose notices nobody reads.")
    ] = False,
) -> None:
    """Verify the audit log: the database and the published tiles and checkpoints against each other.

    Each finding has a name, a sentence, and the indexes or ids that it concerns. The exit code is 0 if nothing is
    wrong, and 1 if a finding is a failure. A notice, such as a recorded redaction, is a failure only with `--strict`:
    a superuser can write the event that records it, so a person must confirm each notice.

    `--no-database --tiles FOLDER --policy FILE` needs neither settings nor a network.
    """
    with report_refusals():
        given = None if policy is None else parse_policy(_read(policy))
        kept = [_read(path) for path in checkpoint or ()]
        is_offline = not database and (tiles is not None or not bucket) and given is not None
        loaded = None if is_offline else settings.load(WorkerSettings)
        with _progress_bar() as on_progress:
            found = asyncio.run(
                _verify(loaded, given, tiles, kept, on_progress, with_database=database, with_bucket=bucket)
            )
    if report is not None:
        report.write_text(json.dumps(found.as_json(), indent=2) + "\n", encoding="utf-8")
    for line in describe_report(found, is_strict=strict):
        out.print(line)
    raise typer.Exit(0 if _is_passed(found, is_strict=strict) else 1)


@commands.command("receipt")
def write_receipt(
    event: Annotated[UUID, typer.Argument(metavar="EVENT", help="The id of the audit event.")],
    to: Annotated[Path, typer.Option(help="The folder to write to.", exists=True, file_okay=False)] = Path(),
) -> None:
    """Write the receipt of an event: EVENT.tlog-proof, which proves that the log contains the event, and EVENT.json,
    the event itself.

    `tools/verify_audit.py` verifies a receipt offline. Whoever has the receipt can read the event.
    """
    with report_refusals():
        made = asyncio.run(_make_receipt(settings.load(WorkerSettings), event))
    for extension, content in (
        (receipts.PROOF_EXTENSION, made.proof),
        (receipts.EVENT_EXTENSION, made.event),
    ):
        path = to / f"{event}{extension}"
        try:
            with path.open("xb") as file:
                file.write(content)
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}") from None
        out.print(f"written: {escape(str(path))}")
    out.print(f"index {made.index} of {made.size} in {escape(made.origin)}")
    if not made.is_published:
        out.print(
            "Its checkpoint is not published yet, so no witness has cosigned it. Repeat the command later."
        )


@commands.command("policy")
def print_policy(
    years: Annotated[int, typer.Option(min=1, max=20, help="How many years to cover from 2026 on.")] = 20,
) -> None:
    """Print the policy with which anyone verifies this deployment's audit log offline (C2SP tlog-policy): the keys of
    the logs, the earlier keys, and the witnesses.
    """
    with report_refusals():
        loaded = settings.load(WorkerSettings)
        typer.echo(policy_of(loaded, range(FIRST_YEAR, FIRST_YEAR + years)).format(), nl=False)


@commands.command("new-key")
def make_key(
    name: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="The name of the deployment.")] = "",
) -> None:
    """Print a new seed for AUDIT_SIGNING_KEY, and with DEPLOYMENT also the verifier key of this year's log. Stores
    nothing.
    """
    seed = secrets.token_bytes(SEED_BYTES)
    typer.echo(f"AUDIT_SIGNING_KEY={b64encode(seed).decode()}")
    if name:
        origin = compose_origin(name, datetime.now(UTC).year)
        typer.echo(f"# {Ed25519Signer.from_seed(origin, seed).verifier_key.format()}")
    err.print("Before you replace a key: put the `log` keys that `resguardo audit policy` prints into")
    err.print("AUDIT_FORMER_KEYS, and give auditors the new policy. A lost key needs no more than that.")


@commands.command("redact")
def redact_event(
    event: Annotated[UUID, typer.Argument(metavar="EVENT", help="The id of the audit event.")],
    reason: Annotated[RedactionReason, typer.Option(help="Why the event is redacted.")],
) -> None:
    """Clear what a sealed event says about people, as the owner of the database (DATABASE_URL). This cannot be undone.

    The leaf of the event stays, so every proof stays valid. An event audit_log.redact records the redaction, and
    `resguardo audit verify` lists it as a notice.
    """
    with report_refusals():
        is_new = asyncio.run(_redact(settings.load(OwnerSettings), event, reason))
    out.print(f"[green]redacted[/] {event}" if is_new else f"{event} was redacted before")


def policy_of(loaded: WorkerSettings, years: Sequence[int]) -> Policy:
    """Return the policy of the settings."""
    return make_policy(
        loaded.deployment,
        years,
        loaded.audit_seed,
        [key.format() for key in loaded.former_log_keys],
        loaded.audit_witness_key,
    )


def covered_years() -> range:
    """Return the years whose logs a verification reads: those up to the next one, because a clock can be ahead."""
    return range(FIRST_YEAR, datetime.now(UTC).year + 2)


def _is_passed(report: Report, *, is_strict: bool) -> bool:
    return not report.findings if is_strict else report.is_clean


def describe_report(report: Report, *, is_strict: bool = False) -> Iterator[str]:
    """Yield the lines that say what a verification found."""
    for log in report.logs:
        sizes = {"database": log.database_size, "published": log.published_size}
        told = ", ".join(f"{name} {size}" for name, size in sizes.items() if size is not None)
        yield f"{escape(log.origin)}: {told}, {log.checkpoints} checkpoints"
    for finding in report.findings:
        yield from _describe_finding(finding)
    failures = sum(finding.is_failure for finding in report.findings)
    notices = len(report.findings) - failures
    if notices:
        yield (
            "[bold yellow]A person must confirm each notice:[/] a superuser can write such an event, too. "
            "Was it wanted, and does a record outside of the database say so?"
        )
    result = "ok" if _is_passed(report, is_strict=is_strict) else "FAILED"
    yield f"audit verify: {result}, failures {failures}, notices {notices}"


def _describe_finding(finding: Finding) -> Iterator[str]:
    mark = "[red]✗[/]" if finding.is_failure else "[bold yellow]NOTICE[/]"
    name = finding.name.value.replace("_", " ")
    where = f" ({escape(finding.log)})" if finding.log else ""
    yield f"{mark} [bold]{name}[/] {finding.count}{where}: {finding.sentence}"
    for place in finding.places[:_MOST_SHOWN]:
        if text := str(place):
            yield f"    {escape(text)}"
    if finding.count > _MOST_SHOWN and len(finding.places) > _MOST_SHOWN:
        yield f"    and {finding.count - _MOST_SHOWN} more: --report FILE lists them"


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        shown = progress.add_task("", total=None)
        yield lambda name, done, total: progress.update(shown, description=name, completed=done, total=total)


async def _verify(
    loaded: WorkerSettings | None,
    policy: Policy | None,
    tiles: Path | None,
    kept: Sequence[bytes],
    on_progress: OnProgress,
    *,
    with_database: bool,
    with_bucket: bool,
) -> Report:
    async with AsyncExitStack() as stack:
        published: list[Published] = [PublishedFolder(tiles)] if tiles is not None else []
        rows = None
        witnesses: tuple[Witness, ...] = ()
        if loaded is not None:
            policy = policy or policy_of(loaded, covered_years())
            if with_bucket and tiles is None:
                published += open_buckets(loaded, stack.enter_context(ExitStack()))
                witnesses = vendor_clients.make_witnesses(loaded)
                for witness in witnesses:
                    stack.push_async_callback(witness.aclose)
            if with_database:
                rows = SealedRows(await stack.enter_async_context(_database(loaded)))
        return await verify(
            VerificationOrder(policy or Policy(()), rows, published, kept, witnesses), on_progress
        )


def open_buckets(loaded: WorkerSettings, stack: ExitStack) -> list[Published]:
    """Return the buckets of the settings that have the audit log. The end of `stack` closes them."""
    first = vendor_clients.make_worker_storage(loaded)
    stack.callback(first.close)
    second = vendor_clients.make_second_audit_storage(loaded)
    if second is None:
        return [PublishedBucket(first)]
    stack.callback(second.close)
    return [PublishedBucket(first), PublishedBucket(second, "the second bucket")]


@asynccontextmanager
async def _database(loaded: WorkerSettings) -> AsyncIterator[Database]:
    database = Database(
        loaded.worker_database_url.get_secret_value(), application="resguardo-audit", max_size=2
    )
    try:
        await database.open()
        await deployment.require_own_database(database, loaded.deployment)
        yield database
    finally:
        await database.close()


async def _make_receipt(loaded: WorkerSettings, event_id: UUID) -> Receipt:
    async with _database(loaded) as database, database.as_service("make_audit_receipt") as tx:
        return await receipts.make_receipt(tx, event_id)


async def _redact(loaded: OwnerSettings, event_id: UUID, reason: RedactionReason) -> bool:
    database = Database(loaded.database_url.get_secret_value(), application="resguardo-audit", max_size=1)
    try:
        await database.open()
        await deployment.require_own_database(database, loaded.deployment)
        return await redact(database, event_id, reason)
    finally:
        await database.close()
