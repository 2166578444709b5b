"""Builds recordings for the unit tests of states and deadlines."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from app.recordings.model import Recording, RecordingStatus

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def build_recording(status: RecordingStatus = RecordingStatus.REQUESTED, **changes: object) -> Recording:
    """Return a recording without an egress that was requested at NOON. `changes` replaces its fields."""
    made = Recording(
        id=UUID(int=1),
        consultation_id=UUID(int=2),
        doctor_id=UUID(int=3),
        patient_id=UUID(int=4),
        status=status,
        room_name="test_room",
        room_sid=None,
        egress_id=None,
        egress_updated_at=None,
        started_at=None,
        ended_at=None,
        duration_seconds=None,
        size_bytes=None,
        sha256=None,
        truncated=False,
        error=None,
        created_at=NOON,
        updated_at=NOON,
        status_at=NOON,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names and types are those of Recording
