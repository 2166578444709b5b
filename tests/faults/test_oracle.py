"""Each test breaks one law of `oracle.py` in the rows or in the cloud, and requires that the oracle detects it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.integrations.livekit.client import S3Target
from app.integrations.storage.caller import Credentials
from tests.faults.cloud import Ask, Cloud, Egress
from tests.faults.oracle import (
    Row,
    judge,
    judge_ask,
    judge_death,
    judge_end,
    judge_found_again,
    judge_withdrawal,
)

ROOM = "test_room"
KEY = "keep/a/b/video.mp4"
NEXT_KEY = "keep/a/b/video-2.mp4"
ID, OTHER_ID = UUID(int=1), UUID(int=2)
UPLOAD = S3Target("http://nowhere.invalid", "auto", "bucket", Credentials("id", "secret"))
RECORDED = [
    "REQUESTED",
    "REQUESTED>STARTING",
    "STARTING>RECORDING",
    "RECORDING>STOPPING",
    "STOPPING>VERIFYING",
]


@dataclass
class Case:
    """A READY recording, and its state in LiveKit and the bucket."""

    cloud: Cloud
    egress: Egress
    row: Row


@pytest.fixture
async def case(anyio_backend: str) -> Case:
    cloud = Cloud()
    cloud.enter(ROOM, "doctor", is_publisher=True)
    snapshot = await cloud.start_room_composite(room_name=ROOM, object_key=KEY, upload=UPLOAD)
    egress = cloud.egresses[snapshot.egress_id]
    cloud.change(egress, "active")
    cloud.change(egress, "ending")
    cloud.end(egress, "complete")
    content = egress.content
    row = Row(
        id=ID,
        medium="VIDEO",
        status="READY",
        egress_id=snapshot.egress_id,
        error=None,
        truncated=False,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        status_at=cloud.now(),
        object_key=KEY,
        steps=[*RECORDED, "VERIFYING>READY"],
    )
    return Case(cloud, egress, row)


def consents() -> None:
    """The argument `refusal` for the oracle: return None, which means that every participant consents."""


def at(row: Row, status: str) -> Row:
    """Return a copy of the recording as it was when it reached this status."""
    seen = [step.rpartition(">")[2] for step in row.steps]
    return replace(row, status=status, steps=row.steps[: seen.index(status) + 1])


def ended(row: Row, *last: str, **changes: Any) -> Row:
    """Return the recording with these transitions after VERIFYING, in place of its own."""
    return replace(
        row, status=last[-1].partition(":")[0].rpartition(">")[2], steps=[*RECORDED, *last], **changes
    )


def records(case: Case) -> None:
    """Let the in-memory LiveKit continue to record the egress."""
    case.egress.snapshot = replace(case.egress.snapshot, status="active", ended_at=None)


@pytest.mark.anyio
async def test_oracle_accepts_a_correct_recording(case: Case) -> None:
    judge([case.row], {ID: "STOPPING"}, case.cloud)
    judge_death([case.row], {ID: "STOPPING"}, case.cloud)
    judge_end([case.row], case.cloud)
    judge_found_again([case.row])
    judge_withdrawal(case.cloud, "the patient does not consent")


@pytest.mark.anyio
async def test_oracle_rejects_two_live_recordings_of_one_medium(
    case: Case,
) -> None:
    records(case)
    video = at(case.row, "RECORDING")
    judge([video, replace(video, id=OTHER_ID, medium="SPEAKERS")], {}, case.cloud)
    with pytest.raises(AssertionError, match="2 VIDEO recordings are live at once"):
        judge([video, replace(video, id=OTHER_ID)], {}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_ready_without_an_object(case: Case) -> None:
    del case.cloud.bucket.objects[KEY]
    with pytest.raises(AssertionError, match="READY without an object"):
        judge([case.row], {}, case.cloud)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "0" * 64}, "sha256"),
        ({"sha256": None}, "sha256"),
        ({"size_bytes": 1}, "size_bytes"),
        ({"size_bytes": None}, "size_bytes"),
    ],
)
async def test_oracle_rejects_ready_with_a_wrong_digest_or_size(
    case: Case, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        judge([replace(case.row, **changes)], {}, case.cloud)


def of(row: Row, content: bytes) -> Row:
    return replace(row, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.anyio
async def test_oracle_rejects_ready_with_a_playlist(case: Case) -> None:
    case.cloud.bucket.put(KEY, b"#EXTM3U")
    with pytest.raises(AssertionError, match="READY and no recording"):
        judge([of(case.row, b"#EXTM3U")], {}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_ready_with_an_object_shorter_than_reported(case: Case) -> None:
    short = case.egress.content[:-2]
    case.cloud.bucket.put(KEY, short)
    truncated = replace(of(case.row, short), truncated=True)
    for row in (of(case.row, short), truncated):
        with pytest.raises(AssertionError, match="bytes were reported"):
            judge([row], {}, case.cloud)
    unheard = [*RECORDED[:-1], "STOPPING>LOST:stop_overdue", "LOST>READY:stop_overdue"]
    judge([replace(truncated, steps=unheard)], {}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_ready_with_the_object_of_another_egress(case: Case) -> None:
    case.egress.snapshot = replace(case.egress.snapshot, object_key=NEXT_KEY)
    with pytest.raises(AssertionError, match="object of another egress"):
        judge([case.row], {}, case.cloud)


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING"])
async def test_oracle_rejects_an_intent_that_does_not_end(case: Case, status: str) -> None:
    with pytest.raises(AssertionError, match=f"stuck in {status}"):
        judge_end([at(case.row, status)], case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_an_egress_without_a_live_recording(case: Case) -> None:
    records(case)
    with pytest.raises(AssertionError, match="records for nobody"):
        judge_end([], case.cloud)


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["FAILED", "LOST", "ABORTED"])
async def test_oracle_rejects_a_complete_object_without_a_ready_recording(case: Case, status: str) -> None:
    with pytest.raises(AssertionError, match=f"its object is there, and it is {status}"):
        judge_end([ended(case.row, f"VERIFYING>{status}:object_missing")], case.cloud)


@pytest.mark.anyio
async def test_oracle_accepts_failed_if_the_object_appeared_later(case: Case) -> None:
    failed = ended(
        case.row, "VERIFYING>FAILED:object_missing", status_at=case.row.status_at - timedelta(hours=1)
    )
    judge_end([failed], case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_lost_with_an_existing_object(case: Case) -> None:
    with pytest.raises(AssertionError, match="still LOST"):
        judge_found_again([ended(case.row, "VERIFYING>LOST:object_missing")])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "back",
    [
        "READY>FAILED",
        "READY>VERIFYING",
        "READY>LOST",
        "FAILED>READY",
        "FAILED>VERIFYING",
        "ABORTED>RECORDING",
        "ABORTED>READY",
        "LOST>FAILED",
        "LOST>VERIFYING",
    ],
)
async def test_oracle_rejects_a_transition_from_a_terminal_status(case: Case, back: str) -> None:
    before = back.partition(">")[0]
    with pytest.raises(AssertionError, match="leads back"):
        judge([ended(case.row, f"VERIFYING>{before}", back)], {}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_a_live_status_that_moves_back(
    case: Case,
) -> None:
    judge([ended(case.row, "VERIFYING>LOST:object_missing", "LOST>READY:object_missing")], {}, case.cloud)
    with pytest.raises(AssertionError, match="leads back"):
        judge([ended(case.row, "VERIFYING>RECORDING")], {}, case.cloud)


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(6))
async def test_oracle_rejects_a_transition_without_an_audit_row(case: Case, number: int) -> None:
    steps = [step for place, step in enumerate(case.row.steps) if place != number]
    with pytest.raises(AssertionError):
        judge([replace(case.row, steps=steps)], {}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_an_observed_status_without_an_audit_row(case: Case) -> None:
    with pytest.raises(AssertionError, match="no audit row tells"):
        judge([case.row], {ID: "FAILED"}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_a_disappeared_recording(case: Case) -> None:
    with pytest.raises(AssertionError, match="recordings are gone"):
        judge([case.row], {ID: "READY", OTHER_ID: "READY"}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_an_end_that_livekit_does_not_list(case: Case) -> None:
    records(case)
    with pytest.raises(AssertionError, match="its egress is active"):
        judge([at(case.row, "VERIFYING")], {}, case.cloud)
    failed = ended(case.row, "VERIFYING>FAILED:egress_upload_failed", error="egress_upload_failed")
    with pytest.raises(AssertionError, match="LiveKit"):
        judge([failed], {}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_a_dead_verdict_on_a_recording_egress(case: Case) -> None:
    records(case)
    lost = replace(case.row, status="LOST", error="egress_lost")
    with pytest.raises(AssertionError, match="called dead"):
        judge_death([lost], {ID: "RECORDING"}, case.cloud)


@pytest.mark.anyio
async def test_oracle_rejects_a_start_request_without_consent(case: Case) -> None:
    key = KEY.replace("/b/", "/c/")
    judge_ask(key, case.cloud, consents, consents)
    for refusal, objection in ((lambda: "patient", consents), (consents, lambda: "stranger")):
        with pytest.raises(AssertionError, match="recorded without consent"):
            judge_ask(key, case.cloud, refusal, objection)


@pytest.mark.anyio
@pytest.mark.parametrize(("commits", "looks"), [(True, False), (False, True), (False, False)])
async def test_oracle_judges_a_start_request_by_the_last_commit_and_the_last_list(
    case: Case, commits: bool, looks: bool
) -> None:
    key = KEY.replace("/b/", "/c/")
    case.cloud.faults.interruptions += 2
    if commits:
        case.cloud.faults.commit()
    if looks:
        await case.cloud.participants(ROOM)
    says: list[tuple[bool, Callable[[], str | None], Callable[[], str | None]]] = [
        (commits, lambda: "patient", consents),
        (looks, consents, lambda: "stranger"),
    ]
    for is_known, refusal, objection in says:
        if is_known:
            with pytest.raises(AssertionError, match="recorded without consent"):
                judge_ask(key, case.cloud, refusal, objection)
        else:
            judge_ask(key, case.cloud, refusal, objection)


@pytest.mark.anyio
async def test_oracle_rejects_a_second_start_request_too_early_or_with_the_same_object(case: Case) -> None:
    with pytest.raises(AssertionError, match="asked twice"):
        judge_ask(KEY, case.cloud, consents, consents)
    with pytest.raises(AssertionError, match="too soon"):
        judge_ask(NEXT_KEY, case.cloud, consents, consents)
    case.cloud.asks[0] = Ask(KEY, case.cloud.now() - timedelta(seconds=61))
    judge_ask(NEXT_KEY, case.cloud, consents, consents)
    records(case)
    with pytest.raises(AssertionError, match="while one records"):
        judge_ask(NEXT_KEY, case.cloud, consents, consents)


@pytest.mark.anyio
async def test_oracle_rejects_an_egress_that_continues_after_a_withdrawal(case: Case) -> None:
    records(case)
    judge_withdrawal(case.cloud, None)
    with pytest.raises(AssertionError, match="and this goes on"):
        judge_withdrawal(case.cloud, "the patient does not consent")
