"""The jobs and the periodic tasks of access requests."""

from app.access_requests.exports import Exports
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import MEDIA_QUEUE, Task, by_id

EXPORT_ATTEMPTS = 60
"""The number of attempts, at most a minute apart."""

SWEEP_EXPORTS_SECONDS = 3600


def define_tasks(exports: Exports) -> list[Task]:
    """Return the job that makes the encrypted copy for an approved request."""
    return [
        Task(
            "export_access_request",
            by_id(exports.export),
            attempts=EXPORT_ATTEMPTS,
            give_up=by_id(exports.give_up),
            queue=MEDIA_QUEUE,
        )
    ]


def define_periodic_tasks(exports: Exports) -> list[PeriodicTask]:
    """Return the periodic task that deletes expired copies of access requests."""
    return [PeriodicTask("keep_exports", SWEEP_EXPORTS_SECONDS, exports.run_once)]
