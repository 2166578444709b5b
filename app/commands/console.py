"""How the commands speak: to standard output, to standard error, and of what was refused."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from app import checks
from app.errors import AppError
from app.failures import describe_failure
from app.settings import SettingsError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


_CHATTY = ("httpx", "httpx2", "httpcore", "botocore", "uvicorn")
_TOLD_BY_US = ("procrastinate", "psycopg")
"""Libraries of which each event that matters has a line of our own: theirs quote hosts, logins and errors' messages."""


def log_to_stderr(stream: TextIO | None = None) -> None:
    """Our own lines from INFO on, those of chatty libraries from WARNING on; an exception by its type and frames."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_is_told)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in _CHATTY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    """Tells an exception without its message, which may carry a password, a URL or a word of a consultation."""

    def format(self, record: logging.LogRecord) -> str:
        """Does not take the text that another handler has made of the exception."""
        record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class names it
        """The type and the frames."""
        return describe_failure(ei[1])


def _is_told(record: logging.LogRecord) -> bool:
    """Keeps a library's exceptions out of its line: asyncio and uvicorn write them into the text itself."""
    library = record.name.partition(".")[0]
    if library in _TOLD_BY_US and getattr(record, "action", None) != "task_not_found":
        return False
    if library != "app" and (record.exc_info or "Traceback" in str(record.msg)):
        record.msg, record.args = re.split(r"[:\n]", record.getMessage())[0], None
    return True


def ends_without_a_message(command: Callable[[], None]) -> None:
    """Runs a command; an exception that nobody expected ends it with 1, and is told by its type and frames."""
    try:
        command()
    except Exception as error:  # noqa: BLE001 - the outermost frame: Python would print the message
        err.print(f"[bold red]INTERNAL[/] {escape(describe_failure(error))}")
        sys.exit(1)


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
