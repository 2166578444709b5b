"""Helpers for tests of alerts."""

import psycopg

from app.alerts.service import Alerts
from app.postgres.database import Database as Pool
from tests.databases import Database


def open_alerts(database: Database) -> list[tuple[str, str]]:
    """Return the kind and the key of each open alert."""
    with psycopg.connect(database.superuser_url) as connection:
        return connection.execute(
            "select a.kind, a.key from resguardo.alerts as a where a.closed_at is null order by a.kind, a.key"
        ).fetchall()


async def evaluated_alerts(database: Database, pool: Pool) -> list[tuple[str, str]]:
    """Let the worker evaluate the stored rows, and return the kind and the key of each open alert. The function does
    not evaluate the alerts about sign-ins, because most tests have no Supabase Auth.
    """
    await Alerts(pool).evaluate()
    return [one for one in open_alerts(database) if one[0] != "SIGN_INS_MISSING"]
