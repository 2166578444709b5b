"""Translates database errors into AppErrors: the SQLSTATE identifies a refusal by one of our database functions,
and the cause identifies an outage.
"""

import re
from typing import Final

import psycopg

from app.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    RateLimited,
    Timeout,
    Unauthenticated,
    UpstreamFailed,
)
from app.postgres.connections import Unanswered
from app.postgres.pool import PoolBusy

_KINDS: dict[str, type[AppError]] = {
    "RG400": InvalidInput,
    "RG401": Unauthenticated,
    "RG403": Forbidden,
    "RG404": NotFound,
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
"""The causes of an outage, by SQLSTATE. All of them are temporary and retryable."""

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
"""The English messages with which servers and poolers refuse a connection, because libpq keeps no SQLSTATE for
them.
"""


def translate(error: psycopg.Error) -> AppError | psycopg.Error:
    """Return the AppError for a database error, or the database error itself if it shows a bug.

    A DataError without a SQLSTATE is psycopg's own refusal of a NUL character, which `text` cannot store (3.3.9,
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
    """Return the AppError for an error that one of our database functions raised. The detail of a quota error says
    after how many seconds the caller may retry.
    """
    seconds = error.diag.message_detail if kind is RateLimited else None
    detail = {"retry_after_seconds": int(seconds)} if seconds and seconds.isdecimal() else {}
    return kind(error.diag.message_primary or "refused", **detail)


def _reason(error: psycopg.OperationalError) -> str:
    """Return the reason why the server refused a connection, if known. The AppError does not contain the text of
    the server's message.
    """
    if error.sqlstate is None:
        for words, reason in _REFUSED_CONNECTIONS:
            if words.search(str(error)):
                return reason
    return "database_unavailable"
