"""Tests of clips, on a real object store and a real database: what a clip contains, who may make one, and what happens
to it with its recording.
"""

import asyncio
import hashlib
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.clips.cutter import ClipCutter
from app.clips.model import read_bounds
from app.consents.texts import consent_texts
from app.errors import InvalidInput
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consent_input
from tests.api.holding import PLACE_HOLD, on_patient
from tests.unit.marked_media import make_marked, read_marks, tone_of

pytestmark = pytest.mark.anyio

CONTENT = make_marked(4)


@pytest.fixture
async def consented(case: Case) -> Case:
    await case.consent()
    return case


def _asked(recording: object, start: float = 1, end: float = 2, **others: object) -> dict[str, object]:
    return {"recordingId": str(recording), "start": start, "end": end, **others}


async def _recording(harness: ApiHarness, case: Case, content: bytes = CONTENT) -> UUID:
    recording = await harness.recording(case, content=content)
    await harness.rows("update resguardo.recordings set updated_at = now() where id = %s", recording)
    return recording


async def _clips(person: Person, recording: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await person.ask(documents.CLIPS, id=str(recording)))["clips"]
    return found


async def _ready(
    harness: ApiHarness, case: Case, recording: UUID, start: float = 1, end: float = 2
) -> dict[str, Any]:
    await case.doctor.ask(documents.CREATE_CLIP, **_asked(recording, start, end))
    await harness.work()
    (clip,) = [one for one in await _clips(case.doctor, recording) if one["startSeconds"] == start]
    assert (clip["status"], clip["problem"]) == ("READY", None)
    return clip


async def _fetch(person: Person, document: str, recording: object, clip: dict[str, Any]) -> httpx.Response:
    issued = await person.ask(document, recordingId=str(recording), file=clip["id"], purposeOfUse="TREATMENT")
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(issued["url"])


async def _keys(harness: ApiHarness, recording: object) -> set[str]:
    rows = await harness.rows(
        "select s.object_key from private.recording_secrets as s join resguardo.recordings as r"
        " on r.id = s.recording_id where %s in (r.id, r.video_id) and r.medium = 'CLIP'",
        recording,
    )
    return {row["object_key"] for row in rows}


async def test_clip_contains_exactly_what_is_inside_its_bounds(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    answer = await consented.doctor.send(documents.CREATE_CLIP, **_asked(recording, 1.0, 2.5))
    asked = answer.data["createClip"]
    assert (asked["clip"]["status"], asked["clip"]["percentDone"]) == ("PENDING", 0)
    assert [one["id"] for one in asked["recording"]["clips"]] == [asked["clip"]["id"]]
    await harness.work()
    (clip,) = await _clips(consented.doctor, recording)
    assert clip | {"status": "READY", "percentDone": 100, "problem": None} == clip
    played = await _fetch(consented.doctor, documents.ISSUE_PLAYBACK_URL, recording, clip)
    saved = await _fetch(consented.doctor, documents.ISSUE_URL, recording, clip)
    assert played.content == saved.content
    assert played.headers["content-type"] == "video/webm"
    assert played.headers["content-disposition"] == f'inline; filename="{clip["id"]}.webm"'
    assert saved.headers["content-disposition"] == f'attachment; filename="{clip["id"]}.webm"'
    assert clip["sha256"] == hashlib.sha256(played.content).hexdigest()
    assert clip["sizeBytes"] == len(played.content)
    marks = read_marks(played.content)
    assert marks.codecs == ("vp9", "opus")
    assert [number for _, number in marks.pictures] == [*range(25, 63)]
    assert marks.pictures[0][0] == 0
    assert marks.sound_start == 0
    assert len(marks.samples) == 72_000
    assert marks.share_of(tone_of(1), 0, 47_000) > 0.99
    assert marks.share_of(tone_of(2), 49_000, 72_000) > 0.99


async def test_clip_between_two_pictures_has_only_pictures_and_samples_from_inside(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await _recording(harness, consented)
    clip = await _ready(harness, consented, recording, 1.01, 1.99)
    marks = read_marks((await _fetch(consented.doctor, documents.ISSUE_URL, recording, clip)).content)
    assert [number for _, number in marks.pictures] == [*range(26, 50)]
    assert marks.pictures[0][0] == pytest.approx(0.03)
    assert len(marks.samples) == 47_040
    assert marks.share_of(tone_of(1), 0, 47_040) > 0.99, "the tones of the seconds around it are not in it"


@pytest.mark.parametrize("has_audio", [True, False])
async def test_picture_from_before_the_start_is_not_in_the_clip_however_long_it_stays(
    harness: ApiHarness, consented: Case, has_audio: bool
) -> None:
    """The recording has one picture a second, so the picture of its first second stays until 2 s."""
    recording = await _recording(harness, consented, make_marked(8, fps=1, has_audio=has_audio))
    for start, end, expected in (
        (1.3, 2.5, [(0, 0), (pytest.approx(0.7), 2)]),
        (5.2, 5.8, [(0, 0)]),
        (6.95, 7.5, [(pytest.approx(0.05), 7)]),
    ):
        clip = await _ready(harness, consented, recording, start, end)
        played = await _fetch(consented.doctor, documents.ISSUE_PLAYBACK_URL, recording, clip)
        marks = read_marks(played.content)
        assert list(marks.pictures) == expected, "picture 0 is black"
        assert marks.codecs == (("vp9", "opus") if has_audio else ("vp9",))


async def test_clip_has_its_own_audit_rows(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    answer = await consented.doctor.send(documents.CREATE_CLIP, **_asked(recording, purposeOfUse="LEGAL"))
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["purpose"]) == ("clip.create", "ALLOWED", "LEGAL")
    assert {one["type"] for one in row["entities"]} == {"clip", "recording"}
    await harness.work()
    rows = await harness.rows(
        "select action, outcome, entities from audit.events where action like 'clip.%%'"
        " and patient_ids @> array[%s::uuid] order by recorded_at",
        consented.patient_id,
    )
    assert [(one["action"], one["outcome"]) for one in rows] == [
        ("clip.create", "ALLOWED"),
        ("clip.begin", "ALLOWED"),
        ("clip.finish", "ALLOWED"),
    ]


async def test_bytes_of_a_clip_are_counted(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    clip = await _ready(harness, consented, recording)
    rows = await harness.rows(
        "select kind, unit, quantity from private.cost_entries where recording_id = any(%s::uuid[])",
        [recording, UUID(clip["id"])],
    )
    assert ("STORAGE", "BYTES", clip["sizeBytes"]) in {
        (row["kind"], row["unit"], int(row["quantity"])) for row in rows
    }


async def test_repeated_call_returns_the_first_clip(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    asking = [consented.doctor.send(documents.CREATE_CLIP, **_asked(recording)) for _ in range(3)]
    answers = await asyncio.gather(*asking)
    first = {one.data["createClip"]["clip"]["id"] for one in answers}
    await harness.work()
    again = await consented.doctor.send(documents.CREATE_CLIP, **_asked(recording))
    assert first == {again.data["createClip"]["clip"]["id"]}
    assert again.data["createClip"]["clip"]["status"] == "READY"
    jobs = await harness.rows(
        "select id from jobs.procrastinate_jobs where task_name = 'make_clip' and args ->> 'id' = any(%s)",
        list(first),
    )
    assert len(jobs) == 1


async def test_one_clip_of_a_doctor_is_made_at_a_time(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    asking = [
        consented.doctor.send(documents.CREATE_CLIP, **_asked(recording, start, 3)) for start in (0, 1, 2)
    ]
    answers = await asyncio.gather(*asking)
    refused = [one.error.reason for one in answers if "errors" in one.body]
    assert refused == ["clip_in_progress"] * 2
    await harness.work()
    await _ready(harness, consented, recording, 0.5, 1.5)


@pytest.mark.parametrize(
    ("start", "end"), [(1, 1), (2, 1), (-1, 1), (0, 900.01), (-0.5, 0.5), (0, 1e9), (1, 1.0001)]
)
async def test_bounds_that_are_not_valid_are_refused(
    harness: ApiHarness, consented: Case, start: float, end: float
) -> None:
    recording = await harness.recording(consented)
    refused = await consented.doctor.refused(documents.CREATE_CLIP, **_asked(recording, start, end))
    assert refused == ("INVALID_INPUT", "bad_clip_range")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_bound_that_is_no_number_is_refused(bad: float) -> None:
    for bounds in ((bad, 5.0), (0.0, bad)):
        with pytest.raises(InvalidInput, match="bad_clip_range"):
            read_bounds(*bounds)


async def test_clip_past_the_end_is_refused_if_the_duration_is_known(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await harness.recording(consented, "VERIFYING", content=CONTENT)
    await harness.rows(
        "update resguardo.recordings set duration_seconds = 4, status = 'READY', sha256 = repeat('0', 64),"
        " size_bytes = 5 where id = %s",
        recording,
    )
    for bounds in ((3.0, 4.6), (3.0, 4.001), (5.0, 6.0)):
        refused = await consented.doctor.refused(documents.CREATE_CLIP, **_asked(recording, *bounds))
        assert refused == ("CONFLICT", "clip_past_end")


async def test_clip_may_end_with_its_recording_rounded_to_a_millisecond(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await harness.recording(consented, "VERIFYING", content=CONTENT)
    await harness.rows(
        "update resguardo.recordings set duration_seconds = 3.9996, status = 'READY', sha256 = repeat('0', 64),"
        " size_bytes = %s where id = %s",
        len(CONTENT),
        recording,
    )
    (row,) = await harness.rows(
        "select object_key from private.recording_secrets where recording_id = %s", recording
    )
    await harness.bucket.put_new(row["object_key"], CONTENT, "video/mp4")
    await _ready(harness, consented, recording, 3, 4)


@pytest.mark.parametrize(("start", "end"), [(3.0, 4.2), (3.0, 5.0), (8.0, 9.0)])
async def test_clip_past_the_end_fails_if_the_duration_is_unknown(
    harness: ApiHarness, consented: Case, start: float, end: float
) -> None:
    recording = await _recording(harness, consented)
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording, start, end))
    await harness.work()
    (clip,) = await _clips(consented.doctor, recording)
    assert (clip["status"], clip["problem"]["code"]) == ("FAILED", "CLIP_PAST_END")
    assert await _keys(harness, recording) == set()


async def test_failed_clip_is_made_again_by_a_repeated_call(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    await harness.rows(
        "update resguardo.clips set status = 'FAILED', error = 'media_clip_ended' where recording_id = %s",
        recording,
    )
    await harness.work()
    assert (await _clips(consented.doctor, recording))[0]["status"] == "FAILED"
    await _ready(harness, consented, recording)


async def test_clip_of_a_recording_with_sound_alone_has_sound_alone(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await _recording(harness, consented, make_marked(4, has_video=False))
    clip = await _ready(harness, consented, recording)
    played = await _fetch(consented.doctor, documents.ISSUE_PLAYBACK_URL, recording, clip)
    marks = read_marks(played.content)
    assert (marks.codecs, len(marks.samples)) == (("opus",), 48_000)


async def test_file_that_is_no_video_fails_with_the_reason(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented, b"\0\0\0\x20ftypisom" + bytes(5000))
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    await harness.work()
    (clip,) = await _clips(consented.doctor, recording)
    assert (clip["status"], clip["problem"]["code"]) == ("FAILED", "MEDIA_UNREADABLE")


@pytest.mark.parametrize("status", ["VERIFYING", "FAILED", "ABORTED", "LOST", "DELETED"])
async def test_recording_that_is_not_ready_has_no_clip(
    harness: ApiHarness, consented: Case, status: str
) -> None:
    recording = await harness.recording(consented, status)
    code, reason = await consented.doctor.refused(documents.CREATE_CLIP, **_asked(recording))
    assert (code, reason) == (
        "CONFLICT",
        {
            "VERIFYING": "recording_not_ready",
            "FAILED": "recording_failed",
            "ABORTED": "recording_aborted",
            "LOST": "recording_lost",
            "DELETED": "recording_deleted",
        }[status],
    )


async def test_only_the_doctor_of_the_recording_makes_a_clip(
    harness: ApiHarness, consented: Case, other_doctor: Person, officer: Person
) -> None:
    recording = await harness.recording(consented)
    hidden = await other_doctor.send(documents.CREATE_CLIP, **_asked(recording))
    absent = await other_doctor.send(documents.CREATE_CLIP, **_asked(uuid4()))
    for answer, outcome in ((hidden, "DENIED"), (absent, "ABSENT")):
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "recording_not_found")
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"]) == ("clip.create", outcome)
    assert await officer.refused(documents.CREATE_CLIP, **_asked(recording)) == ("FORBIDDEN", "wrong_role")
    assert await _clips(officer, recording) == []


async def test_clip_needs_a_consent_to_a_text_that_names_clips(harness: ApiHarness, case: Case) -> None:
    recording = await _recording(harness, case)
    earlier = consent_texts()["2026-12", "en"]
    for person, kind in ((case.doctor, "DOCTOR"), (case.patient, "PATIENT")):
        given = consent_input(case.participant(kind), textVersion=earlier.version, textSha256=earlier.sha256)
        await person.ask(documents.RECORD_CONSENT, consent=given)
    refused = await case.doctor.refused(documents.CREATE_CLIP, **_asked(recording))
    assert refused == ("CONFLICT", "clip_consent_text")
    await case.consent()
    await _ready(harness, case, recording)


async def test_withdrawn_consent_stops_the_next_clip_and_keeps_the_finished_one(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await _recording(harness, consented)
    clip = await _ready(harness, consented, recording)
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording, 2, 3))
    await consented.patient.ask(documents.WITHDRAW_CONSENT, participantId=consented.participant("PATIENT"))
    refused = await consented.doctor.refused(documents.CREATE_CLIP, **_asked(recording, 3, 4))
    assert refused == ("CONFLICT", "clip_consent_withdrawn")
    await harness.work()
    states = [
        (one["status"], one["problem"] and one["problem"]["code"])
        for one in await _clips(consented.doctor, recording)
    ]
    assert states == [("READY", None), ("FAILED", "CLIP_CONSENT_WITHDRAWN")]
    played = await _fetch(consented.doctor, documents.ISSUE_PLAYBACK_URL, recording, clip)
    assert played.status_code == 200


async def test_clip_is_no_media_file_and_no_recording(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    clip = await _ready(harness, consented, recording)
    found = await consented.doctor.ask(documents.CLIPS, id=str(recording))
    assert found["mediaFiles"] == []
    assert await consented.doctor.refused(documents.RECORDING, id=clip["id"]) == (
        "NOT_FOUND",
        "recording_not_found",
    )
    assert await consented.doctor.refused(documents.STOP, recordingId=clip["id"]) == (
        "NOT_FOUND",
        "recording_not_found",
    )
    foreign = await harness.recording(consented)
    refused = await consented.doctor.refused(
        documents.ISSUE_URL, recordingId=str(foreign), file=clip["id"], purposeOfUse="TREATMENT"
    )
    assert refused == ("NOT_FOUND", "recording_not_found")


async def test_clip_is_destroyed_and_certified_with_its_recording(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await _recording(harness, consented)
    clip = await _ready(harness, consented, recording)
    (key,) = await _keys(harness, recording)
    await consented.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
    refused = await consented.doctor.refused(documents.CREATE_CLIP, **_asked(recording, 2, 3))
    assert refused == ("CONFLICT", "recording_being_deleted")
    await harness.rows(
        "update resguardo.deletions set undo_until = now() - interval '1 day' where recording_id = %s",
        recording,
    )
    await harness.services.destroyer.run_once()
    assert await harness.bucket.head(key) is None
    assert await _clips(consented.doctor, recording) == []
    (row,) = await harness.rows(
        "select document::jsonb as document from resguardo.certificates where recording_id = %s", recording
    )
    assert clip["sha256"] in str(row["document"])
    assert f"clip-{clip['id']}.webm" in str(row["document"])


async def test_deletion_during_the_work_ends_the_clip(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    await consented.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
    await harness.work()
    (clip,) = await _clips(consented.doctor, recording)
    assert (clip["status"], clip["problem"]["code"]) == ("FAILED", "RECORDING_BEING_DELETED")


async def test_recording_is_not_destroyed_while_its_clip_is_being_stored(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await _recording(harness, consented)
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    await harness.rows(
        "update resguardo.clips set status = 'STORING', run = 1 where recording_id = %s", recording
    )
    await consented.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
    await harness.rows(
        "update resguardo.deletions set undo_until = now() - interval '1 day' where recording_id = %s",
        recording,
    )
    await harness.services.destroyer.run_once()
    assert not await _is_destroyed(harness, recording)
    await harness.rows("alter table resguardo.clips disable trigger clips_announce")
    await harness.rows(
        "update resguardo.clips set changed_at = now() - interval '16 minutes' where recording_id = %s",
        recording,
    )
    await harness.rows("alter table resguardo.clips enable trigger clips_announce")
    await harness.services.destroyer.run_once()
    assert await _is_destroyed(harness, recording)
    await harness.work()
    assert await _clips(consented.doctor, recording) == []


async def _is_destroyed(harness: ApiHarness, recording: UUID) -> bool:
    """Return whether this recording is destroyed. Other tests leave deletions, too, which the report would count."""
    (row,) = await harness.rows("select status from resguardo.recordings where id = %s", recording)
    return bool(row["status"] == "DELETED")


class Killed(BaseException):
    """A test raises this exception to end the worker, as the death of the process would."""


@pytest.mark.parametrize("at", ["before", "after"])
async def test_worker_that_dies_around_the_upload_leaves_no_second_object(
    harness: ApiHarness, consented: Case, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    recording = await _recording(harness, consented)
    asked = await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    cutter = ClipCutter(harness.services.database, harness.bucket)
    put = type(harness.bucket).put_stream

    async def die(*given: Any, **named: Any) -> int:
        if at == "after":
            await put(*given, **named)
        raise Killed

    clip_id = UUID(str(asked["id"] if "id" in asked else asked["clip"]["id"]))
    with monkeypatch.context() as patch:
        patch.setattr(type(harness.bucket), "put_stream", die)
        with pytest.raises(Killed):
            await cutter.make(clip_id)
    assert (await _clips(consented.doctor, recording))[0]["status"] == "RUNNING"
    await harness.work()
    (clip,) = await _clips(consented.doctor, recording)
    assert clip["status"] == "READY"
    folder = f"keep/{consented.id}/{recording}/"
    found = [one.key async for page in harness.bucket.list_objects(folder) for one in page.objects]
    assert sorted(found) == [f"{folder}clip-{clip_id}-2.webm", f"{folder}video.mp4"]


async def test_attempt_that_was_overtaken_stores_nothing(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    (clip,) = await _clips(consented.doctor, recording)
    cutter = ClipCutter(harness.services.database, harness.bucket)
    await asyncio.gather(cutter.make(UUID(clip["id"])), cutter.make(UUID(clip["id"])))
    await harness.work()
    (clip,) = await _clips(consented.doctor, recording)
    assert clip["status"] == "READY"
    folder = f"keep/{consented.id}/{recording}/"
    found = {one.key async for page in harness.bucket.list_objects(folder) for one in page.objects}
    assert found == {f"{folder}video.mp4", *await _keys(harness, recording)}


async def test_clip_moves_to_keep_with_its_recording(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    await _ready(harness, consented, recording)
    rows = await harness.rows(
        "select retention_class from resguardo.recordings where video_id = %s and medium = 'CLIP'", recording
    )
    assert [row["retention_class"] for row in rows] == ["keep"]


async def test_orphan_sweep_spares_a_clip_that_is_being_stored(harness: ApiHarness, consented: Case) -> None:
    recording = await _recording(harness, consented)
    asked = await consented.doctor.ask(documents.CREATE_CLIP, **_asked(recording))
    clip = asked["id"] if "id" in asked else asked["clip"]["id"]
    key = f"keep/{consented.id}/{recording}/clip-{clip}.webm"
    unknown = "select private.unknown_object_keys(array[%s]) as keys"
    assert (await harness.rows(unknown, key))[0]["keys"] == [key]
    await harness.rows("update resguardo.clips set status = 'STORING', run = 1 where id = %s", clip)
    assert (await harness.rows(unknown, key))[0]["keys"] == []
    await harness.rows("update resguardo.clips set status = 'PENDING' where id = %s", clip)
    await harness.work()


async def test_access_request_leaves_clips_out(harness: ApiHarness, consented: Case) -> None:
    """The copy contains the whole recording, of which a clip is a part."""
    recording = await _recording(harness, consented)
    await _ready(harness, consented, recording)
    rows = await harness.rows(
        "select w.id, w.medium from private.wanted_recordings("
        "jsonb_populate_record(null::resguardo.access_requests, %s::jsonb)) as w",
        f'{{"patient_id": "{consented.patient_id}"}}',
    )
    assert [(row["id"], row["medium"]) for row in rows] == [(recording, "VIDEO")]


async def test_hold_refuses_the_deletion_and_allows_another_clip(
    harness: ApiHarness, consented: Case, officer: Person
) -> None:
    recording = await _recording(harness, consented)
    first = await _ready(harness, consented, recording)
    placed = await officer.ask(PLACE_HOLD, hold=on_patient(consented.patient_id))
    assert placed["coveredRecordingCount"] == 1, "a clip is not counted beside its recording"
    refused = await consented.doctor.refused(
        documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE"
    )
    assert refused == ("CONFLICT", "recording_held")
    second = await _ready(harness, consented, recording, 2, 3)
    for clip in (first, second):
        played = await _fetch(consented.doctor, documents.ISSUE_PLAYBACK_URL, recording, clip)
        assert hashlib.sha256(played.content).hexdigest() == clip["sha256"]
