"""The periodic task of budgets: it resumes the work that waited for the next day."""

from pathlib import Path
from typing import Final

from app.jobs.periodic import PeriodicTask
from app.postgres.database import Database
from app.postgres.queries import Queries

RESUME_SECONDS: Final = 60

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))


class HeldLanguageWork:
    """Resumes jobs that wait for a doctor's budget, as the worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resume(self) -> int:
        """Queue the held jobs of the doctors whose budget permits another request, and return their number."""
        async with self._database.as_service("resume_language_work") as tx:
            return int(await tx.value(_sql["resume_language_work"]))


def define_periodic_tasks(work: HeldLanguageWork) -> list[PeriodicTask]:
    """Return the task that resumes held jobs."""
    return [PeriodicTask("resume_language_work", RESUME_SECONDS, work.resume)]
