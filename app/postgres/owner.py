"""Connects as the owner of the database, for `resguardo migrate` and the few other commands of the owner."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from app.errors import UpstreamFailed
from app.postgres.connections import connect_as_owner
from app.postgres.errors import translate
from app.postgres.pooler import require_session


def require_owner_session(url: str) -> None:
    """Raise Conflict (pooler_keeps_no_session) if a pooler does not keep the database session, which holds the lock
    of the owner's commands. Raises UpstreamFailed if the database cannot be used.
    """
    with _translate_failures():
        asyncio.run(require_session(url))


@contextmanager
def as_owner(url: str, *, autocommit: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection of the owner. The work in the `with` block is committed at the end of the block.

    Raises UpstreamFailed: `database_unreachable`, or the reason why the database refuses connections or cannot
    work.
    """
    with (
        _translate_failures(),
        connect_as_owner(url, application="resguardo-owner", autocommit=autocommit) as connection,
    ):
        yield connection


@contextmanager
def _translate_failures() -> Iterator[None]:
    """If the database fails and the reason is unknown, raise UpstreamFailed (database_unreachable). The remedy of
    `database_unreachable` names the setting DATABASE_URL.
    """
    try:
        yield
    except (psycopg.Error, UpstreamFailed) as error:
        translated = translate(error) if isinstance(error, psycopg.Error) else error
        if not isinstance(translated, UpstreamFailed):
            raise
        if translated.reason == "database_unavailable":
            raise UpstreamFailed("database_unreachable") from error
        if translated is error:
            raise
        raise translated from error
