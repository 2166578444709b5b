"""The check of the sealing for `resguardo check`."""

from pathlib import Path
from typing import Final

from app.errors import Conflict
from app.postgres.database import Database
from app.postgres.queries import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))

COUNT_TIMEOUT_MILLISECONDS: Final = 50_000


async def require_sealed(database: Database) -> None:
    """Raise Conflict if an event has been unsealed for more than a minute (audit_log_unsealed), or if the events of a
    year are not as many as the leaves and the unsealed events (audit_log_counts_differ).
    """
    async with database.as_service("check") as tx:
        found = await tx.one(_sql["overdue_events"])
    if found is not None and found["overdue_count"]:
        oldest = f"the oldest for {found['oldest_seconds']:.0f} s"
        raise Conflict("audit_log_unsealed", what=f"{found['overdue_count']} events are unsealed, {oldest}")
    differences = await count_differences(database)
    if differences:
        raise Conflict("audit_log_counts_differ", what="; ".join(differences.values()))


async def count_differences(database: Database) -> dict[int, str]:
    """Count the rows of each year, and return a sentence for each year in which the counts differ. Raises AppError."""
    async with database.as_service("seal_audit_log") as tx:
        years = [row["log_year"] for row in await tx.all(_sql["audit_years"])]
    differences = {}
    for year in years:
        async with database.as_service("seal_audit_log") as tx:
            await tx.run(
                "select set_config('statement_timeout', %(limit)s, true)",
                {"limit": str(COUNT_TIMEOUT_MILLISECONDS)},
            )
            counts = await tx.one(_sql["count_log"], {"log_year": year})
        if counts is None or counts["event_count"] == counts["leaf_count"] + counts["unsealed_count"]:
            continue
        differences[year] = (
            f"the audit log of {year} has {counts['event_count']} events, but {counts['leaf_count']} leaves and "
            f"{counts['unsealed_count']} unsealed events"
        )
    return differences
