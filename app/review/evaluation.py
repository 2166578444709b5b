"""Evaluates the rules of the review over the sealed events of the audit log."""

from pathlib import Path
from typing import Final

from app.postgres.database import Database
from app.postgres.queries import Queries

BATCH: Final = 500
"""The maximum number of events that one transaction evaluates."""

MOST_BATCHES: Final = 20
"""The maximum number of batches that one run evaluates. The next run continues after the last batch."""

REASON: Final = "review_audit_log"
_sql = Queries(Path(__file__).with_name("queries.sql"))


class ReviewEvaluation:
    """Evaluates new events in batches. If a run dies, the next run repeats the batch that was not committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self) -> int:
        """Evaluate the events that were sealed since the last run, and return how many there were. If no rules are in
        force, evaluate nothing.
        """
        evaluated = 0
        for _ in range(MOST_BATCHES):
            async with self._database.as_service(REASON) as tx:
                read = int(await tx.value(_sql["review_audit_log"], {"at_most": BATCH}))
            evaluated += read
            if read == 0:
                break
        return evaluated
