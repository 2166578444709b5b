"""`resguardo retention`."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from app import deployment, settings
from app.commands.console import out, report_refusals
from app.postgres.database import Database
from app.retention.model import Change, KeptPolicy, Preview
from app.retention.proposals import RETENTION_FILE, Proposal, Proposals, read_policy_file
from app.settings import OwnerSettings

commands = typer.Typer(no_args_is_help=True, help="What is kept how long: policies/retention.toml.")
T = TypeVar("T")


@commands.command("propose")
def propose(
    file: Annotated[Path, typer.Argument(help="The policy to propose.")] = RETENTION_FILE,
) -> None:
    """Propose a retention policy to the compliance officers, as the owner. The command shows which terms the policy
    changes and how many recordings the worker will delete under the policy in each month.
    """
    with report_refusals():
        source = read_policy_file(file)
        _print_proposal(_run(lambda proposals: proposals.propose(source)))


@commands.command("show")
def show() -> None:
    """Show the policy in force and the proposed policies, as the owner."""
    with report_refusals():
        standing = _run(lambda proposals: proposals.list_open_policies())
        for kept in standing:
            _print_policy(kept)
        if not standing:
            out.print("no policy is in force, and none is proposed: nothing is ever due")


def _run(act: Callable[[Proposals], Awaitable[T]]) -> T:
    return asyncio.run(_run_as_owner(settings.load(OwnerSettings), act))


async def _run_as_owner(loaded: OwnerSettings, act: Callable[[Proposals], Awaitable[T]]) -> T:
    database = Database(loaded.database_url.get_secret_value(), application="resguardo-retention", max_size=1)
    try:
        await database.open()
        await deployment.require_own_database(database, loaded.deployment)
        return await act(Proposals(database))
    finally:
        await database.close()


def _print_proposal(proposal: Proposal) -> None:
    out.print(f"[green]proposed[/] {proposal.kept.id} {escape(proposal.kept.policy.name)}")
    if proposal.active is None:
        out.print("no policy is in force: this would be the first")
    elif not proposal.changes:
        out.print(f"no term differs from those of {escape(proposal.active.policy.name)}")
    for change in proposal.changes:
        out.print(f"  {_describe_change(change)}")
    _print_preview(proposal.preview)
    out.print(
        f"{2 if proposal.kept.shortens else 1} compliance officer(s) must approve it: approveRetentionPolicy"
    )


def _describe_change(change: Change) -> str:
    before, after = ("none" if term is None else term for term in (change.before, change.after))
    return f"{change.place}: {before} -> {after}" + (" [bold red]shorter[/]" if change.is_shorter else "")


def _print_preview(preview: Preview) -> None:
    if not preview.months:
        out.print("it leaves alone what is recorded already")
    for month in preview.months:
        out.print(
            f"  {month.month:%Y-%m}: {month.recordings} recordings, {month.size_bytes} bytes, "
            f"{month.sooner} sooner than today, {month.held} held, "
            f"{month.notes} signed notes, {month.held_notes} held"
        )
    if preview.earliest_due_at is not None:
        out.print(f"the first would be due on {preview.earliest_due_at:%Y-%m-%d %H:%M} UTC")


def _print_policy(kept: KeptPolicy) -> None:
    policy = kept.policy
    out.print(f"{kept.status} {kept.id} {escape(policy.name)}, {len(kept.approved_by)} approval(s)")
    for kind in (None, *sorted(policy.kinds)):
        terms = policy.terms_of(kind)
        out.print(
            f"  {kind or 'default'}: recordings {terms.recording_days} days, "
            f"signed notes {terms.signed_note_days} days"
        )
    if policy.minors_until_age_years is not None:
        out.print(f"  minors: until {policy.minors_until_age_years} years of age")
    out.print(f"  a deletion can be undone for {policy.grace_days} days")
