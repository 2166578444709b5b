"""What the database raises, as errors of ours: its own refusals by their SQLSTATE, the rest by what can be done."""

import re
from typing import Final

import psycopg

from app.connections import Unanswered
from app.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidInput,
    RateLimited,
    Timeout,
    Unauthenticated,
    UpstreamFailed,
)
from app.pool import PoolBusy

_KINDS: dict[str, type[AppError]] = {
    "RG401": Unauthenticated,
    "RG403": Forbidden,
    "RG409": Conflict,
    "RG429": RateLimited,
}
_BY_CLASS: tuple[tuple[tuple[type[psycopg.Error], ...], tuple[type[AppError], str]], ...] = (
    ((psycopg.errors.InsufficientPrivilege,), (Forbidden, "not_permitted")),
    ((PoolBusy,), (Timeout, "database_busy")),
    (
        (
            Unanswered,
            psycopg.errors.QueryCanceled,
            psycopg.errors.IdleInTransactionSessionTimeout,
            psycopg.errors.TransactionTimeout,
        ),
        (Timeout, "database_slow"),
    ),
    (
        (
            psycopg.errors.SerializationFailure,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.LockNotAvailable,
        ),
        (Conflict, "concurrent_change"),
    ),
)


REASONS: Final = {
    "25006": "database_read_only",
    "53100": "database_disk_full",
    "53200": "database_out_of_memory",
    "53300": "database_connections_used_up",
    "28000": "database_login_refused",
    "28P01": "database_login_refused",
    "3D000": "database_login_refused",
}
"""What can be told apart of a database that does not work, by the SQLSTATE. All of it may pass, and is retryable."""

_REFUSED_CONNECTIONS = (
    (
        re.compile(
            r"too many (clients|connections)|connection slots|no more connections|max ?clients|MaxClients"
        ),
        "database_connections_used_up",
    ),
    (
        re.compile(
            r"authentication failed|no pg_hba.conf entry|no password supplied|not permitted to log in|"
            r"(role|database) .* does not exist|Tenant or user not found"
        ),
        "database_login_refused",
    ),
)
"""What servers and poolers say in English when they refuse a connection: libpq keeps no SQLSTATE of it."""


def translate(error: psycopg.Error) -> AppError | psycopg.Error:
    """The AppError for what the database raised; the error itself where it is a bug.

    A DataError without a SQLSTATE is psycopg's own refusal of a NUL, which no `text` can hold (3.3.9,
    types/string.py; checked 2026-11-21).
    """
    state = error.sqlstate or ""
    if state in _KINDS:
        return _own_refusal(_KINDS[state], error)
    if state in REASONS:
        return UpstreamFailed(REASONS[state])
    if isinstance(error, psycopg.errors.UniqueViolation):
        return Conflict(error.diag.constraint_name or "already_exists")
    for kinds, translated in _BY_CLASS:
        if isinstance(error, kinds):
            return translated[0](translated[1])
    if isinstance(error, psycopg.DataError) and not state:
        return InvalidInput("bad_text")
    if isinstance(error, psycopg.OperationalError):
        return UpstreamFailed(_reason(error))
    return error


def _own_refusal(kind: type[AppError], error: psycopg.Error) -> AppError:
    """What one of our functions raised; a quota says in its detail after how many seconds to come again."""
    seconds = error.diag.message_detail if kind is RateLimited else None
    detail = {"retry_after_seconds": int(seconds)} if seconds and seconds.isdecimal() else {}
    return kind(error.diag.message_primary or "refused", **detail)


def _reason(error: psycopg.OperationalError) -> str:
    """Why a connection was refused, where that is known; the text itself goes no further."""
    if error.sqlstate is None:
        for words, reason in _REFUSED_CONNECTIONS:
            if words.search(str(error)):
                return reason
    return "database_unavailable"
