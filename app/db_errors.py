"""What the database raises, as errors of ours: its own refusals by their SQLSTATE, the rest by what can be done."""

import psycopg

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

_KINDS: dict[str, type[AppError]] = {
    "RG401": Unauthenticated,
    "RG403": Forbidden,
    "RG409": Conflict,
    "RG429": RateLimited,
}
_CONCURRENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
)


def translate(error: psycopg.Error) -> AppError | psycopg.Error:
    """The AppError for what the database raised; the error itself where it is a bug.

    A DataError without a SQLSTATE is psycopg's own refusal of a NUL, which no `text` can hold (3.3.9,
    types/string.py; checked 2026-11-21).
    """
    kind = _KINDS.get(error.sqlstate or "")
    if kind is not None:
        seconds = error.diag.message_detail if kind is RateLimited else None
        detail = {"retry_after_seconds": int(seconds)} if seconds and seconds.isdecimal() else {}
        return kind(error.diag.message_primary or "refused", **detail)
    if isinstance(error, psycopg.errors.UniqueViolation):
        return Conflict(error.diag.constraint_name or "already_exists")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return Forbidden("not_permitted")
    if isinstance(error, psycopg.errors.QueryCanceled):
        return Timeout("database_slow")
    if isinstance(error, _CONCURRENT):
        return Conflict("concurrent_change")
    if isinstance(error, psycopg.DataError) and error.sqlstate is None:
        return InvalidInput("bad_text")
    if isinstance(error, psycopg.OperationalError):
        return UpstreamFailed("database_unavailable")
    return error
