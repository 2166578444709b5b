"""One step of a recording and what follows from it, written together in the caller's transaction.

Whoever moves a recording as the worker does it here, under the row's lock: a job, the reconciler, a look into the room.
"""

from dataclasses import replace

from app.db import Transaction
from app.recordings import store
from app.recordings.model import STOPPED_BEFORE_START, Medium, Recording, RecordingStatus, stopped

_RECORDED = (RecordingStatus.REQUESTED, RecordingStatus.STARTING, RecordingStatus.RECORDING)


async def take(tx: Transaction, before: Recording, after: Recording) -> None:
    """Writes the step and queues what it asks for; `before` is locked. The same on both sides changes nothing."""
    if after == before:
        return
    await store.update(tx, after)
    has_moved, has_begun = after.status is not before.status, after.egress_id != before.egress_id
    if has_moved and after.status is RecordingStatus.VERIFYING:
        await store.defer(tx, "verify_recording", after.id)
    if (has_moved or has_begun) and after.status is RecordingStatus.STOPPING:
        await store.defer(tx, "stop_recording", after.id)
    if has_moved:
        await stop_sound(tx, after)


async def stop_sound(tx: Transaction, video: Recording) -> None:
    """Stops the sound beside a video that is recorded no more. `video` is locked."""
    if video.medium is not Medium.VIDEO or video.status in _RECORDED:
        return
    for sound in await store.lock_live_sound(tx, video.id):
        await stop_sound_of(tx, sound, video)


async def stop_sound_of(tx: Transaction, sound: Recording, video: Recording) -> None:
    """Stops one recording of sound if its video is recorded no more. Both are locked.

    The sound gets the error of the video. If neither has one, sound that has not begun says that it was stopped.
    """
    if video.status not in _RECORDED:
        why = video.error or (None if sound.status is RecordingStatus.RECORDING else STOPPED_BEFORE_START)
        await take(tx, sound, stopped(sound, why))


async def stop_consultation(tx: Transaction, live: list[Recording], why: str) -> int:
    """Stops all that is live of a consultation, locked before; how many were stopped now."""
    stopped_now = 0
    for recording in live:
        after = stopped(recording, why)
        stopped_now += after != recording
        await take(tx, recording, replace(after, error=why) if after != recording else recording)
    return stopped_now
