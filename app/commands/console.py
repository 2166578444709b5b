"""Output of the commands: logging to standard error, and error messages."""

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

from app.errors import AppError
from app.failures import describe_failure
from app.settings import SettingsError
from app.texts import operator_message

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


_CHATTY = ("httpx", "httpx2", "httpcore", "botocore", "uvicorn")
_LOGGED_BY_US = ("procrastinate", "psycopg")
"""Libraries whose important events our own log lines report. The libraries' lines quote hosts, logins and error
messages.
"""


def log_to_stderr(stream: TextIO | None = None) -> None:
    """Log Resguardo's own lines from level INFO on, and the lines of verbose libraries from level WARNING on. An
    exception is logged as its type and its stack frames.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_may_log)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in _CHATTY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    """Formats an exception without its message, which may contain a password, a URL or text of a consultation."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a log record, and ignore the exception text that a different log handler has cached in the record."""
        record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class names it
        """Return the exception's type and stack frames, without its message."""
        return describe_failure(ei[1])


def _may_log(record: logging.LogRecord) -> bool:
    """Return whether a log record may be written. Remove the exception text that asyncio and uvicorn write into the
    log message itself.
    """
    library = record.name.partition(".")[0]
    if library in _LOGGED_BY_US and getattr(record, "action", None) != "task_not_found":
        return False
    if library != "app" and (record.exc_info or "Traceback" in str(record.msg)):
        record.msg, record.args = re.split(r"[:\n]", record.getMessage())[0], None
    return True


def run_without_messages(command: Callable[[], None]) -> None:
    """Run a command. An unexpected exception ends the command with exit code 1. Only the exception's type and stack
    frames are printed.
    """
    try:
        command()
    except Exception as error:  # noqa: BLE001 - the outermost frame: Python would print the message
        err.print(f"[bold red]INTERNAL[/] {escape(describe_failure(error))}")
        sys.exit(1)


@contextmanager
def report_refusals() -> Iterator[None]:
    """End the command with exit code 2 for wrong settings and 1 for an AppError, and print the error's text and
    remedy.
    """
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
        err.print(f"  {escape(operator_message(error.reason, error.detail))}")
        raise typer.Exit(1) from None


def exit_without_threads() -> NoReturn:
    """End the process successfully without waiting for threads. A thread can still wait for a bucket request whose
    result nobody needs, which would delay the end of the process by up to half a minute.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
