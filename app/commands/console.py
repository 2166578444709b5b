"""How the commands speak: to standard output, to standard error, and of what was refused."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from app import checks
from app.errors import AppError
from app.settings import SettingsError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def log_to_stderr() -> None:
    """Our own lines from INFO on, those of chatty libraries from WARNING on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpx2", "httpcore", "procrastinate", "botocore", "psycopg.pool"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def refusals_told() -> Iterator[None]:
    """Ends the command with 2 for wrong settings, with 1 for what was refused, and says what helps."""
    try:
        yield
    except SettingsError as error:
        err.print("[bold red]Settings:[/]")
        for line in str(error).splitlines():
            err.print(f"  {escape(line)}")
        raise typer.Exit(2) from None
    except AppError as error:
        detail = "".join(f" {name}={value}" for name, value in error.detail.items())
        err.print(f"[bold red]{error.code}[/] {escape(error.reason + detail)}")
        err.print(f"  {escape(checks.remedy(error.reason))}")
        raise typer.Exit(1) from None


def leave_threads_behind() -> NoReturn:
    """Ends the process well and now: a thread whose call to the bucket was given up would hold it up for up to half a
    minute, as Python waits for every thread.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
