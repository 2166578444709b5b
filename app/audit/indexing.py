"""Collects audit events in the blocks that the search in the audit log reads (46_audit_search.sql), as the worker."""

from pathlib import Path
from typing import Final

from app.postgres.database import Database
from app.postgres.queries import Queries

_MOST_BLOCKS: Final = 1_000
_sql: Final = Queries(Path(__file__).with_name("queries.sql"))


class AuditIndex:
    """The index of the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def extend(self) -> int:
        """Make a block of every 1,024 events that are in no block yet, and return the number of blocks. Each block
        is a transaction of its own. One call makes at most 1,000 blocks.
        """
        for made in range(_MOST_BLOCKS):
            async with self._database.as_service("index_audit_events") as tx:
                is_made = await tx.value(_sql["index_events"])
            if not is_made:
                return made
        return _MOST_BLOCKS
