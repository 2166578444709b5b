"""The periodic tasks of deletions."""

from app.deletions.destroyer import Destroyer
from app.jobs.periodic import PeriodicTask

DESTROY_SECONDS = 60


def define_periodic_tasks(destroyer: Destroyer) -> list[PeriodicTask]:
    """Return the periodic task that destroys recordings whose deletion is due."""
    return [PeriodicTask("destroy_due", DESTROY_SECONDS, destroyer.run_once)]
