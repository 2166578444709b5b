"""Copies the events of Supabase Auth into the audit log, and says why the audit log may lack some.

Supabase Auth calls the hooks for wrong passwords and wrong codes by itself (48_sign_ins.sql).
"""

from pathlib import Path
from typing import Final

from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries

AT_MOST: Final = 1000
"""How many events one run copies at most: the sealer seals as many in one transaction."""

_sql = Queries(Path(__file__).with_name("queries.sql"))


class SignInReader:
    """The leader's periodic task that copies the events of Supabase Auth into the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> int:
        """Copy the new events, at most `AT_MOST`, and return how many were copied. Raises AppError."""
        async with self._database.as_service("read_sign_ins") as tx:
            return await tx.value(_sql["read_entries"], {"at_most": AT_MOST}) or 0


async def find_problems(tx: Transaction) -> list[str]:
    """Return the reasons for which the audit log may lack events of Supabase Auth."""
    return list(await tx.value(_sql["find_problems"]))
