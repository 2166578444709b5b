"""Reads the database's clock. All times that several processes compare come from this clock."""

from datetime import datetime

from app.postgres.database import Transaction


async def database_time(tx: Transaction) -> datetime:
    """Return the database's current time, which moves on during a transaction, unlike `now()`."""
    now: datetime = await tx.value("select clock_timestamp()")
    return now
