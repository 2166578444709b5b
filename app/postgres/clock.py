"""The database's clock, which dates everything that several processes compare."""

from datetime import datetime

from app.postgres.database import Transaction


async def database_time(tx: Transaction) -> datetime:
    """Return the database's present time, which does not stand still during a transaction."""
    now: datetime = await tx.value("select clock_timestamp()")
    return now
