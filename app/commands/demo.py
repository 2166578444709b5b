"""`resguardo demo`."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app import settings
from app.commands.checkout import load_devstack
from app.commands.console import err, out, report_refusals

FIXTURES = Path(__file__).parent.parent.parent / "tests" / "fixtures"
MEDIA = FIXTURES / "headache.mp4"
AUDIO = FIXTURES / "headache.dual.ogg"
DEVSTACK = Path(".devstack")

commands = typer.Typer(
    invoke_without_command=True, help="A whole stack on this machine, and one consultation through it."
)


@commands.callback()
def demo(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End after the consultation.")] = False,
    media: Annotated[Path, typer.Option(help="The MP4 that the room shows.")] = MEDIA,
    audio: Annotated[
        Path, typer.Option(help="The Ogg that it sounds like, a speaker on each channel.")
    ] = AUDIO,
    json: Annotated[
        Path | None, typer.Option(help="Write what happened, and the logins, to this file.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the dev stack keeps its data.")] = DEVSTACK,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="The API's port.")] = None,
    auth_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The port of the Supabase Auth stand-in.")
    ] = None,
    store_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The port of the object store.")
    ] = None,
    livekit_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The port of the LiveKit stand-in.")
    ] = None,
) -> None:
    """Start a whole stack on this machine, run one consultation through it, and serve the stack until Ctrl-C.

    The exit code is 0 if every check passed, 1 if one failed, and 2 for an invalid option.

    If an option for a port is missing, the demo uses the same port as at its last start. The variable
    ALLOWED_ORIGINS names the origins of your web app.

    If the variable DATABASE_URL is set, the demo uses the plain Postgres at that URL instead of the embedded
    Postgres.
    """
    context.obj = data
    if context.invoked_subcommand is not None:
        return
    showing = load_devstack("showing", command="resguardo demo")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = {"api": port, "auth": auth_port, "store": store_port, "livekit": livekit_port}
    options = showing.Options(
        data_dir=data,
        sources=showing.Sources(media, audio),
        once=once,
        report_to=json,
        ports={name: number for name, number in asked.items() if number is not None},
        allowed_origins=os.environ.get("ALLOWED_ORIGINS"),
        database_url=_read_plain_postgres_url(),
    )
    raise typer.Exit(showing.show(options))


def _read_plain_postgres_url() -> str | None:
    """Return the superuser's URL of the plain Postgres that replaces the demo's embedded Postgres, or None."""
    with report_refusals():
        return settings.check_database_url("DATABASE_URL", os.environ.get("DATABASE_URL"))


@commands.command()
def join(
    context: typer.Context,
    consultation: Annotated[str, typer.Argument(help="The consultation's id, or its external id.")],
    consents: Annotated[
        bool, typer.Option(help="Record the consents that are missing; a withdrawn one stays withdrawn.")
    ] = True,
    data: Annotated[
        Path | None, typer.Option(help="Where the running demo keeps its data.", show_default=False)
    ] = None,
) -> None:
    """Put the participants of a consultation into its room in the running demo, so that it can be recorded.

    If the command runs again, it brings back the participants who have left the room. The exit code is 1 if no demo
    is running or the consultation does not exist.
    """
    joining = load_devstack("joining", command="resguardo demo join")
    try:
        entered = asyncio.run(joining.join(data or context.obj, consultation, with_consents=consents))
    except joining.JoinFailed as error:
        err.print(f"[bold red]{escape(str(error))}[/]")
        raise typer.Exit(1) from None
    for one in entered:
        out.print(escape(str(one)))
