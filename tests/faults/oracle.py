"""Checks the laws of recordings at every moment, from the rows, the audit log, and the true state of LiveKit and
the bucket. The oracle shares no code with the application that it checks.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.media.probe import Container
from tests.faults.cloud import Bucket, Cloud, Egress
from tests.faults.machine_services import Stage

LIVE = ("REQUESTED", "STARTING", "RECORDING", "STOPPING")
RECORDED = ("REQUESTED", "STARTING", "RECORDING")
TERMINAL = ("READY", "FAILED", "ABORTED", "LOST")
ORDER = (*LIVE, "VERIFYING")
DEAD = "egress_lost"
ASKED_AGAIN_AFTER = timedelta(seconds=60)

ROWS = """
select
    r.id, r.medium, r.status, r.egress_id, r.error, r.truncated, r.size_bytes, r.sha256, r.status_at, s.object_key,
    array(
        select e.reason from audit.events e
        where e.consultation_ids @> array[r.consultation_id] and e.action = 'recording.transition'
            and e.entities -> 0 -> 'ids' = to_jsonb(array[r.id])
        order by e.recorded_at, e.id
    ),
    r.video_id, r.track_sid
from resguardo.recordings r left join private.recording_secrets s on s.recording_id = r.id
where r.consultation_id = %s
order by r.created_at, r.medium desc
"""


@dataclass(frozen=True)
class Row:
    """A committed recording with its audit rows: first its initial status, then `BEFORE>AFTER:error` for each
    transition.
    """

    id: UUID
    medium: str
    status: str
    egress_id: str | None
    error: str | None
    truncated: bool
    size_bytes: int | None
    sha256: str | None
    status_at: datetime
    object_key: str | None
    steps: list[str]
    video_id: UUID | None = None
    track_sid: str | None = None


def recordings(stage: Stage) -> list[Row]:
    """Return all recordings of the sequence."""
    found: list[tuple[Any, ...]] = stage.services.rows(ROWS, stage.consultation.id)
    return [Row(*row) for row in found]


def judge(rows: list[Row], before: dict[UUID, str], cloud: Cloud) -> None:
    """Check the laws that must hold at every moment. `before` maps each recording to its status at the check before
    this one.
    """
    live = [row for row in rows if row.medium == "VIDEO" and row.status in LIVE]
    assert len(live) <= 1, f"{len(live)} VIDEO recordings are live at once"
    tracks = [(row.video_id, row.track_sid) for row in rows if row.medium == "MICROPHONE"]
    assert len(tracks) == len(set(tracks)), f"a microphone is recorded twice: {tracks}"
    missing = before.keys() - {row.id for row in rows}
    assert not missing, f"recordings are gone: {missing}"
    for row in rows:
        _judge_steps(row, before.get(row.id))
        _judge_end(row, cloud)
        if row.status == "READY":
            _judge_ready(row, cloud)


def judge_death(rows: list[Row], before: dict[UUID, str], cloud: Cloud) -> None:
    """Check, after a step during which nothing else happened, that the product has not declared an egress dead
    whose recorder is connected.
    """
    for row in rows:
        egress = cloud.egresses.get(row.egress_id or "")
        if before.get(row.id) in LIVE and row.status not in LIVE and row.error == DEAD and egress is not None:
            is_recording = egress.is_live and egress.snapshot.status == "active"
            assert not is_recording, f"called dead, and it records: {row}"


def judge_end(rows: list[Row], cloud: Cloud) -> None:
    """Check the end of a sequence: every intent has ended, no egress still records, and no complete recording is
    lost.
    """
    for row in rows:
        assert row.status in TERMINAL, f"stuck in {row.status}: {row}"
        egress = cloud.egresses.get(row.egress_id or "")
        if egress is not None and _is_whole(row, egress, cloud.bucket):
            came_at = cloud.bucket.objects[egress.snapshot.object_key or ""][1].last_modified
            is_too_late = row.status == "FAILED" and came_at > row.status_at
            assert row.status == "READY" or is_too_late, f"its object is there, and it is {row.status}: {row}"
    for egress in cloud.egresses.values():
        assert not egress.is_live or egress.is_forgotten, f"records for nobody: {egress.snapshot}"


def judge_ask(
    object_key: str, cloud: Cloud, refusal: Callable[[], str | None], objection: Callable[[], str | None]
) -> None:
    """Check that a start request to LiveKit obeys law 6 (consents) and repeats no earlier request.

    `refusal` returns the reason if a required consent is missing. `objection` also returns a reason if a person
    without consent is in the room.
    """
    folder = _recording_of(object_key)
    earlier = [ask for ask in cloud.asks if _recording_of(ask.object_key) == folder]
    assert object_key not in [ask.object_key for ask in earlier], f"asked twice for {object_key}"
    assert not earlier or cloud.now() - earlier[-1].at >= ASKED_AGAIN_AFTER, "asked again too soon"
    if cloud.faults.interruptions == cloud.listed_after and "list" not in cloud.fault:
        same = [
            one for one in cloud.egresses.values() if _recording_of(one.snapshot.object_key or "") == folder
        ]
        assert not any(one.is_live for one in same), f"asked again while one records: {same}"
    why = None
    if cloud.faults.interruptions == cloud.faults.committed_after:  # Else a consent changed meanwhile
        why = refusal()
    if cloud.faults.interruptions == cloud.looked_after:  # Else a person joined meanwhile
        why = why or objection()
    assert why is None, f"recorded without consent: {why}"


def judge_sound(rows: list[Row], cloud: Cloud, room: str, people: Collection[str]) -> None:
    """Check, after a pass without faults while a video is recorded, that each participant's microphone is recorded
    too.
    """
    videos = [row.id for row in rows if row.medium == "VIDEO" and row.status in RECORDED]
    heard = {row.track_sid for row in rows if row.video_id in videos}
    published = cloud.rooms_open[room].microphones if videos and room in cloud.rooms_open else {}
    missing = [sid for who, sids in published.items() if who in people for sid in sids if sid not in heard]
    assert not missing, f"nobody records {missing}"


def judge_withdrawal(cloud: Cloud, objection: str | None) -> None:
    """Check, after the jobs and passes have run, that no egress continues to record without the required consents."""
    live = [one.snapshot for one in cloud.egresses.values() if one.is_live]
    assert objection is None or not live, f"{objection}, and this goes on: {live}"


def judge_found_again(rows: list[Row]) -> None:
    """Check, once the object of every egress exists, that no recording is still LOST."""
    left = [row for row in rows if row.status == "LOST" and row.egress_id is not None]
    assert not left, f"the object is there, and it is still LOST: {left}"


def _judge_steps(row: Row, last_seen: str | None) -> None:
    """Check that each transition has its audit row, follows the previous transition, and never leads back."""
    status = ""
    seen = []
    for number, step in enumerate(row.steps):
        path = step.partition(":")[0]
        if number == 0:
            assert path in ("REQUESTED", *(("FAILED",) if row.medium == "MICROPHONE" else ())), row
            status = path
        else:
            start, _, status_after = path.partition(">")
            assert start == status, f"a step without its audit row before {step}: {row}"
            assert _may_follow(start, status_after), f"{step} leads back: {row}"
            status = status_after
        seen.append(status)
    assert status == row.status, f"the step to {row.status} has no audit row: {row}"
    assert last_seen is None or last_seen in seen, f"was {last_seen}, of which no audit row tells: {row}"


def _may_follow(before: str, after: str) -> bool:
    if before in TERMINAL:
        return (before, after) == ("LOST", "READY")
    return after in TERMINAL or (after in ORDER and ORDER.index(after) > ORDER.index(before))


def _judge_ready(row: Row, cloud: Cloud) -> None:
    """Check that the object of a READY recording contains the recording of its own egress."""
    assert row.object_key in cloud.bucket.objects, f"READY without an object: {row}"
    content, _ = cloud.bucket.objects[row.object_key]
    container: Container = "ogg" if row.object_key.endswith(".ogg") else "mp4"
    assert content.startswith(cloud.media[container]), f"READY and no recording: {row}"
    assert (row.size_bytes, row.sha256) == (len(content), hashlib.sha256(content).hexdigest()), row
    by_key = {one.snapshot.object_key: one for one in cloud.egresses.values()}
    egress = cloud.egresses[row.egress_id] if row.egress_id else by_key[row.object_key]
    assert egress.snapshot.object_key == row.object_key, f"READY with the object of another egress: {row}"
    reported = egress.snapshot.size_bytes
    has_heard = any(">VERIFYING" in step and not step.endswith(DEAD) for step in row.steps)
    is_known = has_heard or not row.truncated
    assert reported in (None, len(content)) or not is_known, (
        f"READY and {reported} bytes were reported: {row}"
    )


def _judge_end(row: Row, cloud: Cloud) -> None:
    """Check law 5: only LiveKit's list, and never an event, proves that an egress has ended."""
    egress = cloud.egresses.get(row.egress_id or "")
    if row.status == "VERIFYING" and row.error != DEAD:
        assert egress is not None, row
        assert egress.snapshot.is_over, f"{row.status}, and its egress is {egress.snapshot.status}: {row}"
    if row.medium == "VIDEO" and row.error in ("egress_aborted", "egress_upload_failed"):
        assert egress is not None, row
        assert egress.snapshot.status in ("aborted", "failed"), f"{row}, and LiveKit: {egress.snapshot}"


def _is_whole(row: Row, egress: Egress, bucket: Bucket) -> bool:
    """Return whether the object of the egress exists under the right key and has the reported size."""
    stored = bucket.objects.get(egress.snapshot.object_key or "")
    if stored is None or not egress.is_uploaded:
        return False
    reported = egress.snapshot.size_bytes
    return reported in (None, len(stored[0])) and not stored[0].startswith(b"#EXTM3U")


def _recording_of(object_key: str) -> str:
    """Return the object key without the number of the attempt, so that the keys of all attempts at one recording
    are equal.
    """
    return re.sub(r"(video|speakers|microphone-[0-9a-f-]{36})-[0-9]+[.]", r"\1.", object_key)
