"""The states of a recording: whatever arrives, in whatever order, it only goes forward and then stays."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Conflict
from app.integrations.livekit import EgressSnapshot
from app.recordings.model import (
    Recording,
    RecordingStatus,
    failed,
    followed,
    recording_id_of,
    require_ready,
    stopped,
    verified,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SHA256 = "ab" * 32
SIZE = 1000
RANK = {status: rank for rank, status in enumerate(RecordingStatus)}
STATUSES = ("starting", "active", "ending", "complete", "failed", "aborted", "limit_reached")
RESULT_OF_END = {
    "complete": RecordingStatus.VERIFYING,
    "limit_reached": RecordingStatus.VERIFYING,
    "failed": RecordingStatus.FAILED,
    "aborted": RecordingStatus.ABORTED,
}
FINISHED = [status for status in RecordingStatus if status.is_terminal]


def _recording(status: RecordingStatus = RecordingStatus.REQUESTED, **changes: object) -> Recording:
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
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names and types are those of Recording


def _egress(status: str, at: datetime | None = NOON, reason: str | None = None) -> EgressSnapshot:
    is_stored = status in ("complete", "limit_reached")
    return EgressSnapshot(
        egress_id="EG_1",
        room_name="test_room",
        room_sid="RM_1",
        status=status,
        object_key="r/standard/c/r/video.mp4",
        started_at=NOON,
        ended_at=at if status in RESULT_OF_END else None,
        updated_at=at,
        duration_seconds=60.0 if is_stored else None,
        size_bytes=SIZE if is_stored else None,
        error_code=None,
        error_reason=reason,
    )


class Step:
    """One thing that may befall a recording, with a name for failures."""

    def __init__(self, name: str, egress: EgressSnapshot | None = None) -> None:
        self.name, self.egress = name, egress

    def __repr__(self) -> str:
        return self.name if self.egress is None else f"{self.egress.status}@{self.egress.updated_at}"

    def __call__(self, recording: Recording) -> Recording:
        if self.egress is not None:
            return followed(recording, self.egress)
        match self.name:
            case "stop":
                return stopped(recording)
            case "give up":
                return failed(recording, "livekit_timeout")
        return verified(recording, 0 if self.name == "verify empty" else SIZE, SHA256)


instants = st.none() | st.integers(0, 100).map(lambda seconds: NOON + timedelta(seconds=seconds))
snapshots = st.builds(_egress, st.sampled_from(STATUSES), instants, st.sampled_from([None, "upload_failed"]))
steps = st.sampled_from(["stop", "verify", "verify empty", "give up"]).map(Step) | snapshots.map(
    lambda egress: Step("followed", egress)
)


@given(st.sampled_from(list(RecordingStatus)), st.lists(steps, max_size=12))
def test_rank_never_falls_and_the_finished_stay(status: RecordingStatus, befalls: list[Step]) -> None:
    recording = _recording(status)
    for step in befalls:
        after = step(recording)
        if recording.status.is_terminal and recording.status is not RecordingStatus.LOST:
            assert after == recording
        elif recording.status is RecordingStatus.LOST:
            assert after.status in (RecordingStatus.LOST, RecordingStatus.READY)
        else:
            assert RANK[after.status] >= RANK[recording.status]
        recording = after


@given(st.sampled_from(list(RecordingStatus)), st.lists(steps, max_size=6), steps)
def test_the_same_news_twice_changes_nothing_more(
    status: RecordingStatus, before: list[Step], step: Step
) -> None:
    recording = reduce(lambda one, act: act(one), before, _recording(status))
    once = step(recording)
    assert step(once) == once


@st.composite
def histories(draw: st.DrawFn) -> list[EgressSnapshot]:
    """What LiveKit's list said of one egress from its start to its end, in order; stages may be skipped."""
    stages = [one for one in ("starting", "active", "ending") if draw(st.booleans())]
    stages.append(draw(st.sampled_from(sorted(RESULT_OF_END))))
    return [_egress(status, NOON + timedelta(seconds=number)) for number, status in enumerate(stages)]


@given(histories().flatmap(lambda history: st.tuples(st.just(history), st.permutations(history))))
def test_news_out_of_order_comes_to_the_same(
    both: tuple[list[EgressSnapshot], list[EgressSnapshot]],
) -> None:
    history, shuffled = both
    begun = _recording(RecordingStatus.STARTING)
    in_order, out_of_order = (reduce(followed, order, begun) for order in (history, shuffled))
    assert out_of_order == in_order
    assert in_order.status is RESULT_OF_END[history[-1].status]


def test_stop_before_livekit_was_asked_aborts() -> None:
    assert stopped(_recording()).status is RecordingStatus.ABORTED


@pytest.mark.parametrize("status", [RecordingStatus.STARTING, RecordingStatus.RECORDING])
def test_stop_of_what_runs_is_stopping(status: RecordingStatus) -> None:
    once = stopped(_recording(status))
    assert once.status is RecordingStatus.STOPPING
    assert stopped(once) is once


def test_stop_is_not_undone_by_a_list_that_still_says_active() -> None:
    recording = followed(_recording(RecordingStatus.STOPPING), _egress("active"))
    assert (recording.status, recording.egress_id) == (RecordingStatus.STOPPING, "EG_1")


def test_older_news_changes_nothing() -> None:
    recording = followed(_recording(RecordingStatus.STARTING), _egress("active", NOON + timedelta(seconds=1)))
    assert followed(recording, _egress("failed", NOON)) == recording


def test_egress_that_completes_is_not_ready_before_its_object_is_seen() -> None:
    recording = followed(_recording(RecordingStatus.STOPPING), _egress("complete"))
    assert recording.status is RecordingStatus.VERIFYING
    assert (recording.size_bytes, recording.duration_seconds, recording.room_sid) == (SIZE, 60.0, "RM_1")
    assert not recording.truncated


def test_egress_ended_at_a_limit_is_truncated_and_stays_so() -> None:
    recording = followed(_recording(RecordingStatus.RECORDING), _egress("limit_reached"))
    assert recording.truncated
    ready = verified(followed(recording, _egress("complete")), SIZE, SHA256)
    assert (ready.status, ready.truncated) == (RecordingStatus.READY, True)


def test_failed_egress_says_why() -> None:
    recording = followed(
        _recording(RecordingStatus.RECORDING), _egress("failed", NOON, reason="upload_failed")
    )
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "egress_upload_failed")


def test_failed_egress_without_a_reason_has_one_all_the_same() -> None:
    assert followed(_recording(RecordingStatus.STARTING), _egress("failed")).error == "egress_failed"


def test_object_as_reported_is_ready_with_its_digest() -> None:
    ready = verified(_recording(RecordingStatus.VERIFYING, size_bytes=SIZE), SIZE, SHA256)
    assert (ready.status, ready.sha256, ready.error) == (RecordingStatus.READY, SHA256, None)


@pytest.mark.parametrize(("reported", "stored"), [(SIZE, SIZE - 1), (SIZE, 0), (None, SIZE), (None, 0)])
def test_object_of_another_size_than_reported_fails(reported: int | None, stored: int) -> None:
    recording = verified(_recording(RecordingStatus.VERIFYING, size_bytes=reported), stored, SHA256)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "object_size_differs")
    assert recording.sha256 is None


@pytest.mark.parametrize("status", FINISHED)
def test_giving_up_leaves_the_finished_alone(status: RecordingStatus) -> None:
    recording = _recording(status)
    assert failed(recording, "livekit_timeout") is recording


def test_lost_recording_whose_object_turns_up_is_ready() -> None:
    lost = _recording(RecordingStatus.LOST, size_bytes=SIZE)
    assert verified(lost, SIZE, SHA256).status is RecordingStatus.READY


def test_live_and_finished_are_told_apart() -> None:
    assert {status for status in RecordingStatus if status.is_live and status.is_terminal} == set()
    neither = [status for status in RecordingStatus if not status.is_live and not status.is_terminal]
    assert neither == [RecordingStatus.VERIFYING]


def test_object_key_names_its_recording() -> None:
    recording_id = uuid4()
    assert recording_id_of(f"r/standard/{uuid4()}/{recording_id}/video.mp4") == recording_id


@given(st.text(max_size=60) | st.lists(st.text(max_size=8), min_size=4, max_size=6).map("/".join))
def test_object_key_that_is_not_ours_names_nothing(key: str) -> None:
    assert recording_id_of(key) is None


def test_empty_object_key_is_of_a_recording_that_is_not_ready() -> None:
    assert require_ready("r/a/b/c/d") == "r/a/b/c/d"
    with pytest.raises(Conflict, match="recording_not_ready"):
        require_ready("")
