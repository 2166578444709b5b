"""One transition of a recording and its consequences, written together in the caller's transaction.

Every transition by the worker goes through this module under the row's lock: those of jobs, of the reconciler, and
of a check of the room.
"""

from app.jobs.queue import defer_job
from app.postgres.database import Transaction
from app.recordings import store
from app.recordings.model import STOPPED_BEFORE_START, Medium, Recording, RecordingStatus, mark_stopped

_RECORDED = (RecordingStatus.REQUESTED, RecordingStatus.STARTING, RecordingStatus.RECORDING)


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
    """Stop the sound beside a video that is no longer recorded. `video` is locked."""
    if video.medium is not Medium.VIDEO or video.status in _RECORDED:
        return
    for sound in await store.lock_live_sound(tx, video.id):
        await stop_sound_if_video_ended(tx, sound, video)


async def stop_sound_if_video_ended(tx: Transaction, sound: Recording, video: Recording) -> None:
    """Stop one sound recording if its video is no longer recorded. Both are locked.

    The sound gets the error of the video. If neither has an error, sound that has not begun says that it was
    stopped.
    """
    if video.status not in _RECORDED:
        why = video.error or (None if sound.status is RecordingStatus.RECORDING else STOPPED_BEFORE_START)
        await write_transition(tx, sound, mark_stopped(sound, why))


async def stop_live_recordings(tx: Transaction, live: list[Recording], why: str) -> int:
    """Stop all live recordings of a consultation, which the caller has locked. Return how many were stopped now."""
    stopped_now = 0
    for recording in live:
        after = mark_stopped(recording, why)
        stopped_now += after != recording
        await write_transition(tx, recording, after)
    return stopped_now
