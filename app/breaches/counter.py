"""Reads the affected patients and recordings of breach assessments from the audit log, in the worker."""

import logging
from uuid import UUID

from app.breaches import store
from app.postgres.database import Database

log = logging.getLogger(__name__)

_COUNT = "count_breach"


class BreachCounter:
    """The service. The job is safe to repeat, and to run twice at once: each page is one transaction, and the database
    stores how far the job has read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, breach_id: UUID) -> None:
        """Read all pages of the events of an assessment. Raises AppError; the job then retries."""
        more = True
        while more:
            async with self._database.as_service(_COUNT) as tx:
                more = await store.count_page(tx, breach_id)

    async def give_up(self, breach_id: UUID, reason: str) -> None:
        """Store that the count has failed after the last attempt of its job, and log it."""
        async with self._database.as_service(_COUNT) as tx:
            await store.fail_count(tx, breach_id)
        log.warning("affected patients not counted: breach_assessment=%s %s", breach_id, reason)
