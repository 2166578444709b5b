"""Sets all access anew from `policies/access` and seals it, as the owner: what differs later was changed by hand."""

import psycopg

from app.access_policies import access_sql


def seal_access(owner_url: str) -> tuple[str, ...]:
    """In one transaction; waits for whoever reads the tables, as a migration does.

    Returns what differed from the last seal: after a migration that is what it changed, else what somebody changed by
    hand. Rights and policies are then those of the files again; the bodies of functions are sealed as they are.
    """
    with psycopg.connect(owner_url) as connection:
        row = connection.execute("select changed from private.access_standing()").fetchone()
        connection.execute(access_sql().encode())
        connection.execute("select private.seal_access()")
    return () if row is None or row[0] is None else tuple(row[0])
