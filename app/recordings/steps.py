"""One step of a recording and what follows from it, written together in the caller's transaction.

Whoever moves a recording as the worker does it here, under the row's lock: a job, the reconciler, a look into the room.
"""

from dataclasses import replace

from app.db import Transaction
from app.recordings import store
from app.recordings.model import STOPPED_BEFORE_START, Medium, Recording, RecordingStatus, stopped


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
        await stop_speakers(tx, after)


async def stop_speakers(tx: Transaction, video: Recording) -> None:
    """The sound is recorded as long as the picture is; what of it has not begun says why the picture ended."""
    if video.medium is not Medium.VIDEO or video.status in (
        RecordingStatus.REQUESTED,
        RecordingStatus.STARTING,
        RecordingStatus.RECORDING,
    ):
        return
    speakers = await store.lock_speakers(tx, video.id)
    if speakers is not None:
        why = video.error or (None if speakers.status is RecordingStatus.RECORDING else STOPPED_BEFORE_START)
        await take(tx, speakers, stopped(speakers, why))


async def stop_consultation(tx: Transaction, live: list[Recording], why: str) -> int:
    """Stops all that is live of a consultation, locked before; how many were stopped now."""
    stopped_now = 0
    for recording in live:
        after = stopped(recording, why)
        stopped_now += after != recording
        await take(tx, recording, replace(after, error=why) if after != recording else recording)
    return stopped_now
