"""Gives the consultations of a doctor who left to another doctor, after a second officer has approved it."""

import logging
from pathlib import Path
from typing import Final
from uuid import UUID

from app.errors import UpstreamFailed
from app.postgres.database import Database
from app.postgres.queries import Queries

log: Final = logging.getLogger(__name__)

_sql = Queries(Path(__file__).with_name("queries.sql"))


class Reassignments:
    """Moves consultations to another doctor in batches, as the worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, proposal_id: UUID) -> None:
        """Move all consultations of an approved reassignment that can be moved, each batch in a transaction of its own.
        A later run continues after the last batch.

        Raises UpstreamFailed (reassignment_waits) if recordings of some consultations are not finished, after which
        the job runs again.
        """
        while (step := await self._move(proposal_id)) == "MORE":
            pass
        if step == "WAITING":
            raise UpstreamFailed("reassignment_waits")

    async def give_up(self, proposal_id: UUID, reason: str) -> None:
        """Mark the reassignment FAILED. The consultations that were moved stay with the new doctor."""
        log.warning("consultations not reassigned: proposal=%s %s", proposal_id, reason)
        async with self._database.as_service("reassign_consultations") as tx:
            await tx.run(_sql["fail_reassignment"], {"id": proposal_id, "reason": reason})

    async def _move(self, proposal_id: UUID) -> str:
        async with self._database.as_service("reassign_consultations") as tx:
            return str(await tx.value(_sql["reassign_consultations"], {"id": proposal_id}))
