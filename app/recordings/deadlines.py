"""How long a recording may stay in each state, and what becomes of it then. Pure.

Every state that is not terminal has a deadline: nothing stays stuck, whatever is never heard again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.recordings.model import START_OVERDUE, Recording, RecordingStatus, failed, lost, stopped

START_UNKNOWN = "egress_start_unknown"


@dataclass(frozen=True)
class Deadlines:
    """How long at most. `recording` is the longest consultation; the uploader's credentials live longer than it.

    `unanswered_start` is for a start that LiveKit's list does not show, `unheard_start` for one while there is no list.
    """

    requested: timedelta = timedelta(minutes=15)
    unanswered_start: timedelta = timedelta(seconds=150)
    unheard_start: timedelta = timedelta(minutes=30)
    start: timedelta = timedelta(seconds=90)
    start_of_empty_room: timedelta = timedelta(minutes=15)
    recording: timedelta = timedelta(hours=4)
    stopping: timedelta = timedelta(minutes=30)
    verifying: timedelta = timedelta(hours=24)


def overdue(
    recording: Recording,
    now: datetime,
    deadlines: Deadlines,
    *,
    is_room_in_use: bool = False,
    is_listed: bool = True,
) -> Recording:
    """The recording after its deadline, the same before it.

    `is_room_in_use`: somebody in the room publishes. `is_listed`: LiveKit's list could be read just now.
    """
    age = now - recording.status_at
    match recording.status:
        case RecordingStatus.REQUESTED if age > deadlines.requested:
            return failed(recording, START_OVERDUE)
        case RecordingStatus.STARTING | RecordingStatus.STOPPING if recording.egress_id is None:
            if is_listed:
                return _unanswered(recording) if age > deadlines.unanswered_start else recording
            return lost(recording, START_UNKNOWN) if age > deadlines.unheard_start else recording
        case RecordingStatus.STARTING:
            limit = deadlines.start if is_room_in_use else deadlines.start_of_empty_room
            return stopped(recording, START_OVERDUE) if age > limit else recording
        case RecordingStatus.RECORDING if age > deadlines.recording:
            return replace(stopped(recording, "limit_reached"), truncated=True)
        case RecordingStatus.STOPPING if age > deadlines.stopping:
            return lost(recording, "stop_overdue")
        case RecordingStatus.VERIFYING if age > deadlines.verifying:
            return lost(recording, "verification_overdue")
    return recording


def _unanswered(recording: Recording) -> Recording:
    """LiveKit never said that it began: freed, as what was stopped or as what failed."""
    if recording.status is RecordingStatus.STOPPING:
        return replace(recording, status=RecordingStatus.ABORTED)
    return failed(recording, START_UNKNOWN)
