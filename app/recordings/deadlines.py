"""Defines how long a recording may stay in each state (its deadline), and what happens after the deadline. Pure.

Every state that is not terminal has a deadline, so a recording also ends if LiveKit stops reporting.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.recordings.model import Recording, RecordingStatus
from app.recordings.transitions import START_OVERDUE, mark_failed, mark_lost, mark_stopped

START_UNKNOWN = "egress_start_unknown"


@dataclass(frozen=True)
class Deadlines:
    """The longest time that a recording may stay in each state. `recording` limits a recording to four hours; the
    recorder's upload credentials must stay valid for longer than this.

    `unlisted_start` applies to a start whose egress LiveKit's list does not show, and `unreadable_start` applies
    while LiveKit's list cannot be read.
    """

    requested: timedelta = timedelta(minutes=15)
    unlisted_start: timedelta = timedelta(seconds=150)
    unreadable_start: timedelta = timedelta(minutes=30)
    start: timedelta = timedelta(seconds=90)
    start_of_empty_room: timedelta = timedelta(minutes=15)
    recording: timedelta = timedelta(hours=4)
    stopping: timedelta = timedelta(minutes=30)
    verifying: timedelta = timedelta(hours=24)


def apply_deadline(
    recording: Recording,
    now: datetime,
    deadlines: Deadlines,
    *,
    is_room_in_use: bool = False,
    is_listed: bool = True,
) -> Recording:
    """If the deadline of the recording's state has passed, return the recording in its next state. Before the
    deadline, return the recording unchanged. `is_room_in_use` says that a participant publishes sound or video in
    the room. `is_listed` says that LiveKit's list could be read.
    """
    age = now - recording.status_at
    match recording.status:
        case RecordingStatus.REQUESTED if age > deadlines.requested:
            return mark_failed(recording, START_OVERDUE)
        case RecordingStatus.STARTING | RecordingStatus.STOPPING if recording.egress_id is None:
            if is_listed:
                return _end_unlisted_start(recording) if age > deadlines.unlisted_start else recording
            return mark_lost(recording, START_UNKNOWN) if age > deadlines.unreadable_start else recording
        case RecordingStatus.STARTING:
            limit = deadlines.start if is_room_in_use else deadlines.start_of_empty_room
            return mark_stopped(recording, START_OVERDUE) if age > limit else recording
        case RecordingStatus.RECORDING if age > deadlines.recording:
            return replace(mark_stopped(recording, "limit_reached"), truncated=True)
        case RecordingStatus.STOPPING if age > deadlines.stopping:
            return mark_lost(recording, "stop_overdue")
        case RecordingStatus.VERIFYING if age > deadlines.verifying:
            return mark_lost(recording, "verification_overdue")
    return recording


def _end_unlisted_start(recording: Recording) -> Recording:
    """End a recording if LiveKit never confirmed its start: ABORTED if the recording was stopped, and FAILED if
    not.
    """
    if recording.status is RecordingStatus.STOPPING:
        return replace(recording, status=RecordingStatus.ABORTED)
    return mark_failed(recording, START_UNKNOWN)
