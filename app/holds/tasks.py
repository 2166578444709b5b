"""The jobs and the periodic tasks of legal holds."""

from app.holds.bucket_protection import BucketProtection
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import Task, by_id

PROTECT_SECONDS = 3600


def define_tasks(protection: BucketProtection) -> list[Task]:
    """Return the job that protects the objects of held recordings after a legal hold was placed or released."""
    return [Task("secure_held", by_id(protection.secure_held), attempts=None)]


def define_periodic_tasks(protection: BucketProtection) -> list[PeriodicTask]:
    """Return the periodic task that protects the objects of held recordings in the bucket."""
    return [PeriodicTask("protect_held", PROTECT_SECONDS, protection.run_once, protection.forget)]
