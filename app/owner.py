"""The owner's connection: for `resguardo migrate` and the few commands that act as the database's owner."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from app.connections import connect_as_owner
from app.db_errors import translate
from app.errors import UpstreamFailed
from app.pooler import require_session


def require_owner_session(url: str) -> None:
    """Raises Conflict (pooler_keeps_no_session) where the owner's commands could lose their lock, or UpstreamFailed."""
    with _told():
        asyncio.run(require_session(url))


@contextmanager
def as_owner(url: str, *, autocommit: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the owner; what is done in the block is committed at its end.

    Raises UpstreamFailed: `database_unreachable`, or why the database refuses the connection or the work as a whole.
    """
    with _told(), connect_as_owner(url, application="resguardo-owner", autocommit=autocommit) as connection:
        yield connection


@contextmanager
def _told() -> Iterator[None]:
    """Names DATABASE_URL's remedy, which `database_unreachable` has, where nothing else is known."""
    try:
        yield
    except (psycopg.Error, UpstreamFailed) as error:
        told = translate(error) if isinstance(error, psycopg.Error) else error
        if not isinstance(told, UpstreamFailed):
            raise
        if told.reason == "database_unavailable":
            raise UpstreamFailed("database_unreachable") from error
        if told is error:
            raise
        raise told from error
