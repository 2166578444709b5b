"""One deployment, one practice: the database and the bucket bear its mark, and nothing starts over another's."""

import psycopg

from app.db import Database
from app.errors import Conflict
from app.integrations.storage import Storage


async def require_own_database(database: Database, deployment: str) -> None:
    """Raises Conflict (database_unmarked, database_of_another_deployment)."""
    try:
        async with database.as_service("start_up") as tx:
            mark = await tx.value("select private.deployment_name()")
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
        mark = None  # no migration has run here
    _compare("database", None if mark is None else str(mark), deployment)


async def require_own_bucket(storage: Storage, deployment: str) -> None:
    """Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout."""
    _compare("bucket", await storage.read_mark(), deployment)


def _compare(what: str, mark: str | None, deployment: str) -> None:
    if mark is None:
        raise Conflict(f"{what}_unmarked")
    if mark != deployment:
        raise Conflict(f"{what}_of_another_deployment")


def mark_database(owner_url: str, deployment: str) -> None:
    """Puts the mark on a migrated database, as its owner. Raises Conflict (database_of_another_deployment)."""
    with psycopg.connect(owner_url) as connection:
        connection.execute(
            "insert into private.deployment (name) values (%s) on conflict do nothing", (deployment,)
        )
        row = connection.execute("select name from private.deployment").fetchone()
    _compare("database", None if row is None else str(row[0]), deployment)
