"""Revokes the right to create temporary tables from all database roles, except the roles that the operator names in
`resguardo migrate`.

On a new database, Postgres grants this right (TEMP) to PUBLIC, which means every login, so it cannot be revoked
from one login alone.
"""

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql

from app.errors import Conflict, InvalidInput
from app.postgres.owner import as_owner

_OURS: Final = ("clinician", "compliance", "patient", "resguardo_api", "resguardo_worker")
_KEEPERS = """
select r.rolname from pg_catalog.pg_roles as r
where r.rolname !~ '^pg_' and pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'TEMP')
order by r.rolname
"""


def revoke_temp(owner_url: str, keepers: Sequence[str]) -> tuple[str, ...]:
    """Revoke TEMP on the database from PUBLIC and from our roles, grant it to the roles in `keepers`, and store a
    new seal of the access rights.

    Returns every role that has TEMP afterwards, including superusers and the database's owner. Raises InvalidInput
    (temp_role_is_ours, temp_role_unknown) for a wrong role in `keepers`, and Conflict (temp_not_revoked) if the
    login may not revoke TEMP. Nothing is changed then.
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
