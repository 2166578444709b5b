"""Marks the database and the bucket with the name of their deployment, so that no process uses another practice's
database or bucket.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg

from app.errors import Conflict, Forbidden
from app.integrations.storage.client import Storage
from app.postgres.access_policies import MIGRATIONS_DIRECTORY, apply_access
from app.postgres.database import Database
from app.postgres.migrations import Secret, migrate, set_login_passwords
from app.postgres.owner import as_owner
from app.postgres.quotas import (
    apply_language_budget,
    apply_quotas,
    load_language_budget,
    load_quotas,
)


@dataclass(frozen=True)
class Preparation:
    """The result of preparing a database: the migrations that were applied, and the access rights that somebody had
    changed by hand before.
    """

    applied: list[str]
    changed: tuple[str, ...]


def prepare_database(
    owner_url: str,
    passwords: Mapping[str, Secret],
    *,
    on_applied: Callable[[str], None] = lambda version: None,
) -> Preparation:
    """Apply the pending migrations, the access policies, the quotas and the budget, and set the passwords of the
    database logins. Safe to repeat.

    Calls `on_applied` with the version of each migration after its commit. Raises the errors of `migrate`,
    `apply_access`, `apply_quotas`, `apply_language_budget` and `set_login_passwords`.
    """
    quotas, budget = load_quotas(), load_language_budget()
    applied = migrate(owner_url, MIGRATIONS_DIRECTORY, on_applied=on_applied)
    changed = apply_access(owner_url)
    apply_quotas(owner_url, quotas)
    apply_language_budget(owner_url, budget)
    set_login_passwords(owner_url, passwords)
    return Preparation(applied, () if applied else changed)


async def require_own_database(database: Database, deployment: str) -> None:
    """Check that the database belongs to this deployment. Raises Conflict (access_not_applied, database_unmarked,
    database_of_another_deployment, pooler_keeps_no_session), UpstreamFailed (database_read_only and others),
    Timeout.
    """
    await database.require_session()
    await database.require_ready()
    try:
        async with database.as_service("start_up") as tx:
            mark = await tx.value("select private.deployment_name()")
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
        mark = None  # no migration has been applied
    except Forbidden as error:
        raise Conflict("access_not_applied") from error
    _require_same_deployment("database", None if mark is None else str(mark), deployment)


async def require_own_bucket(storage: Storage, deployment: str) -> None:
    """Check that the bucket belongs to this deployment. Raises Conflict (bucket_unmarked,
    bucket_of_another_deployment), UpstreamFailed, Timeout.
    """
    _require_same_deployment("bucket", await storage.read_mark(), deployment)


def _require_same_deployment(what: str, mark: str | None, deployment: str) -> None:
    if mark is None:
        raise Conflict(f"{what}_unmarked")
    if mark != deployment:
        raise Conflict(f"{what}_of_another_deployment")


def mark_database(owner_url: str, deployment: str) -> None:
    """Write the mark, which is the deployment's name, into a migrated database, as the database's owner. Raises
    Conflict (database_of_another_deployment).
    """
    with as_owner(owner_url) as connection:
        connection.execute(
            "insert into private.deployment (name) values (%s) on conflict do nothing", (deployment,)
        )
        row = connection.execute("select name from private.deployment").fetchone()
    _require_same_deployment("database", None if row is None else str(row[0]), deployment)
