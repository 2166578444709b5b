"""The jobs and the periodic tasks of recordings."""

from collections.abc import Awaitable, Callable

from app.integrations.livekit.client import LiveKit, S3Target
from app.integrations.storage.client import Storage
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import MEDIA_QUEUE, STARTS_QUEUE, Task, by_id
from app.keys.keyring import Keyring
from app.media.probe import probe
from app.postgres.clock import database_time
from app.postgres.database import Database
from app.recordings.consent_enforcement import ConsentEnforcement
from app.recordings.egress_start import EgressStarter
from app.recordings.egress_updates import EgressUpdates
from app.recordings.model import SoundMode
from app.recordings.reconciler import Reconciler
from app.recordings.room_watch import RoomWatch
from app.recordings.transition_writer import Clock, TransitionWriter
from app.recordings.verification import Probe, RecordingVerifier

VERIFICATION_ATTEMPTS = 24 * 60
"""A day of attempts a minute apart. A VERIFYING recording ends at its deadline (app/recordings/deadlines.py), and a
LOST one is checked again.
"""


class RecordingJobs:
    """The services that the jobs of recordings call. `recorder_target` returns write-only credentials for one object
    key.
    """

    def __init__(
        self,
        database: Database,
        livekit: LiveKit,
        storage: Storage,
        recorder_target: Callable[[str], Awaitable[S3Target]],
        *,
        keyring: Keyring,
        clock: Clock = database_time,
        probe: Probe = probe,
        sound: SoundMode | None = None,
        has_thumbnails: bool = False,
    ) -> None:
        self.transitions = TransitionWriter(database, keyring, clock, has_thumbnails=has_thumbnails)
        self.rooms = RoomWatch(database, livekit, sound)
        self.starter = EgressStarter(database, livekit, recorder_target, self.transitions, self.rooms, clock)
        self.updates = EgressUpdates(database, livekit, self.transitions)
        self.verifier = RecordingVerifier(database, storage, self.transitions, probe)
        self.consent = ConsentEnforcement(database)


def define_tasks(jobs: RecordingJobs) -> list[Task]:
    """Return the tasks that start, stop and verify recordings, enforce consents and read LiveKit's list after a
    webhook.
    """
    return [
        Task(
            "start_recording",
            by_id(jobs.starter.start),
            give_up=by_id(jobs.starter.give_up),
            queue=STARTS_QUEUE,
        ),
        Task("stop_recording", by_id(jobs.updates.stop), attempts=None),
        Task(
            "verify_recording",
            by_id(jobs.verifier.verify),
            attempts=VERIFICATION_ATTEMPTS,
            queue=MEDIA_QUEUE,
        ),
        Task("enforce_consent", by_id(jobs.consent.enforce), attempts=None),
        Task("follow_egress", jobs.updates.apply_event, attempts=20),
        Task("watch_room", jobs.rooms.check_room_of_event, attempts=20),
    ]


def define_periodic_tasks(reconciler: Reconciler, reconcile_seconds: float) -> list[PeriodicTask]:
    """Return the task that compares unfinished recordings with LiveKit's list."""
    return [PeriodicTask("reconcile", reconcile_seconds, reconciler.run_once, reconciler.forget)]
