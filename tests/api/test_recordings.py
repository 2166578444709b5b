"""Tests of starting, stopping and reading recordings."""

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api import documents
from tests.api.harness import MEDIA, ApiHarness, Case, Person, consent_input
from tests.api.test_consultations import unlike_request

pytestmark = pytest.mark.anyio


async def _start(case: Case) -> Any:
    return await case.doctor.ask(documents.START, consultationId=case.id)


async def _withdraw(person: Person, participant_id: str) -> None:
    await person.ask(documents.WITHDRAW_CONSENT, participantId=participant_id)


async def test_start_without_consent_names_the_missing_participants(case: Case) -> None:
    answer = await case.doctor.send(documents.START, consultationId=case.id)
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "consent_missing")
    assert [one["role"] for one in answer.error.details["missing"]] == ["DOCTOR", "PATIENT"]
    assert answer.error.message == "Consent is missing from: doctor, patient. Ask them for consent first."
    spanish = await case.doctor.send(documents.START, in_language="es-PE", consultationId=case.id)
    assert spanish.error.message == "Falta el consentimiento de: médico, paciente. Pídaselo primero."


@pytest.mark.parametrize(
    ("role", "english", "spanish"),
    [
        ("INTERPRETER", "interpreter", "intérprete"),
        ("COMPANION", "companion", "acompañante"),
        ("REPRESENTATIVE", "representative", "representante"),
        ("CLINICIAN", "clinician", "profesional clínico"),
        ("STUDENT", "student", "estudiante"),
    ],
)
async def test_start_needs_the_consent_of_a_guest_who_joined(
    harness: ApiHarness, case: Case, role: str, english: str, spanish: str
) -> None:
    await case.consent()
    guest = await case.doctor.ask(documents.INVITE, consultationId=case.id, role=role)
    await harness.stranger().ask(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"])
    for language, word in (("en", english), ("es", spanish)):
        answer = await case.doctor.send(documents.START, in_language=language, consultationId=case.id)
        assert [one["role"] for one in answer.error.details["missing"]] == [role]
        assert f": {word}." in answer.error.message
    consent = consent_input(guest["participant"]["id"])
    await case.doctor.ask(documents.RECORD_CONSENT, consent=consent)
    assert (await _start(case))["status"] == "REQUESTED"


async def test_start_is_requested_with_its_consultation(case: Case) -> None:
    await case.consent()
    started = await _start(case)
    assert (started["status"], started["consultation"]["id"]) == ("REQUESTED", case.id)
    assert started["consultation"]["externalId"] == case.consultation["externalId"]
    assert started["roomName"] == case.consultation["roomName"]
    assert started["egressId"] is started["sha256"] is None


async def test_second_start_is_a_conflict_that_names_the_running_recording(case: Case) -> None:
    await case.consent()
    started = await _start(case)
    answer = await case.doctor.send(documents.START, consultationId=case.id)
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "live_recording_exists")
    assert answer.error.details["recordingId"] == started["id"]
    assert started["id"] in answer.error.message


async def test_only_one_of_several_concurrent_starts_records(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    answers = await asyncio.gather(
        *(case.doctor.send(documents.START, consultationId=case.id) for _ in range(4))
    )
    refused = [answer.error for answer in answers if "errors" in answer.body]
    assert {error.reason for error in refused} == {"live_recording_exists"}
    assert len(refused) == 3
    rows = await harness.rows("select id from resguardo.recordings where consultation_id = %s", case.id)
    assert len(rows) == 1


async def test_start_after_a_withdrawal_is_refused(case: Case) -> None:
    await case.consent()
    await _withdraw(case.patient, case.participant("PATIENT"))
    answer = await case.doctor.send(documents.START, consultationId=case.id)
    assert [one["role"] for one in answer.error.details["missing"]] == ["PATIENT"]


@pytest.mark.parametrize(
    "document", [documents.START, documents.STOP, documents.RECORDING, documents.ISSUE_URL]
)
async def test_hidden_recording_is_answered_as_absent_and_audited_as_denied(
    harness: ApiHarness, case: Case, other_doctor: Person, document: str
) -> None:
    recording = str(await harness.recording(case))
    answers = []
    for consultation_id, recording_id in ((case.id, recording), (str(uuid4()), str(uuid4()))):
        variables = {"consultationId": consultation_id, "recordingId": recording_id, "id": recording_id}
        answers.append(await other_doctor.send(document, purposeOfUse="TREATMENT", **variables))
    hidden, absent = answers
    assert hidden.error.code == "NOT_FOUND"
    assert len(hidden.response.content) == len(absent.response.content)
    assert unlike_request(hidden.body) == unlike_request(absent.body)
    (denied,), (missing,) = [await harness.audit(answer.request_id) for answer in answers]
    assert (denied["outcome"], missing["outcome"]) == ("DENIED", "ABSENT")
    assert denied["action"] == missing["action"]
    assert [str(one) for one in denied["patient_ids"]] == [case.patient_id]


async def test_stop_before_the_egress_request_aborts_and_a_repeated_stop_changes_nothing(
    harness: ApiHarness, case: Case
) -> None:
    await case.consent()
    started = await _start(case)
    first = await case.doctor.ask(documents.STOP, recordingId=started["id"])
    second = await case.doctor.ask(documents.STOP, recordingId=started["id"])
    assert first == second
    assert (first["status"], first["problem"]["code"]) == ("ABORTED", "STOPPED_BY_REQUEST")
    assert "stopped by a request" in first["problem"]["message"]
    await harness.work()
    assert await case.doctor.ask(documents.RECORDING, id=started["id"]) == first


async def test_stop_of_a_finished_recording_changes_nothing(harness: ApiHarness, case: Case) -> None:
    recording = str(await harness.recording(case))
    before = await case.doctor.ask(documents.RECORDING, id=recording)
    assert await case.doctor.ask(documents.STOP, recordingId=recording) == before
    assert before["status"] == "READY"


async def test_one_consultation_is_recorded_from_start_to_ready(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    for person in (case.doctor, case.patient):
        token = (await person.ask(documents.JOIN, consultationId=case.id))["joinToken"]["token"]
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.post(f"{harness.livekit_url}/stand-in/join", json={"token": token})
    started = await _start(case)
    running = await harness.until(case.doctor, started["id"], "RECORDING")
    assert running["egressId"].startswith("EG_")
    stopping = await case.doctor.ask(documents.STOP, recordingId=started["id"])
    assert stopping["status"] == "STOPPING"
    assert (await case.doctor.ask(documents.STOP, recordingId=started["id"]))["status"] == "STOPPING"
    ready = await harness.until(case.doctor, started["id"], "READY")
    content = MEDIA.read_bytes()
    assert (ready["sizeBytes"], ready["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert ready["durationSeconds"] > 0
    assert ready["startedAt"] < ready["endedAt"]
    assert (ready["isTruncated"], ready["problem"]) == (False, None)


async def _until_sounds(harness: ApiHarness, person: Person, video_id: str, status: str) -> None:
    """Run jobs until each sound recording beside the video has this status."""
    async with asyncio.timeout(20):
        while True:
            await harness.livekit.notifier.idle()
            await harness.work()
            sounds = (await person.ask(documents.RECORDING, id=video_id))["mediaFiles"]
            if {sound["status"] for sound in sounds} == {status}:
                return
            await asyncio.sleep(0.01)


async def _finished_with_speakers(harness: ApiHarness) -> tuple[Case, Any]:
    """Return a consultation and its finished recording, which has a video and separate sounds of the speakers."""
    case = await harness.case(recordsSpeakersSeparately=True)
    await case.consent()
    for person in (case.doctor, case.patient):
        token = (await person.ask(documents.JOIN, consultationId=case.id))["joinToken"]["token"]
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.post(f"{harness.livekit_url}/stand-in/join", json={"token": token})
    started = await _start(case)
    recording = await harness.until(case.doctor, started["id"], "RECORDING")
    assert recording["mediaFiles"] != []
    await _until_sounds(harness, case.doctor, started["id"], "RECORDING")
    refused = await case.doctor.send(documents.START, consultationId=case.id)
    assert refused.error.details["recordingId"] == started["id"]
    for _ in range(2):
        await case.doctor.ask(documents.STOP, recordingId=started["id"])
    await _until_sounds(harness, case.doctor, started["id"], "READY")
    return case, await harness.until(case.doctor, started["id"], "READY")


async def test_speakers_are_returned_with_their_video_and_not_in_the_list(
    harness: ApiHarness,
) -> None:
    case, video = await _finished_with_speakers(harness)
    assert video["source"] == "EGRESS"
    for sound in video["mediaFiles"]:
        assert (sound["status"], sound["problem"]) == ("READY", None)
        assert sound["durationSeconds"] > 0
        assert sound["kind"] in ("MICROPHONE", "SPEAKERS")
    page = await case.doctor.ask(documents.RECORDINGS)
    assert [edge["node"] for edge in page["edges"]] == [video]


async def test_only_their_doctor_downloads_media_with_names_of_their_kind(
    harness: ApiHarness, other_doctor: Person
) -> None:
    case, video = await _finished_with_speakers(harness)
    for medium in (video, *video["mediaFiles"]):
        suffix = "ogg" if medium.get("kind") == "SPEAKERS" else "mp4"
        asked = {"recordingId": video["id"], "file": medium["id"], "purposeOfUse": "TREATMENT"}
        url = (await case.doctor.ask(documents.ISSUE_URL, **asked))["url"]
        async with httpx.AsyncClient(trust_env=False) as http:
            downloaded = await http.get(url)
        assert len(downloaded.content) == medium["sizeBytes"]
        assert hashlib.sha256(downloaded.content).hexdigest() == medium["sha256"]
        named = f'attachment; filename="{medium["id"]}.{suffix}"'
        assert downloaded.headers["content-disposition"] == named
        kind = "video" if medium is video else "audio"
        assert downloaded.headers["content-type"] == f"{kind}/{suffix}"
        assert await other_doctor.refused(documents.ISSUE_URL, **asked) == (
            "NOT_FOUND",
            "recording_not_found",
        )


async def test_stop_ends_all_media_and_a_repeated_stop_changes_nothing(harness: ApiHarness) -> None:
    case, video = await _finished_with_speakers(harness)
    ids = [video["id"], *(sound["id"] for sound in video["mediaFiles"])]
    steps = await harness.rows(
        "select reason from audit.events where action = 'recording.transition' and entities -> 0 -> 'ids' ?| %s::text[]"
        " and reason like 'RECORDING>STOPPING%%'",
        ids,
    )
    assert [step["reason"] for step in steps] == ["RECORDING>STOPPING"] * len(ids)
    before = await case.doctor.ask(documents.RECORDING, id=video["id"])
    await case.doctor.ask(documents.STOP, recordingId=video["id"])
    assert await case.doctor.ask(documents.RECORDING, id=video["id"]) == before


async def test_size_above_32_bits_is_returned_as_a_number(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "VERIFYING")
    await harness.rows("update resguardo.recordings set size_bytes = 5000000000 where id = %s", recording)
    assert (await case.doctor.ask(documents.RECORDING, id=str(recording)))["sizeBytes"] == 5_000_000_000


async def test_recording_is_read_by_the_egress_of_its_video(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    recording = await harness.recording(case)
    document = "query ($by: RecordingBy!) { recording(by: $by) { id egressId } }"
    by = {"egressId": f"EG_{recording.hex}"}
    assert await case.doctor.ask(document, by=by) == {"id": str(recording), **by}
    answers = [
        await other_doctor.send(document, by=by),
        await case.doctor.send(document, by={"egressId": "EG_of_nobody"}),
    ]
    assert {(answer.error.code, answer.error.reason) for answer in answers} == {
        ("NOT_FOUND", "recording_not_found")
    }
    rows = [(await harness.audit(answer.request_id))[0] for answer in answers]
    assert [row["outcome"] for row in rows] == ["DENIED", "ABSENT"]
