"""Tests of thumbnails, on a real object store and a real database: of which recordings one is made, who may see it, and
what happens to it with its recording.
"""

import asyncio
import json
import re
import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.consents.texts import consent_texts
from app.recordings.model import RecordingStatus
from app.recordings.transition_writer import TransitionWriter
from app.settings import WorkerSettings
from app.thumbnails.maker import ThumbnailMaker
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consent_input
from tests.api.picturing import JPEG, make_key, request_thumbnail, store_thumbnail
from tests.unit.test_thumbnail_media import make_video, read_jpeg, scene

pytestmark = pytest.mark.anyio

CONTENT = make_video(2, scene)
BLACK = make_video(2, lambda _x, _y, _second: 16)


@pytest.fixture
async def consented(case: Case) -> Case:
    await case.consent()
    return case


async def _status(person: Person, recording: object) -> str | None:
    found: str | None = (await person.ask(documents.THUMBNAIL_STATUS, id=str(recording)))["thumbnailStatus"]
    return found


async def _made(harness: ApiHarness, case: Case, content: bytes = CONTENT) -> UUID:
    """Return a recording whose thumbnail was requested, and whose jobs have run."""
    recording = await harness.recording(case, content=content)
    await request_thumbnail(harness, recording)
    await harness.work()
    return recording


async def _url(person: Person, recording: object) -> str:
    return str((await person.ask(documents.ISSUE_THUMBNAIL_URL, id=str(recording)))["jpeg"])


async def _stored(harness: ApiHarness, recording: UUID) -> list[dict[str, Any]]:
    return await harness.rows("select ciphertext from private.thumbnails where recording_id = %s", recording)


async def test_thumbnail_is_made_encrypted_and_served(harness: ApiHarness, consented: Case) -> None:
    recording = await _made(harness, consented)
    assert await _status(consented.doctor, recording) == "READY"
    (row,) = await _stored(harness, recording)
    assert b"JFIF" not in bytes(row["ciphertext"])
    answer = await harness.http.get(await _url(consented.doctor, recording))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    picture = read_jpeg(answer.content)
    assert (picture.width, picture.height) == (240, 180)


async def test_each_step_and_each_opening_has_an_audit_row(harness: ApiHarness, consented: Case) -> None:
    recording = await _made(harness, consented)
    url = await _url(consented.doctor, recording)
    for _ in range(2):
        assert (await harness.http.get(url)).status_code == 200
    rows = await harness.rows(
        "select action, outcome, actor_id, session_fingerprint from audit.events where action like 'thumbnail.%%'"
        " and patient_ids @> array[%s::uuid] order by recorded_at",
        consented.patient_id,
    )
    assert [(one["action"], one["outcome"]) for one in rows] == [
        ("thumbnail.begin", "ALLOWED"),
        ("thumbnail.finish", "ALLOWED"),
        ("thumbnail.issue_url", "ALLOWED"),
        ("thumbnail.read", "ALLOWED"),
        ("thumbnail.read", "ALLOWED"),
    ]
    assert {one["actor_id"] for one in rows[2:]} == {consented.doctor.user_id}
    assert {one["session_fingerprint"] for one in rows[2:]} == {consented.doctor.fingerprint}


async def test_black_video_has_no_thumbnail(harness: ApiHarness, consented: Case) -> None:
    recording = await _made(harness, consented, BLACK)
    assert await _status(consented.doctor, recording) == "NO_PICTURE"
    assert await _stored(harness, recording) == []
    refused = await consented.doctor.refused(documents.ISSUE_THUMBNAIL_URL, id=str(recording))
    assert refused == ("NOT_FOUND", "thumbnail_not_found")


async def test_unreadable_video_fails(harness: ApiHarness, consented: Case) -> None:
    recording = await _made(harness, consented, b"\0\0\0\x18ftypmp42" + bytes(100))
    assert await _status(consented.doctor, recording) == "FAILED"


@pytest.mark.parametrize("sensitivity", ["PSYCHOTHERAPY", "SUBSTANCE_USE"])
async def test_sensitive_consultation_has_no_thumbnail(harness: ApiHarness, sensitivity: str) -> None:
    """Not even if its doctor switches transcription on."""
    case = await harness.case(sensitivity=sensitivity, isTranscribed=True)
    await case.consent()
    recording = await _made(harness, case)
    assert await _status(case.doctor, recording) is None
    assert await _stored(harness, recording) == []
    jobs = "select id from jobs.procrastinate_jobs where task_name = 'make_thumbnail' and args ->> 'id' = %s"
    assert await harness.rows(jobs, str(recording)) == []


@pytest.mark.parametrize("is_on", [False, True])
async def test_thumbnail_is_requested_only_if_the_practice_switches_thumbnails_on(
    harness: ApiHarness, consented: Case, is_on: bool
) -> None:
    recording = await harness.recording(consented, "VERIFYING", content=CONTENT)
    writer = TransitionWriter(
        harness.services.database, harness.worker_settings.keyring, has_thumbnails=is_on
    )
    await writer.apply(recording, lambda before, _now: replace(before, status=RecordingStatus.READY))
    assert await _status(consented.doctor, recording) == ("PENDING" if is_on else None)
    await harness.rows("update resguardo.recordings set thumbnail_status = null where id = %s", recording)
    await harness.work()
    assert await _stored(harness, recording) == []


def test_thumbnails_are_off_by_default() -> None:
    assert WorkerSettings.model_fields["thumbnails"].default is False


async def test_thumbnail_needs_a_consent_to_a_text_that_names_clips(harness: ApiHarness, case: Case) -> None:
    earlier = consent_texts()["2026-12", "en"]
    for person, kind in ((case.doctor, "DOCTOR"), (case.patient, "PATIENT")):
        given = consent_input(case.participant(kind), textVersion=earlier.version, textSha256=earlier.sha256)
        await person.ask(documents.RECORD_CONSENT, consent=given)
    assert await _status(case.doctor, await _made(harness, case)) is None


async def test_withdrawn_consent_stops_the_next_thumbnail_and_keeps_the_finished_one(
    harness: ApiHarness, consented: Case
) -> None:
    finished = await _made(harness, consented)
    requested = await harness.recording(consented, content=CONTENT)
    await request_thumbnail(harness, requested)
    await consented.patient.ask(documents.WITHDRAW_CONSENT, participantId=consented.participant("PATIENT"))
    await harness.work()
    assert await _status(consented.doctor, requested) is None
    assert await _stored(harness, requested) == []
    assert (await harness.http.get(await _url(consented.doctor, finished))).status_code == 200


async def test_other_people_get_no_link(
    harness: ApiHarness, consented: Case, other_doctor: Person, officer: Person
) -> None:
    recording = await harness.recording(consented)
    await store_thumbnail(harness, recording)
    for asked, outcome in ((recording, "DENIED"), (uuid4(), "ABSENT")):
        answer = await other_doctor.send(documents.ISSUE_THUMBNAIL_URL, id=str(asked))
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "thumbnail_not_found")
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"]) == ("thumbnail.issue_url", outcome)
    for person in (officer, consented.patient):
        refused = await person.refused(documents.ISSUE_THUMBNAIL_URL, id=str(recording))
        assert refused == ("FORBIDDEN", "wrong_role")
    assert await _status(officer, recording) == "READY"


async def test_link_ends_with_the_session_and_stores_no_session_id(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await harness.recording(consented)
    await store_thumbnail(harness, recording)
    url = await _url(consented.doctor, recording)
    (row,) = await harness.rows(
        "select l::text as kept from private.thumbnail_links as l where recording_id = %s", recording
    )
    assert str(consented.doctor.session_id) not in row["kept"]
    assert re.findall(r"[0-9a-f]{64}", url)[0] not in row["kept"]
    assert (await harness.http.get(url)).content == JPEG
    await harness.end_session(consented.doctor)
    assert (await harness.http.get(url)).status_code == 401


async def test_link_expires_no_later_than_the_token_and_is_refused_then(
    harness: ApiHarness, doctor: Person
) -> None:
    recording = await harness.recording(await harness.case(doctor))
    await store_thumbnail(harness, recording)
    expires_at = int(time.time()) + 30
    token = harness.token(doctor.user_id, doctor.session_id, exp=expires_at)
    issued = await replace(doctor, token=token).ask(documents.ISSUE_THUMBNAIL_URL, id=str(recording))
    assert datetime.fromisoformat(issued["expiresAt"]).timestamp() == expires_at
    await harness.rows(
        "update private.thumbnail_links set expires_at = now() where recording_id = %s", recording
    )
    assert (await harness.http.get(issued["jpeg"])).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/thumbnails/{secret}.png", "/thumbnails/{upper}.jpg", "/thumbnails/{secret}0.jpg", "/thumbnails/x.jpg"],
)
async def test_altered_link_is_refused_without_details(
    harness: ApiHarness, consented: Case, path: str
) -> None:
    recording = await harness.recording(consented)
    await store_thumbnail(harness, recording)
    secret = (await _url(consented.doctor, recording)).split("/")[-1].removesuffix(".jpg")
    answer = await harness.http.get(path.format(secret=secret, upper=secret.upper()))
    assert answer.status_code == 404
    assert secret not in answer.text
    assert str(recording) not in answer.text


async def test_issuing_and_opening_count_as_pages(harness: ApiHarness, consented: Case) -> None:
    recording = await harness.recording(consented)
    await store_thumbnail(harness, recording)
    url = await _url(consented.doctor, recording)
    await harness.spend(consented.doctor, "pages", 1200)
    refused = await consented.doctor.refused(documents.ISSUE_THUMBNAIL_URL, id=str(recording))
    assert refused == ("RATE_LIMITED", "quota_pages")
    assert (await harness.http.get(url)).status_code == 429


async def test_thumbnail_is_destroyed_and_certified_with_its_recording(
    harness: ApiHarness, consented: Case
) -> None:
    recording = await _made(harness, consented)
    url = await _url(consented.doctor, recording)
    await consented.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
    assert (await harness.http.get(url)).status_code == 409
    refused = await consented.doctor.refused(documents.ISSUE_THUMBNAIL_URL, id=str(recording))
    assert refused == ("CONFLICT", "recording_being_deleted")
    await harness.rows(
        "update resguardo.deletions set undo_until = now() - interval '1 day' where recording_id = %s",
        recording,
    )
    await harness.services.destroyer.run_once()
    assert await _stored(harness, recording) == []
    assert (await harness.http.get(url)).status_code == 404
    assert await _status(consented.doctor, recording) is None
    certificates = await consented.doctor.ask(documents.DELETION_CERTIFICATES, recordingId=str(recording))
    signed = json.loads(certificates["edges"][0]["node"]["json"])
    cleared = {one["table"]: one["rows"] for one in signed["certificate"]["text_rows_cleared"]}
    assert (cleared["thumbnail_links"], cleared["thumbnails"]) == (1, 1)


async def test_no_thumbnail_is_made_of_what_is_being_deleted(harness: ApiHarness, consented: Case) -> None:
    recording = await harness.recording(consented, content=CONTENT)
    await request_thumbnail(harness, recording)
    await consented.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
    await harness.work()
    assert await _status(consented.doctor, recording) is None
    assert await _stored(harness, recording) == []


async def test_deletion_while_the_picture_is_chosen_leaves_no_thumbnail(
    harness: ApiHarness, consented: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await harness.recording(consented, content=CONTENT)
    await request_thumbnail(harness, recording)

    async def choose(*_given: Any) -> bytes:
        await consented.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
        return JPEG

    monkeypatch.setattr("app.thumbnails.maker.make_thumbnail", choose)
    await harness.work()
    assert await _stored(harness, recording) == []


async def test_job_that_runs_twice_at_once_stores_one_thumbnail(harness: ApiHarness, consented: Case) -> None:
    recording = await harness.recording(consented, content=CONTENT)
    for _ in range(2):
        await request_thumbnail(harness, recording)
    maker = ThumbnailMaker(harness.services.database, harness.bucket, harness.worker_settings.keyring)
    await asyncio.gather(maker.make(recording), maker.make(recording))
    await harness.work()
    assert await _status(consented.doctor, recording) == "READY"
    assert len(await _stored(harness, recording)) == 1


async def test_worker_that_dies_before_it_stores_the_thumbnail_makes_it_again(
    harness: ApiHarness, consented: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await harness.recording(consented, content=CONTENT)
    await make_key(harness, recording)
    await request_thumbnail(harness, recording)
    maker = ThumbnailMaker(harness.services.database, harness.bucket, harness.worker_settings.keyring)

    async def die(*_given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("app.thumbnails.store.finish", die)
        with pytest.raises(KeyboardInterrupt):
            await maker.make(recording)
    assert await _status(consented.doctor, recording) == "PENDING"
    await harness.work()
    assert await _status(consented.doctor, recording) == "READY"
