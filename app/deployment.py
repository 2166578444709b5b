"""One deployment, one practice: the database and the bucket bear its mark, and nothing starts over another's."""

from app.db import Database
from app.errors import Conflict
from app.integrations.storage import Storage


async def require_own_database(database: Database, deployment: str) -> None:
    """Raises Conflict (database_unmarked, database_of_another_deployment)."""
    async with database.as_service("start_up") as tx:
        mark = await tx.value("select private.deployment_name()")
    _compare("database", None if mark is None else str(mark), deployment)


async def require_own_bucket(storage: Storage, deployment: str) -> None:
    """Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout."""
    _compare("bucket", await storage.read_mark(), deployment)


def _compare(what: str, mark: str | None, deployment: str) -> None:
    if mark is None:
        raise Conflict(f"{what}_unmarked")
    if mark != deployment:
        raise Conflict(f"{what}_of_another_deployment")
