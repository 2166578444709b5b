"""The job and the periodic task of access reviews."""

from app.access_reviews.service import AccessRemoval
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import Task, by_id

WATCH_SECONDS = 3600


def define_tasks(removal: AccessRemoval) -> list[Task]:
    """Return the job that removes the access that an approved review removes. The job is retried without limit, because
    only the database can make it fail.
    """
    return [Task("apply_access_review", by_id(removal.apply), attempts=None)]


def define_periodic_tasks(removal: AccessRemoval) -> list[PeriodicTask]:
    """Return the task that watches whether an access review is due."""
    return [PeriodicTask("watch_access_reviews", WATCH_SECONDS, removal.watch)]
