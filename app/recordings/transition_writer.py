"""Writes each transition of a recording together with its jobs, in one transaction.

The worker's jobs, the reconciler and the checks of rooms make every transition through this module, while the
recording's row is locked.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from app.jobs.queue import defer_job
from app.keys import service as keys
from app.keys.keyring import Keyring
from app.postgres.clock import database_time
from app.postgres.database import Database, Transaction
from app.recordings import store
from app.recordings.model import Medium, Recording, RecordingStatus
from app.recordings.transitions import STOPPED_BEFORE_START, mark_stopped

Clock = Callable[[Transaction], Awaitable[datetime]]
_RECORDED = (RecordingStatus.REQUESTED, RecordingStatus.STARTING, RecordingStatus.RECORDING)


class TransitionWriter:
    """Writes transitions of recordings as the worker. Each transition has its own database transaction. If
    `has_thumbnails` is true, a video that becomes READY gets a thumbnail.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clock: Clock = database_time,
        *,
        has_thumbnails: bool = False,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._has_thumbnails = has_thumbnails

    async def apply(
        self,
        recording_id: UUID,
        decide: Callable[[Recording, datetime], Recording],
        object_key: str | None = None,
    ) -> Recording | None:
        """Lock the recording, and call `decide` with the recording and the database's current time. Return the
        recording afterwards.

        `object_key` is the object key of an egress. If `decide` assigns the egress to the recording, the recording
        gets the egress's object key.
        """
        async with self._database.as_service("move_recording") as tx:
            before = await store.lock(tx, recording_id)
            if before is None:
                return None
            after = decide(before, await self._clock(tx))
            if object_key is not None and before.egress_id is None and after.egress_id is not None:
                await store.change_object_key(tx, recording_id, object_key)
            await write_transition(tx, before, after)
            if _becomes_ready(before, after):
                await keys.make_recording_key(tx, self._keyring, recording_id)
                if self._has_thumbnails:
                    await store.request_thumbnail(tx, recording_id)
            return after


async def write_transition(tx: Transaction, before: Recording, after: Recording) -> None:
    """Write the transition and queue its jobs. `before` is locked. Equal recordings change nothing."""
    if after == before:
        return
    await store.update(tx, after)
    has_moved, has_begun = after.status is not before.status, after.egress_id != before.egress_id
    if has_moved and after.status is RecordingStatus.VERIFYING:
        await defer_job(tx, "verify_recording", after.id)
    if (has_moved or has_begun) and after.status is RecordingStatus.STOPPING:
        await defer_job(tx, "stop_recording", after.id)
    if has_moved:
        await stop_sound(tx, after)


async def stop_sound(tx: Transaction, video: Recording) -> None:
    """If the video is no longer recorded, stop the sound recordings beside it. `video` is locked."""
    if video.medium is not Medium.VIDEO or video.status in _RECORDED:
        return
    for sound in await store.lock_live_sound(tx, video.id):
        await stop_sound_if_video_ended(tx, sound, video)


async def stop_sound_if_video_ended(tx: Transaction, sound: Recording, video: Recording) -> None:
    """Stop one sound recording if its video is no longer recorded. Both are locked.

    The stopped sound recording gets the error of its video. If the video has no error, a sound recording that has
    not begun gets the error STOPPED_BEFORE_START.
    """
    if video.status not in _RECORDED:
        why = video.error or (None if sound.status is RecordingStatus.RECORDING else STOPPED_BEFORE_START)
        await write_transition(tx, sound, mark_stopped(sound, why))


async def stop_live_recordings(tx: Transaction, live: list[Recording], why: str) -> int:
    """Stop all live recordings of a consultation. The caller has locked the recordings in `live`. Return how many
    recordings this call stopped.
    """
    stopped_now = 0
    for recording in live:
        after = mark_stopped(recording, why)
        stopped_now += after != recording
        await write_transition(tx, recording, after)
    return stopped_now


def _becomes_ready(before: Recording, after: Recording) -> bool:
    """Return whether the transition makes a video READY, so that the video needs its data key."""
    is_ready, was_ready = (one.status is RecordingStatus.READY for one in (after, before))
    return is_ready and not was_ready and after.medium is Medium.VIDEO
