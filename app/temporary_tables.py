"""Takes the right to make temporary tables from everybody but those listed, which `resguardo migrate` does if asked.

Postgres gives this right (TEMP) on a new database to PUBLIC, so that it cannot be taken from one login alone.
"""

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql

from app.errors import Conflict, InvalidInput
from app.owner import as_owner

_OURS: Final = ("clinician", "compliance", "patient", "resguardo_api", "resguardo_worker")
_KEEPERS = """
select r.rolname from pg_catalog.pg_roles as r
where r.rolname !~ '^pg_' and pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'TEMP')
order by r.rolname
"""


def revoke_temp(owner_url: str, keepers: Sequence[str]) -> tuple[str, ...]:
    """Revokes TEMP on the database from PUBLIC and from our roles, grants it to the keepers, and seals the access.

    Returns every role that has TEMP afterwards, superusers and the database's owner among them. Raises InvalidInput
    (temp_role_is_ours, temp_role_unknown) for a keeper, Conflict (temp_not_revoked) where the login may not do it:
    nothing is changed then.
    """
    with as_owner(owner_url) as connection:
        for role in keepers:
            _require_other_role(connection, role)
        database = sql.Identifier(connection.info.dbname)
        ours = sql.SQL(", ").join(map(sql.Identifier, _OURS))
        try:
            connection.execute(
                sql.SQL("revoke temporary on database {} from public, {}").format(database, ours)
            )
            for role in keepers:
                connection.execute(
                    sql.SQL("grant temporary on database {} to {}").format(database, sql.Identifier(role))
                )
        except psycopg.errors.InsufficientPrivilege as error:
            raise Conflict("temp_not_revoked") from error
        kept = tuple(name for (name,) in connection.execute(_KEEPERS))
        if not set(kept).isdisjoint(_OURS):
            raise Conflict("temp_not_revoked")
        connection.execute("select private.seal_access()")
    return kept


def _require_other_role(connection: psycopg.Connection, role: str) -> None:
    if role in _OURS:
        raise InvalidInput("temp_role_is_ours", role=role)
    known = connection.execute("select from pg_catalog.pg_roles as r where r.rolname = %s", [role])
    if known.fetchone() is None:
        raise InvalidInput("temp_role_unknown", role=role)
