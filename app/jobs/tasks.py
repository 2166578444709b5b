"""The periodic task of the job queue."""

from app.jobs.periodic import PeriodicTask
from app.jobs.repair import JobRepair

REPAIR_SECONDS = 10


def define_periodic_tasks(repair: JobRepair) -> list[PeriodicTask]:
    """Return the task that repairs the queue."""
    return [PeriodicTask("repair_jobs", REPAIR_SECONDS, repair.run_once)]
