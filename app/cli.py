"""The command line `resguardo`: serve, worker, migrate, check, demo and others."""

import asyncio
import gc
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
import uvicorn
from rich.markup import escape

from app import deployment, settings
from app.commands import (
    agreements,
    audit,
    certificate,
    checks,
    demo,
    drill,
    evidence,
    fetches,
    keys,
    policies,
    restore,
    retention,
    review,
    staff,
    webhooks,
)
from app.commands import migrations as migration_commands
from app.commands.console import (
    exit_without_threads,
    log_to_stderr,
    out,
    report_refusals,
    run_without_messages,
)
from app.commands.reasons import reasons_page
from app.commands.reconcile import reconcile_once
from app.identity import session_macs
from app.integrations import vendor_clients
from app.postgres import access_policies, migrations, temporary_tables
from app.postgres.owner import require_owner_session
from app.retention import proposals
from app.review import proposals as review_proposals
from app.settings import ApiSettings, MigrationSettings, WorkerSettings
from app.worker import process

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.add_typer(policies.commands, name="policies")
cli.add_typer(audit.commands, name="audit")
cli.add_typer(staff.commands, name="staff")
cli.add_typer(restore.commands, name="restore")
cli.add_typer(keys.commands, name="keys")
cli.add_typer(drill.commands, name="drill")
cli.add_typer(certificate.commands, name="certificate")
cli.add_typer(retention.commands, name="retention")
cli.add_typer(agreements.commands, name="agreements")
cli.add_typer(webhooks.commands, name="webhooks")
cli.add_typer(review.commands, name="review")
cli.add_typer(fetches.commands, name="fetches")
cli.add_typer(demo.commands, name="demo")
cli.add_typer(migration_commands.commands, name="migrations")


cli.command(name="evidence")(evidence.make_evidence)


def main() -> None:
    """The entry point."""
    log_to_stderr()
    run_without_messages(cli)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"resguardo {version('resguardo')}")
        raise typer.Exit


@cli.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The recording backend of a telehealth practice."""


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    only_webhooks: Annotated[
        bool,
        typer.Option(
            "--only-webhooks", help="Serve LiveKit's webhook alone, beside another that serves all."
        ),
    ] = False,
) -> None:
    """Run the API."""
    from app.http.metrics import open_listener  # these imports take a second, and no other command needs them
    from app.main import create_app

    with report_refusals():
        loaded = settings.load(ApiSettings)
        asyncio.run(checks.require_own_deployment(loaded))
        has_metrics = loaded.metrics_port != 0 and not only_webhooks
        uvicorn.run(
            create_app(
                loaded,
                only_webhooks=only_webhooks,
                on_open=_exclude_from_garbage_collection,
                metrics_listener=open_listener(loaded.metrics_host, loaded.metrics_port)
                if has_metrics
                else None,
            ),
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            ws_max_size=loaded.body_limit_bytes,
            timeout_graceful_shutdown=10,
        )


def _exclude_from_garbage_collection() -> None:
    """Exclude all objects that the start has created from garbage collection, because a full collection that visits
    these objects stops the process for 60 ms.
    """
    gc.collect()
    gc.freeze()


@cli.command(name="worker")
def run_worker() -> None:
    """Run the worker."""
    with report_refusals():
        asyncio.run(process.run(settings.load(WorkerSettings)))
    exit_without_threads()


@cli.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is pending.")] = False,
    require_session_mac: Annotated[
        bool | None,
        typer.Option(
            help="Sessions count only with a MAC of the Custom Access Token hook, or without one, too."
        ),
    ] = None,
    new_session_mac_key: Annotated[
        bool,
        typer.Option(
            "--new-session-mac-key", help="Sign sessions with a new key; the one before is still accepted."
        ),
    ] = False,
    revoke_temp: Annotated[
        bool,
        typer.Option(
            "--revoke-temp",
            help="Take the right to make temporary tables from every role of the server but --keep-temp.",
        ),
    ] = False,
    keep_temp: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="A role that may still make temporary tables.")
    ] = None,
) -> None:
    """Apply the migrations and the access policies, set the passwords of the database logins, and write the
    deployment's mark into the database.

    The passwords of the database logins come from the settings. The command also removes Postgres settings that our
    roles have set for themselves.
    """
    if keep_temp and not revoke_temp:
        raise typer.BadParameter("it needs --revoke-temp", param_hint="--keep-temp")
    with report_refusals():
        loaded = settings.load(MigrationSettings)
        url = loaded.database_url.get_secret_value()
        require_owner_session(url)
        if dry_run:
            _print_pending(url)
            return
        done = deployment.prepare_database(
            url,
            loaded.login_passwords,
            on_applied=lambda version: out.print(f"[green]applied[/] {version}"),
        )
        deployment.mark_database(url, loaded.deployment)
        is_required = loaded.require_session_mac if require_session_mac is None else require_session_mac
        _set_session_macs(url, is_required=is_required, new_key=new_session_mac_key)
        if revoke_temp:
            _revoke_temp(url, keep_temp or ())
        for name in done.changed:
            out.print(f"[red]was changed by hand[/] {escape(name)}")
        _adopt_first_policy(url)
        _adopt_first_rules(url)
        out.print(f"{len(done.applied)} applied; the database is {loaded.deployment}'s")


def _print_pending(url: str) -> None:
    for migration in migrations.pending(url, access_policies.MIGRATIONS_DIRECTORY):
        out.print(f"pending {migration.version} {migration.name}")


def _revoke_temp(url: str, keep: Sequence[str]) -> None:
    kept = temporary_tables.revoke_temp(url, keep)
    out.print(f"TEMP is kept by: {escape(', '.join(kept))}")


def _adopt_first_policy(url: str) -> None:
    adopted = proposals.adopt_first_policy(url)
    if adopted is not None:
        out.print(
            f"retention policy {escape(adopted.name)} is in force: recordings are kept "
            f"{adopted.default.recording_days} days"
        )


def _adopt_first_rules(url: str) -> None:
    adopted = review_proposals.adopt_first_rules(url)
    if adopted is not None:
        out.print(f"rules of the review {escape(adopted.name)} are in force")


def _set_session_macs(url: str, *, is_required: bool | None, new_key: bool) -> None:
    macs = session_macs.set_session_macs(url, is_required=is_required, new_key=new_key)
    if new_key:
        out.print(f"session MACs are made with key {macs.key_number}; the key before it is still accepted")
    if macs.is_required:
        out.print("sessions count only with a MAC")


@cli.command()
def claim_bucket() -> None:
    """Write the mark of this deployment into the bucket, with the worker's bucket key. Safe to repeat."""
    with report_refusals():
        loaded = settings.load(WorkerSettings)
        asyncio.run(vendor_clients.make_worker_storage(loaded).claim(loaded.deployment))
        out.print(f"the bucket is {loaded.deployment}'s")


@cli.command()
def check() -> None:
    """Check whether the configured services are reachable, and print a remedy for each failure."""
    failed = 0
    for result in asyncio.run(checks.run_all_checks()):
        failed += not result.ok
        mark = "[green]✓[/]" if result.ok else "[red]✗[/]"
        out.print(f"{mark} {escape(result.name)}" + ("" if result.ok else f": {escape(result.problem)}"))
        if remark := result.note if result.ok else result.remedy:
            out.print(f"    {escape(remark)}")
    raise typer.Exit(1 if failed else 0)


@cli.command()
def reconcile() -> None:
    """Run one pass over unfinished and due recordings and one sweep of the bucket, and print the counts.

    The pass stops egresses in our rooms that belong to no recording, and applies the deadlines of unfinished
    recordings.

    The sweep of the bucket deletes orphaned objects that are older than ORPHAN_QUARANTINE_DAYS.

    After a restore of the database, set ORPHAN_QUARANTINE_DAYS to 365 before you run this command.

    The pass also destroys the recordings whose deletion is due, and writes their certificates.

    A running worker makes such passes and sweeps by itself, without this command. Running the command while a
    worker runs is harmless.
    """
    with report_refusals():
        for line in asyncio.run(reconcile_once(settings.load(WorkerSettings))):
            out.print(line)


@cli.command()
def schema() -> None:
    """Print the GraphQL schema."""
    from graphql_schema.schema import make_schema

    sys.stdout.write(make_schema(is_production=False).as_str() + "\n")


@cli.command(hidden=True)
def reasons() -> None:
    """Print the page docs/reasons.md, with the tables of all error reasons."""
    sys.stdout.write(reasons_page())


if __name__ == "__main__":
    main()
