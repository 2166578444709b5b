"""Every unfinished status of a recording has a deadline."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.recordings.deadlines import Deadlines, apply_deadline
from app.recordings.model import RecordingStatus
from tests.unit.recordings import NOON, build_recording

DEADLINES = Deadlines()
A_YEAR = timedelta(days=365)


@pytest.mark.parametrize("is_room_in_use", [False, True])
@pytest.mark.parametrize("egress_id", [None, "EG_1"])
@pytest.mark.parametrize("status", [one for one in RecordingStatus if not one.is_terminal])
def test_every_state_ends_in_time(
    status: RecordingStatus, egress_id: str | None, is_room_in_use: bool
) -> None:
    recording = build_recording(status, egress_id=egress_id)
    steps = 0
    while not recording.status.is_terminal:
        after = apply_deadline(
            recording, recording.status_at + A_YEAR, DEADLINES, is_room_in_use=is_room_in_use
        )
        assert after.status is not recording.status
        recording = replace(after, status_at=recording.status_at + A_YEAR)
        steps += 1
    assert steps <= 2


@pytest.mark.parametrize("status", [one for one in RecordingStatus if one.is_terminal])
def test_finished_recording_has_no_deadline(status: RecordingStatus) -> None:
    recording = build_recording(status, egress_id="EG_1")
    assert apply_deadline(recording, NOON + A_YEAR, DEADLINES, is_room_in_use=True) is recording


@pytest.mark.parametrize(
    ("status", "egress_id", "is_room_in_use", "limit", "after", "error"),
    [
        ("REQUESTED", None, True, DEADLINES.requested, "FAILED", "start_overdue"),
        ("STARTING", None, True, DEADLINES.unlisted_start, "FAILED", "egress_start_unknown"),
        ("STOPPING", None, True, DEADLINES.unlisted_start, "ABORTED", None),
        ("STARTING", "EG_1", True, DEADLINES.start, "STOPPING", "start_overdue"),
        ("STARTING", "EG_1", False, DEADLINES.start_of_empty_room, "STOPPING", "start_overdue"),
        ("RECORDING", "EG_1", True, DEADLINES.recording, "STOPPING", "limit_reached"),
        ("STOPPING", "EG_1", True, DEADLINES.stopping, "LOST", "stop_overdue"),
        ("VERIFYING", "EG_1", True, DEADLINES.verifying, "LOST", "verification_overdue"),
    ],
)
def test_deadline_falls_when_it_should(
    status: str, egress_id: str | None, is_room_in_use: bool, limit: timedelta, after: str, error: str | None
) -> None:
    recording = build_recording(RecordingStatus(status), egress_id=egress_id)
    assert apply_deadline(recording, NOON + limit, DEADLINES, is_room_in_use=is_room_in_use) is recording
    late = apply_deadline(
        recording, NOON + limit + timedelta(seconds=1), DEADLINES, is_room_in_use=is_room_in_use
    )
    assert (late.status, late.error) == (RecordingStatus(after), error)


def test_recording_ended_at_our_limit_says_that_it_is_truncated() -> None:
    late = apply_deadline(
        build_recording(RecordingStatus.RECORDING, egress_id="EG_1"),
        NOON + A_YEAR,
        DEADLINES,
        is_room_in_use=True,
    )
    assert late.truncated


def test_clock_that_jumped_back_ends_nothing() -> None:
    for status in RecordingStatus:
        recording = build_recording(status, egress_id="EG_1")
        assert apply_deadline(recording, NOON - A_YEAR, DEADLINES, is_room_in_use=True) is recording
