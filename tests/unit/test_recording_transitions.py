"""In whichever order events arrive, a recording's status only moves forward, and a final status never changes."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Conflict
from app.integrations.livekit.client import EgressSnapshot
from app.recordings.model import Recording, RecordingStatus
from app.recordings.transitions import (
    OBJECT_PATIENCE,
    TRANSITIONS,
    apply_egress,
    mark_failed,
    mark_lost,
    mark_object_absent,
    mark_stopped,
    mark_verified,
    note_recorder,
    require_ready,
)
from tests.unit.recordings import NOON, build_recording

SHA256 = "ab" * 32
SIZE = 1000
RANK = {status: rank for rank, status in enumerate(RecordingStatus)}
STATUSES = ("starting", "active", "ending", "complete", "failed", "aborted", "limit_reached")
RESULT_OF_END = {
    "complete": RecordingStatus.VERIFYING,
    "limit_reached": RecordingStatus.VERIFYING,
    "failed": RecordingStatus.VERIFYING,
    "aborted": RecordingStatus.ABORTED,
}
FINISHED = [status for status in RecordingStatus if status.is_terminal]


def _egress(status: str, at: datetime | None = NOON, reason: str | None = None) -> EgressSnapshot:
    is_stored = status in ("complete", "limit_reached")
    return EgressSnapshot(
        egress_id="EG_1",
        room_name="test_room",
        room_sid="RM_1",
        status=status,
        object_key="r/d90/c/r/video.mp4",
        started_at=NOON,
        ended_at=at if status in RESULT_OF_END else None,
        updated_at=at,
        duration_seconds=60.0 if is_stored else None,
        size_bytes=SIZE if is_stored else None,
        error_code=None,
        error_reason=reason,
    )


class Step:
    """One event that can change a recording. The event's name appears in the messages of failed tests."""

    def __init__(self, name: str, egress: EgressSnapshot | None = None) -> None:
        self.name, self.egress = name, egress

    def __repr__(self) -> str:
        return self.name if self.egress is None else f"{self.egress.status}@{self.egress.updated_at}"

    def __call__(self, recording: Recording) -> Recording:
        if self.egress is not None:
            return apply_egress(recording, self.egress)
        match self.name:
            case "stop":
                return mark_stopped(recording)
            case "give up":
                return mark_failed(recording, "livekit_timeout")
            case "lose":
                return mark_lost(recording, "egress_lost")
            case "absent":
                return mark_object_absent(recording, NOON + OBJECT_PATIENCE)
        return mark_verified(recording, 0 if self.name == "verify empty" else SIZE, SHA256)


instants = st.none() | st.integers(0, 100).map(lambda seconds: NOON + timedelta(seconds=seconds))
snapshots = st.builds(_egress, st.sampled_from(STATUSES), instants, st.sampled_from([None, "upload_failed"]))
steps = st.sampled_from(["stop", "verify", "verify empty", "give up", "lose", "absent"]).map(
    Step
) | snapshots.map(lambda egress: Step("followed", egress))


@given(st.sampled_from(list(RecordingStatus)), st.lists(steps, max_size=12))
def test_rank_never_falls_and_the_finished_stay(status: RecordingStatus, befalls: list[Step]) -> None:
    recording = build_recording(status)
    for step in befalls:
        after = step(recording)
        if recording.status.is_terminal and recording.status is not RecordingStatus.LOST:
            assert after == recording
        elif recording.status is RecordingStatus.LOST:
            assert after.status in (RecordingStatus.LOST, RecordingStatus.READY)
        else:
            assert RANK[after.status] >= RANK[recording.status]
        assert after.status is recording.status or after.status in TRANSITIONS[recording.status]
        recording = after


@given(st.sampled_from(list(RecordingStatus)), st.lists(steps, max_size=6), steps)
def test_repeated_snapshot_changes_nothing(status: RecordingStatus, before: list[Step], step: Step) -> None:
    recording = reduce(lambda one, act: act(one), before, build_recording(status))
    once = step(recording)
    assert step(once) == once


@st.composite
def histories(draw: st.DrawFn) -> list[EgressSnapshot]:
    """Return the snapshots that LiveKit's list shows of one egress from its start to its end, in order. Stages may
    be skipped.
    """
    stages = [one for one in ("starting", "active", "ending") if draw(st.booleans())]
    stages.append(draw(st.sampled_from(sorted(RESULT_OF_END))))
    return [_egress(status, NOON + timedelta(seconds=number)) for number, status in enumerate(stages)]


@given(histories().flatmap(lambda history: st.tuples(st.just(history), st.permutations(history))))
def test_snapshots_in_another_order_have_the_same_result(
    both: tuple[list[EgressSnapshot], list[EgressSnapshot]],
) -> None:
    history, shuffled = both
    begun = build_recording(RecordingStatus.STARTING)
    in_order, out_of_order = (reduce(apply_egress, order, begun) for order in (history, shuffled))
    assert out_of_order == in_order
    assert in_order.status is RESULT_OF_END[history[-1].status]


def test_stop_before_livekit_was_asked_aborts() -> None:
    assert mark_stopped(build_recording()).status is RecordingStatus.ABORTED


@pytest.mark.parametrize("status", [RecordingStatus.STARTING, RecordingStatus.RECORDING])
def test_stop_of_what_runs_is_stopping(status: RecordingStatus) -> None:
    once = mark_stopped(build_recording(status))
    assert once.status is RecordingStatus.STOPPING
    assert mark_stopped(once) is once


NEVER_BEGAN = ("start_not_received", "stopped_before_start", "room_closed_before_start")


@pytest.mark.parametrize("status", [RecordingStatus.REQUESTED, RecordingStatus.STARTING])
def test_stop_by_the_doctor_before_it_began_is_its_error(status: RecordingStatus) -> None:
    assert mark_stopped(build_recording(status)).error == "stopped_by_request"


@pytest.mark.parametrize(
    "why", ["stopped_by_request", "consent_withdrawn", "unknown_participant", "staff_suspended"]
)
@pytest.mark.parametrize("end", ["aborted", "failed"])
@pytest.mark.parametrize("reason", [*NEVER_BEGAN, None])
def test_recording_stopped_before_it_began_names_who_stopped_it_whatever_livekit_says(
    why: str, end: str, reason: str | None
) -> None:
    if (end, reason) == ("failed", None):
        return  # This combination is an ordinary failure
    asked = mark_stopped(
        build_recording(RecordingStatus.STARTING), None if why == "stopped_by_request" else why
    )
    for news in ([], [_egress("starting")], [_egress("ending")]):
        recording = apply_egress(reduce(apply_egress, news, asked), _egress(end, NOON, reason))
        if end == "failed":
            recording = mark_object_absent(recording, NOON)
        assert (recording.status.is_terminal, recording.error) == (True, why)


@pytest.mark.parametrize("why", [None, "stopped_by_request", "egress_stopped_before_start"])
@pytest.mark.parametrize("end", ["complete", "limit_reached"])
def test_stop_that_came_too_late_to_prevent_a_start_is_no_error_of_what_was_recorded(
    end: str, why: str | None
) -> None:
    asked = mark_stopped(build_recording(RecordingStatus.STARTING), why)
    ready = mark_verified(reduce(apply_egress, [_egress("active"), _egress(end)], asked), SIZE, SHA256)
    assert (ready.status, ready.error) == (RecordingStatus.READY, None)


@pytest.mark.parametrize("reason", ["upload_failed", "resources_exhausted", "failed"])
def test_recording_that_failed_after_a_stop_says_that_it_failed(reason: str) -> None:
    asked = mark_stopped(build_recording(RecordingStatus.STARTING))
    assert apply_egress(asked, _egress("failed", NOON, reason)).error == f"egress_{reason}"


@pytest.mark.parametrize("reason", NEVER_BEGAN)
def test_egress_that_ended_before_it_began_without_a_stop_of_ours_says_what_livekit_says(reason: str) -> None:
    recording = apply_egress(build_recording(RecordingStatus.STARTING), _egress("aborted", NOON, reason))
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, f"egress_{reason}")


def test_stop_is_not_undone_by_a_list_that_still_says_active() -> None:
    recording = apply_egress(build_recording(RecordingStatus.STOPPING), _egress("active"))
    assert (recording.status, recording.egress_id) == (RecordingStatus.STOPPING, "EG_1")


def test_older_snapshot_of_the_same_rank_changes_nothing() -> None:
    recording = apply_egress(
        build_recording(RecordingStatus.STARTING), _egress("active", NOON + timedelta(seconds=1))
    )
    assert apply_egress(recording, _egress("active", NOON)) == recording


def test_higher_rank_is_believed_though_the_clock_of_livekits_node_was_set_back() -> None:
    recording = apply_egress(
        build_recording(RecordingStatus.STARTING), _egress("active", NOON + timedelta(hours=1))
    )
    assert apply_egress(recording, _egress("complete", NOON)).status is RecordingStatus.VERIFYING


def test_egress_that_completes_is_not_ready_before_its_object_is_seen() -> None:
    recording = apply_egress(build_recording(RecordingStatus.STOPPING), _egress("complete"))
    assert recording.status is RecordingStatus.VERIFYING
    assert (recording.size_bytes, recording.duration_seconds, recording.room_sid) == (SIZE, 60.0, "RM_1")
    assert not recording.truncated


def test_egress_ended_at_a_limit_is_truncated_and_stays_so() -> None:
    recording = apply_egress(build_recording(RecordingStatus.RECORDING), _egress("limit_reached"))
    assert recording.truncated
    ready = mark_verified(apply_egress(recording, _egress("complete")), SIZE, SHA256)
    assert (ready.status, ready.truncated) == (RecordingStatus.READY, True)


def test_failed_egress_has_its_reason() -> None:
    recording = apply_egress(
        build_recording(RecordingStatus.RECORDING), _egress("failed", NOON, reason="upload_failed")
    )
    assert (recording.status, recording.error) == (RecordingStatus.VERIFYING, "egress_upload_failed")
    gone = mark_object_absent(recording, NOON)
    assert (gone.status, gone.error) == (RecordingStatus.FAILED, "egress_upload_failed")


def test_failed_egress_whose_object_is_there_all_the_same_is_ready_and_truncated() -> None:
    recording = apply_egress(
        build_recording(RecordingStatus.RECORDING), _egress("failed", NOON, reason="upload_failed")
    )
    ready = mark_verified(recording, SIZE, SHA256, 12.5)
    assert (ready.status, ready.truncated, ready.error) == (
        RecordingStatus.READY,
        True,
        "egress_upload_failed",
    )
    assert (ready.size_bytes, ready.duration_seconds) == (SIZE, 12.5)


@pytest.mark.parametrize(("stated", "duration"), [(54.18, 54.18), (35.66, 35.66), (None, 60.0)])
def test_duration_is_the_files_and_not_livekits_where_the_file_states_one(
    stated: float | None, duration: float
) -> None:
    recording = apply_egress(build_recording(RecordingStatus.STOPPING), _egress("complete"))
    assert mark_verified(recording, SIZE, SHA256, stated).duration_seconds == duration


def test_reported_object_is_waited_for_and_lost_in_the_end() -> None:
    recording = build_recording(RecordingStatus.VERIFYING, size_bytes=SIZE)
    assert mark_object_absent(recording, NOON + OBJECT_PATIENCE - timedelta(seconds=1)) == recording
    gone = mark_object_absent(recording, NOON + OBJECT_PATIENCE)
    assert (gone.status, gone.error) == (RecordingStatus.LOST, "object_missing")


def test_start_stopped_for_being_overdue_fails() -> None:
    recording = mark_stopped(build_recording(RecordingStatus.STARTING), "start_overdue")
    ended = apply_egress(recording, _egress("aborted"))
    assert (ended.status, ended.error) == (RecordingStatus.FAILED, "start_overdue")


def test_reason_of_a_stop_is_kept() -> None:
    recording = mark_stopped(build_recording(RecordingStatus.RECORDING), "consent_missing")
    ready = mark_verified(apply_egress(recording, _egress("complete")), SIZE, SHA256)
    assert (ready.status, ready.error) == (RecordingStatus.READY, "consent_missing")


def test_failed_egress_without_a_reason_has_one_all_the_same() -> None:
    assert apply_egress(build_recording(RecordingStatus.STARTING), _egress("failed")).error == "egress_failed"


def test_object_as_reported_is_ready_with_its_digest() -> None:
    ready = mark_verified(build_recording(RecordingStatus.VERIFYING, size_bytes=SIZE), SIZE, SHA256)
    assert (ready.status, ready.sha256, ready.error) == (RecordingStatus.READY, SHA256, None)


@pytest.mark.parametrize(("reported", "stored"), [(SIZE, SIZE - 1), (SIZE, 0), (None, 0)])
def test_object_of_another_size_than_reported_fails(reported: int | None, stored: int) -> None:
    recording = mark_verified(build_recording(RecordingStatus.VERIFYING, size_bytes=reported), stored, SHA256)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "object_size_differs")
    assert recording.sha256 is None


@pytest.mark.parametrize("status", FINISHED)
def test_giving_up_does_not_change_a_finished_recording(status: RecordingStatus) -> None:
    recording = build_recording(status)
    assert mark_failed(recording, "livekit_timeout") is recording


def test_lost_recording_whose_object_turns_up_is_ready() -> None:
    lost = build_recording(RecordingStatus.LOST, size_bytes=SIZE)
    assert mark_verified(lost, SIZE, SHA256).status is RecordingStatus.READY


def test_only_verifying_is_neither_live_nor_terminal() -> None:
    neither = [status for status in RecordingStatus if not status.is_live and not status.is_terminal]
    assert neither == [RecordingStatus.VERIFYING]


def test_every_status_that_is_not_terminal_has_a_transition() -> None:
    assert set(TRANSITIONS) == set(RecordingStatus)
    assert {status for status, after in TRANSITIONS.items() if not after} == {RecordingStatus.DELETED}
    for status in set(FINISHED) - {RecordingStatus.DELETED, RecordingStatus.LOST}:
        assert TRANSITIONS[status] == {RecordingStatus.DELETED}
    assert TRANSITIONS[RecordingStatus.LOST] == {RecordingStatus.READY, RecordingStatus.DELETED}


def test_no_transition_leads_back() -> None:
    ways = {pair for pair in product(RecordingStatus, repeat=2) if pair[1] in TRANSITIONS[pair[0]]}
    back = {(one, other) for one, other in ways if RANK[other] <= RANK[one]}
    assert back == {(RecordingStatus.LOST, RecordingStatus.READY)}


def test_empty_object_key_is_of_a_recording_that_is_not_ready() -> None:
    assert require_ready("r/a/b/c/d") == "r/a/b/c/d"
    with pytest.raises(Conflict, match="recording_not_ready"):
        require_ready("")


def _recorded(**changes: object) -> Recording:
    return build_recording(RecordingStatus.RECORDING, egress_id="EG_1", started_at=NOON, **changes)


@pytest.mark.parametrize("status", [RecordingStatus.RECORDING, RecordingStatus.STOPPING])
def test_recording_is_interrupted_when_its_recorder_comes_back_under_another_sid(
    status: RecordingStatus,
) -> None:
    seen = note_recorder(replace(_recorded(), status=status), "PA_1", NOON - timedelta(seconds=1))
    assert (seen.recorder_sid, seen.interrupted) == ("PA_1", False)
    assert note_recorder(seen, "PA_1", NOON) == seen
    back = note_recorder(seen, "PA_2", NOON + timedelta(seconds=1))
    assert (back.recorder_sid, back.interrupted) == ("PA_2", True)
    assert note_recorder(back, "PA_2", NOON).interrupted


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-2, False), (3, False), (10, False), (11, True), (3600, True)]
)
def test_recorder_seen_first_is_back_if_it_joined_long_after_the_start(seconds: int, expected: bool) -> None:
    seen = note_recorder(_recorded(), "PA_1", NOON + timedelta(seconds=seconds))
    assert seen.interrupted is expected


def test_recorder_that_joins_twice_before_the_start_interrupts_nothing() -> None:
    starting = build_recording(RecordingStatus.STARTING, egress_id="EG_1", started_at=NOON)
    seen = note_recorder(note_recorder(starting, "PA_1", NOON), "PA_2", NOON + timedelta(minutes=1))
    assert (seen.recorder_sid, seen.interrupted) == ("PA_2", False)


@pytest.mark.parametrize("status", [one for one in RecordingStatus if not one.is_live])
def test_recorder_of_a_recording_that_is_not_live_changes_nothing(status: RecordingStatus) -> None:
    recording = replace(_recorded(recorder_sid="PA_1"), status=status)
    assert note_recorder(recording, "PA_2", NOON + timedelta(hours=1)) == recording


@pytest.mark.parametrize(
    ("reported", "in_file", "expected"),
    [(62.75, 45.17, True), (60.7, 60.0, False), (50.0, 54.2, False), (None, 1.0, False), (60.0, None, False)],
)
def test_file_much_shorter_than_reported_is_interrupted(
    reported: float | None, in_file: float | None, expected: bool
) -> None:
    verifying = build_recording(RecordingStatus.VERIFYING, size_bytes=SIZE, duration_seconds=reported)
    ready = mark_verified(verifying, SIZE, SHA256, in_file)
    assert (ready.status, ready.interrupted) == (RecordingStatus.READY, expected)
