"""Defines how the worker handles an outage: how long it waits, what it logs, and after which errors waiting can
help.
"""

import logging
import random
import time

import psycopg
from procrastinate.exceptions import ConnectorException

from app.errors import AppError
from app.failures import describe_failure
from app.postgres.errors import translate

log = logging.getLogger(__name__)

PAUSES_SECONDS = (1, 2, 5, 10, 20, 30)
"""The pauses after the first failure, the second, and so on. The last one repeats."""

STEADY_SECONDS = 60
"""A worker that has worked for this long starts again with the shortest pause."""


class Outage:
    """Tracks the reason why the worker cannot work. An Outage logs one line whenever the reason changes, and
    returns a longer pause each time.
    """

    def __init__(self) -> None:
        self.has_worked = False
        self._reason: str | None = None
        self._failures = 0
        self._began_at: float | None = None

    def begin(self, reason: str) -> None:
        """Record that the worker cannot work. If the reason is the same as before, it is not logged again."""
        if self._began_at is not None and time.monotonic() - self._began_at > STEADY_SECONDS:
            self._failures = 0
        self._began_at = None
        if reason != self._reason:
            log.warning("the worker waits: %s", reason)
        self._reason = reason

    def end(self) -> None:
        """Record that the worker works again."""
        if self._reason is not None:
            log.info("the worker works again")
        self.has_worked, self._reason, self._began_at = True, None, time.monotonic()

    def next_pause(self) -> float:
        """Return the next pause in seconds. The pause is shortened at random by up to a fifth, so that several
        workers do not all try again at the same moment.
        """
        pause = PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)]
        self._failures += 1
        return pause * random.uniform(0.8, 1)  # noqa: S311 - nothing is kept secret by it


def is_temporary(error: Exception) -> bool:
    """Return whether the error is an outage that can end by itself, and not a wrong deployment or a bug in
    Resguardo.
    """
    if isinstance(error, AppError):
        return error.retryable or error.reason == "concurrent_change"
    return isinstance(error, (psycopg.Error, ConnectorException, TimeoutError))


def describe_outage(error: Exception) -> str:
    """Return Resguardo's reason for the error. If no reason is known, return the error's type and the place where
    it was raised.
    """
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    translated = translate(cause) if isinstance(cause, psycopg.Error) else cause
    return translated.reason if isinstance(translated, AppError) else describe_failure(error)
