"""The demo in a terminal: a line and a tick for each step, then the data for a web developer, until Ctrl-C."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from httpx import HTTPError
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from app.errors import AppError
from app.settings.vendors import WebAppSettings
from app.texts import operator_message
from devstack import ports, stack
from devstack.api_client import Refused
from devstack.children import ChildError
from devstack.demo import (
    Audience,
    BadFile,
    DemoFailed,
    Project,
    Report,
    Sources,
    Step,
    require_playable,
    run_demo,
)
from devstack.object_store import ObjectStoreError


class BadOrigins(Exception):  # noqa: N818 - it reads as what happened
    """The setting ALLOWED_ORIGINS is invalid. The exception's message names the reason."""


@dataclass(frozen=True)
class Options:
    """The command-line options of a demo.

    `ports` contains the requested ports, by the part's name in `ports.Ports`. `allowed_origins` is the setting
    ALLOWED_ORIGINS, or None if it is not set. `database_url` is a superuser's URL of a plain Postgres 15 to 18;
    None uses the embedded one.
    """

    data_dir: Path
    sources: Sources
    once: bool = False
    report_to: Path | None = None
    ports: dict[str, int] = field(default_factory=dict)
    allowed_origins: str | None = None
    database_url: str | None = None


def show(options: Options) -> int:
    """Run the demo and return the exit code: 0 if every check passed, 1 if one failed, 2 for a bad option."""
    console = Console(highlight=False, soft_wrap=True)
    report, report_to = Report(), options.report_to
    try:
        origins = _origins(options.allowed_origins)
        chosen_ports = ports.choose(options.data_dir, options.ports)
        _require_files(console, options.sources, report, report_to)
        with stack.running(
            options.data_dir,
            media=options.sources.media,
            audio=options.sources.audio,
            progress=_ticker(console, report),
            superuser_url=options.database_url,
            ports=chosen_ports,
            allowed_origins=origins,
        ) as running:
            report.project = _project(running)
            asyncio.run(run_demo(running, options.sources, report, _audience(console)))
            _write(report, report_to)
            if not options.once:
                _serve(console, running, report)
    except (BadFile, BadOrigins, ports.PortRefused) as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 2
    except (DemoFailed, Refused, ChildError, ObjectStoreError, AppError, HTTPError, psycopg.Error) as error:
        _write(report, report_to)
        console.print(f"[red]demo: failed[/]: {escape(_told(error))}")
        if isinstance(error, AppError):
            console.print(f"  {escape(operator_message(error.reason))}")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 0 if report.audit else 130
    console.print("demo: ok")
    return 0


def _origins(setting: str | None) -> tuple[str, ...]:
    """Return the origins in the setting ALLOWED_ORIGINS, parsed as the API parses them. Raises BadOrigins."""
    if setting is None:
        return stack.DEFAULT_ORIGINS
    try:
        loaded = WebAppSettings.model_validate(
            {"environment": "development", "deployment": stack.DEPLOYMENT, "allowed_origins": setting}
        )
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
        raise BadOrigins(f"ALLOWED_ORIGINS {why.removeprefix('Value error, ')}") from error
    return loaded.allowed_origins


def _project(running: stack.Stack) -> Project:
    return Project(
        graphql_url=running.graphql_url,
        subscriptions_url=running.subscriptions_url,
        supabase_url=running.supabase_url,
        publishable_key=running.publishable_key,
        bucket_url=f"{running.store.endpoint_url}/{running.store.bucket}",
        livekit_url=running.livekit_url,
        allowed_origins=running.allowed_origins,
    )


def _require_files(console: Console, sources: Sources, report: Report, report_to: Path | None) -> None:
    """Refuse video and sound files that a later step of the demo could not use. Raises BadFile."""
    sound = asyncio.run(require_playable(sources))
    if sound.audio_channels == 1:
        console.print(
            f"[yellow]{escape(str(sources.audio))} has one channel: it does not tell the speakers apart[/]"
        )
    try:
        _write(report, report_to)
    except OSError as error:
        raise BadFile(f"{report_to} cannot be written: {error.strerror}") from error


def _ticker(console: Console, report: Report) -> stack.Progress:
    began = time.monotonic()

    def tick(name: str) -> None:
        nonlocal began
        step = Step(f"{name} ready", ok=True, milliseconds=round((time.monotonic() - began) * 1000))
        began = time.monotonic()
        report.steps.append(step)
        _tick(console, step)

    return tick


def _audience(console: Console) -> Audience:
    def progress(done: int, total: int) -> None:
        if console.is_terminal:  # the next line is longer and overwrites this one
            console.print(f"  {done} of {total} pieces of speech", end="\r")
        elif done == total:
            console.print(f"  {done} of {total} pieces of speech")

    return Audience(
        on_step=lambda step: _tick(console, step),
        on_progress=progress,
        on_line=lambda line: console.print(f"  {escape(line)}", style="dim"),
    )


def _tick(console: Console, step: Step) -> None:
    mark = "[green]✓[/]" if step.ok else "[red]✗[/]"
    console.print(f"{mark} {escape(step.name)} [dim]{step.milliseconds} ms[/]")


def _told(error: Exception) -> str:
    detail = error.detail if isinstance(error, AppError) else {}
    return " ".join(
        [str(error) or type(error).__name__, *(f"{name}={value}" for name, value in detail.items())]
    )


def _write(report: Report, path: Path | None) -> None:
    if path is not None:
        path.write_text(report.to_json() + "\n", encoding="utf-8")


def _serve(console: Console, running: stack.Stack, report: Report) -> None:
    """Show the data that a web app needs, and throwaway logins, and wait for Ctrl-C."""
    addresses = {
        "GraphQL and GraphiQL": running.graphql_url,
        "Subscriptions": running.subscriptions_url,
        "SUPABASE_URL": running.supabase_url,
        "Publishable key": running.publishable_key,
        "Bucket": f"{running.store.endpoint_url}/{running.store.bucket}",
        "LiveKit stand-in": running.livekit_url,
        "ALLOWED_ORIGINS": ",".join(running.allowed_origins) or "none: no web page may use the API",
    }
    console.print("\nServing until Ctrl-C:")
    for name, value in addresses.items():
        console.print(f"  {name:<21} {escape(value)}")
    console.print("\nSign in as (e-mail, password, and the second factor for an authenticator app):")
    for name, login in report.logins.items():
        console.print(f"  {name:<8} {escape(login.email)}  {escape(login.password)}")
        console.print(f"           {escape(login.otpauth)}")
    console.print(f"\nThe doctor's consultation is {report.consultation.get('id')}.")
    where = "" if running.data_dir == Path(".devstack").resolve() else f" --data {running.data_dir}"
    console.print(
        f"`resguardo demo join CONSULTATION{escape(where)}` puts the people of any other into its room."
    )
    console.print("\nThe doctor's token, good for an hour:")
    console.print(f'  {{"Authorization": "Bearer {report.token}"}}\n')
    while True:
        time.sleep(3600)
