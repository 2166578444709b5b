"""The demo on a terminal: a line and a tick per step, then the addresses, until Ctrl-C."""

import asyncio
import time
from pathlib import Path

import psycopg
from httpx import HTTPError
from rich.console import Console
from rich.markup import escape

from app import checks
from app.devstack import stack
from app.devstack.api_client import Refused
from app.devstack.children import ChildError
from app.devstack.demo import (
    Audience,
    BadFile,
    DemoFailed,
    Report,
    Sources,
    Step,
    require_playable,
    run_demo,
)
from app.devstack.object_store import ObjectStoreError
from app.errors import AppError


def show(
    data_dir: Path, sources: Sources, *, once: bool, report_to: Path | None, database_url: str | None
) -> int:
    """Runs the demo and returns the exit status: 0 where every check held, 1 where one did not, 2 for a bad file.

    `database_url` is a superuser's, of a plain Postgres 15 to 18; None uses the embedded one.
    """
    console = Console(highlight=False, soft_wrap=True)
    report = Report()
    try:
        _require_files(console, sources, report, report_to)
        with stack.running(
            data_dir,
            media=sources.media,
            audio=sources.audio,
            progress=_ticker(console, report),
            superuser_url=database_url,
        ) as running:
            asyncio.run(run_demo(running, sources, report, _audience(console)))
            _write(report, report_to)
            if not once:
                _serve(console, running, report)
    except BadFile as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 2
    except (DemoFailed, Refused, ChildError, ObjectStoreError, AppError, HTTPError, psycopg.Error) as error:
        _write(report, report_to)
        console.print(f"[red]demo: failed[/]: {escape(_told(error))}")
        if isinstance(error, AppError):
            console.print(f"  {escape(checks.remedy(error.reason))}")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 0 if report.audit else 130
    console.print("demo: ok")
    return 0


def _require_files(console: Console, sources: Sources, report: Report, report_to: Path | None) -> None:
    """Refuses what could not be used in the end. Raises BadFile."""
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
        if console.is_terminal:  # the next line, which is longer, goes over it
            console.print(f"  {done} of {total} pieces", end="\r")
        elif done == total:
            console.print(f"  {done} of {total} pieces")

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
    console.print("\nServing until Ctrl-C:")
    console.print(f"  GraphQL and GraphiQL  {running.graphql_url}")
    console.print(f"  LiveKit stand-in      {running.livekit_url}")
    console.print(f"  Supabase Auth stand-in {running.supabase_url}")
    console.print("\nThe doctor's token, good for an hour:")
    console.print(f'  {{"Authorization": "Bearer {report.token}"}}\n')
    while True:
        time.sleep(3600)
