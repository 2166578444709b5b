"""`resguardo policies`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from app import settings
from app.bucket.clients import open_bucket_clients
from app.bucket.drifts import Inspection
from app.bucket.rule_plan import PartPlan, Sign
from app.bucket.service import BucketPolicies
from app.commands.console import out, report_refusals
from app.deployment import require_own_bucket, require_own_database
from app.errors import Conflict
from app.integrations import vendor_clients
from app.postgres.database import Database
from app.settings import WorkerSettings

T = TypeVar("T")
Prune = Annotated[bool, typer.Option("--prune", help="Foreign rules go, too; locks of holds stay.")]

commands = typer.Typer(
    no_args_is_help=True, help="Who may do what, and what the bucket does by itself: the files of policies/."
)

_COLOURS = {Sign.ADD: "green", Sign.CHANGE: "yellow", Sign.REMOVE: "red", Sign.FOREIGN: "magenta"}


@commands.command("plan")
def plan_bucket(prune: Prune = False) -> None:
    """Show how the bucket's rules differ from policies/bucket. In the output, + means added, ~ changed, - removed,
    and ! not ours and therefore kept.

    Uses the worker's settings.
    """
    with report_refusals():
        _print_plan(_run(lambda bucket: bucket.plan(prune=prune)))


@commands.command("apply")
def apply_bucket(
    prune: Prune = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before changing anything.")] = False,
) -> None:
    """Change the bucket's rules to those in policies/bucket, as `plan` shows. The command asks for confirmation
    first, and is safe to repeat.
    """

    async def apply(bucket: BucketPolicies) -> bool:
        shown = await bucket.plan(prune=prune)
        _print_plan(shown)
        if all(part.is_unread for part in shown):
            raise Conflict("bucket_keys_missing")
        if not any(part.has_changes for part in shown):
            return False
        if not yes and not await asyncio.to_thread(typer.confirm, "Change the bucket like this?"):
            raise typer.Exit(1)
        await bucket.apply(shown, prune=prune)
        return True

    with report_refusals():
        out.print("[green]applied[/]" if _run(apply) else "nothing to change")


@commands.command("check")
def check_drift() -> None:
    """Check at once for differences from the policies, as the worker does every hour. The exit code is 1 if there
    is a difference from the policies.

    The command checks bucket rules, public addresses, unfinished uploads, held objects, and the rights in the
    database.
    """
    with report_refusals():
        inspection = _run(lambda bucket: bucket.inspect())
        _print_differences(inspection)
        raise typer.Exit(1 if inspection.drifts else 0)


def _print_plan(parts: Sequence[PartPlan]) -> None:
    for part in parts:
        if part.is_unread:
            why = "no key for it" if part.is_offered else "this S3 server does not offer it (docs/s3.md)"
            out.print(f"[yellow]? {part.part.value}: not compared, {why}[/]")
        for line in part.lines:
            out.print(f"[{_COLOURS[line.sign]}]{escape(str(line))}[/]")
    if not any(part.lines for part in parts):
        out.print("no differences")


def _print_differences(inspection: Inspection) -> None:
    for drift in inspection.drifts:
        out.print(f"[red]✗[/] {escape(str(drift))}")
    for topic, reason in inspection.unchecked.items():
        out.print(f"[yellow]?[/] {topic.value}: not checked: {reason}")
    for topic in inspection.checked:
        if not any(drift.topic is topic for drift in inspection.drifts):
            out.print(f"[green]✓[/] {topic.value}")


def _run(work: Callable[[BucketPolicies], Awaitable[T]]) -> T:
    async def work_with_bucket() -> T:
        async with _open_bucket(settings.load(WorkerSettings)) as bucket:
            return await work(bucket)

    return asyncio.run(work_with_bucket())


@asynccontextmanager
async def _open_bucket(loaded: WorkerSettings) -> AsyncIterator[BucketPolicies]:
    """Yield the service that manages the rules of this deployment's bucket. Raises an error if the bucket belongs
    to a different deployment.
    """
    database = Database(
        loaded.worker_database_url.get_secret_value(), application="resguardo-policies", max_size=4
    )
    storage = vendor_clients.make_worker_storage(loaded)
    try:
        await database.open()
        await require_own_database(database, loaded.deployment)
        await require_own_bucket(storage, loaded.deployment)
        async with open_bucket_clients(loaded, storage) as clients:
            yield BucketPolicies(database, clients)
    finally:
        storage.close()
        await database.close()
