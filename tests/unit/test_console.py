"""If an exception ends a command, the command logs the exception's type and stack frames, and never its message."""

import asyncio
import io
import logging
from collections.abc import Iterator

import psycopg
import pytest

from app.commands.console import log_to_stderr, run_without_messages

CANARY = "s3cretWord"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Yield a text stream that receives the log lines of a command."""
    root, printed = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    log_to_stderr(printed)
    yield printed
    root.handlers[:] = before
    root.setLevel(level)


def _raised() -> Exception:
    try:
        raise psycopg.OperationalError(f'failed to resolve host "{CANARY}"')
    except psycopg.Error as error:
        return error


def test_traceback_is_logged_without_its_message(log: io.StringIO) -> None:
    logging.getLogger("app.anything").error("the round failed", exc_info=_raised())
    said = log.getvalue()
    assert "the round failed" in said
    assert "psycopg.OperationalError at " in said
    assert CANARY not in said


@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error", "botocore.client", "concurrent.futures"])
def test_message_of_a_library_is_logged_without_the_exception_in_it(name: str, log: io.StringIO) -> None:
    error = _raised()
    logging.getLogger(name).error("Task failed: %r", error, exc_info=error)
    logging.getLogger(name).error(f"Traceback (most recent call last):\n  ...\n{error!r}")
    said = log.getvalue()
    assert "Task failed" in said
    assert CANARY not in said


@pytest.mark.parametrize("name", ["psycopg", "psycopg.pool", "procrastinate.worker.worker"])
def test_lines_of_a_database_library_are_not_logged(name: str, log: io.StringIO) -> None:
    logging.getLogger(name).warning("error connecting in %r: %s", "pool-1", _raised())
    assert log.getvalue() == ""


def test_task_that_nobody_awaited_is_logged_without_its_message(log: io.StringIO) -> None:
    async def fails() -> None:
        raise _raised()

    async def forget() -> None:
        task = asyncio.create_task(fails())
        await asyncio.wait((task,))
        del task

    asyncio.run(forget())
    said = log.getvalue()
    assert "Task exception was never retrieved" in said
    assert CANARY not in said


def test_command_that_fails_unexpectedly_ends_with_1_and_without_the_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> None:
        raise _raised()

    with pytest.raises(SystemExit) as ended:
        run_without_messages(fails)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "psycopg.OperationalError at " in said
    assert CANARY not in said
