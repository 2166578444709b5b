"""Repairs the job queue: it returns jobs of dead workers, and corrects dates that were written under a wrong clock.
All times come from the database's clock.
"""

import logging
from datetime import timedelta
from pathlib import Path

from app.jobs.queue import STALLED_SECONDS
from app.jobs.retries import LONGEST_ASKED_PAUSE_SECONDS
from app.postgres.database import Database
from app.postgres.queries import Queries

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

_STALLED = timedelta(seconds=STALLED_SECONDS)
_LONGEST_PAUSE = timedelta(seconds=LONGEST_ASKED_PAUSE_SECONDS)


class JobRepair:
    """The leader's periodic task that repairs the job queue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self) -> None:
        """Return the jobs of dead workers to the queue. Make every job due now that is scheduled later than the
        longest retry pause allows.

        If a worker's heartbeat lies in the future, the method sets it to the current time. A dead worker whose
        heartbeat lay in the future therefore counts as dead 20 s after this correction.
        """
        async with self._database.as_service("repair_jobs") as tx:
            await tx.run(_sql["mend_heartbeats"], {"stalled": _STALLED})
            stalled = await tx.all(_sql["return_stalled_jobs"], {"stalled": _STALLED})
            too_late = await tx.all(_sql["pull_jobs_back"], {"longest_pause": _LONGEST_PAUSE})
        for row in stalled:
            log.warning("a dead worker's job was returned: task=%s job=%s", row["task_name"], row["id"])
        for row in too_late:
            log.warning("a job due too late is due now: task=%s job=%s", row["task_name"], row["id"])
