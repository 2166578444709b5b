"""The jobs and the periodic tasks of recordings."""

from app.jobs.periodic import PeriodicTask
from app.jobs.queue import MEDIA_QUEUE, STARTS_QUEUE, Task, by_id
from app.recordings.controller import RecordingController
from app.recordings.reconciler import Reconciler
from app.recordings.room_watch import RoomWatch

VERIFICATION_ATTEMPTS = 24 * 60
"""A day of attempts a minute apart. A VERIFYING recording ends at its deadline (app/recordings/deadlines.py), and a
LOST one is checked again.
"""


def define_tasks(controller: RecordingController, rooms: RoomWatch) -> list[Task]:
    """Return the jobs that start, stop, verify and follow recordings."""
    return [
        Task(
            "start_recording",
            by_id(controller.start),
            give_up=by_id(controller.give_up_start),
            queue=STARTS_QUEUE,
        ),
        Task("stop_recording", by_id(controller.stop), attempts=None),
        Task("verify_recording", by_id(controller.verify), attempts=VERIFICATION_ATTEMPTS, queue=MEDIA_QUEUE),
        Task("enforce_consent", by_id(controller.enforce_consent), attempts=None),
        Task("follow_egress", controller.follow_event, attempts=20),
        Task("watch_room", rooms.check_room_of_event, attempts=20),
    ]


def define_periodic_tasks(reconciler: Reconciler, reconcile_seconds: float) -> list[PeriodicTask]:
    """Return the task that compares unfinished recordings with LiveKit's list."""
    return [PeriodicTask("reconcile", reconcile_seconds, reconciler.run_once, reconciler.forget)]
