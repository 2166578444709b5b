"""Tests of the sound recordings beside a video. The API returns each sound recording, issues its download URL, and
sends its changes to subscribers in the same way as for the video.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID, uuid4

import httpx
import pytest

from app.main import create_app
from app.texts import recording_error_text
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.socket_client import ORIGIN, open_socket, serve_app

pytestmark = pytest.mark.anyio

_INSERT: LiteralString = """
insert into resguardo.recordings (
    id, consultation_id, doctor_id, patient_id, requested_by, room_name, status, medium, video_id, participant_id,
    track_sid, egress_id, sha256, size_bytes, error, started_at, created_at, updated_at
)
select
    %s, v.consultation_id, v.doctor_id, v.patient_id, v.requested_by, v.room_name, %s, 'MICROPHONE', v.id, %s,
    %s, %s, encode(sha256(%s), 'hex'), %s, %s, v.created_at + %s * interval '1 second',
    v.created_at + %s * interval '1 second', clock_timestamp() + %s * interval '1 hour'
from resguardo.recordings as v where v.id = %s
"""


@dataclass
class Sounds:
    """Inserts recordings of microphones beside one video, in the same way as the worker."""

    harness: ApiHarness
    case: Case
    video: UUID
    count: int = 0

    async def add(
        self,
        participant: str,
        status: str = "READY",
        *,
        content: bytes = b"sound",
        error: str | None = None,
        hours_ahead: int = 0,
    ) -> UUID:
        """Insert the sound recording of a participant's microphone, with a later time than all sound recordings
        inserted before. If the sound recording's status is READY, the method also stores its object in the bucket.
        """
        sound = uuid4()
        self.count += 1
        await self.harness.rows(
            _INSERT,
            sound,
            status,
            UUID(participant),
            f"TR_{sound.hex[:12]}",
            f"EG_{sound.hex}",
            content,
            len(content),
            error,
            self.count,
            self.count,
            hours_ahead,
            self.video,
        )
        key = f"keep/{self.case.id}/{self.video}/microphone-{sound}.mp4"
        await self.harness.rows("insert into private.recording_secrets values (%s, %s)", sound, key)
        if status == "READY":
            await self.harness.bucket.put_new(key, content, "video/mp4")
        return sound

    async def shown(self) -> list[Any]:
        """Return the sound recordings beside the video, as the API returns them to the doctor."""
        found = await self.case.doctor.ask(documents.RECORDING, id=str(self.video))
        return list(found["mediaFiles"])


@pytest.fixture
async def sounds(harness: ApiHarness, case: Case) -> Sounds:
    await case.consent()
    return Sounds(harness, case, await harness.recording(case))


async def _guest(case: Case, role: str) -> str:
    guest = await case.doctor.ask(documents.INVITE, consultationId=case.id, role=role)
    return str(guest["participant"]["id"])


async def test_recording_without_sounds_has_an_empty_list(sounds: Sounds) -> None:
    assert await sounds.shown() == []


async def test_sounds_are_listed_with_their_participants_in_the_order_of_their_tracks(sounds: Sounds) -> None:
    case = sounds.case
    doctor, patient = case.participant("DOCTOR"), case.participant("PATIENT")
    interpreter, companion = await _guest(case, "INTERPRETER"), await _guest(case, "COMPANION")
    given = [
        (doctor, "DOCTOR", None, "READY"),
        (patient, "PATIENT", None, "FAILED"),
        (interpreter, "GUEST", "INTERPRETER", "LOST"),
        (patient, "PATIENT", None, "STOPPING"),
        (companion, "GUEST", "COMPANION", "READY"),
        (patient, "PATIENT", None, "ABORTED"),
        (doctor, "DOCTOR", None, "VERIFYING"),
    ]
    made = [str(await sounds.add(who, status)) for who, _, _, status in given]
    shown = await sounds.shown()
    assert [one["id"] for one in shown] == made
    assert [(one["participant"], one["status"], one["kind"]) for one in shown] == [
        ({"id": who, "kind": kind, "guestRole": role}, status, "MICROPHONE")
        for who, kind, role, status in given
    ]
    assert len({one["trackSid"] for one in shown}) == len(given)
    assert shown[0]["startedAt"] < shown[-1]["startedAt"]
    assert shown[0]["sha256"] == hashlib.sha256(b"sound").hexdigest()


async def test_sound_has_its_own_truncated_and_interrupted(sounds: Sounds) -> None:
    """The fields `isTruncated` and `isInterrupted` of a sound recording describe only this sound recording. The video
    and each sound recording beside it have their own values of `isTruncated` and `isInterrupted`.
    """
    doctor, patient = sounds.case.participant("DOCTOR"), sounds.case.participant("PATIENT")
    whole, cut, interrupted = [await sounds.add(one, "VERIFYING") for one in (doctor, patient, doctor)]
    await sounds.harness.rows("update resguardo.recordings set truncated = true where id = %s", cut)
    await sounds.harness.rows("update resguardo.recordings set interrupted = true where id = %s", interrupted)
    shown = {one["id"]: (one["isTruncated"], one["isInterrupted"]) for one in await sounds.shown()}
    assert shown == {str(whole): (False, False), str(cut): (True, False), str(interrupted): (False, True)}


async def test_list_shows_each_video_once_with_its_own_sounds(sounds: Sounds) -> None:
    case, harness = sounds.case, sounds.harness
    other = Sounds(harness, case, await harness.recording(case))
    mine = {str(await sounds.add(case.participant("DOCTOR"))) for _ in range(3)}
    theirs = {str(await other.add(case.participant("PATIENT"))) for _ in range(2)}
    page = await case.doctor.ask(documents.RECORDINGS)
    assert {
        edge["node"]["id"]: {one["id"] for one in edge["node"]["mediaFiles"]} for edge in page["edges"]
    } == {
        str(sounds.video): mine,
        str(other.video): theirs,
    }
    assert len(page["edges"]) == 2


async def test_page_with_sounds_is_one_statement_and_one_audit_row(sounds: Sounds) -> None:
    sound = await sounds.add(sounds.case.participant("DOCTOR"))
    answer = await sounds.case.doctor.send(documents.RECORDINGS)
    (row,) = await sounds.harness.audit(answer.request_id)
    named = {one["type"]: set(one["ids"]) for one in row["entities"]}
    assert (row["action"], row["row_count"]) == ("recording.list", 1)
    assert named["recording"] == {str(sounds.video), str(sound)}
    assert named["consultation"] == {sounds.case.id}
    assert named["participant"] == {sounds.case.participant("DOCTOR")}
    assert {"mediaFiles.kind", "mediaFiles.participant.guestRole"} <= set(row["fields"])


async def test_sound_that_is_not_selected_is_not_named_in_the_audit_row(sounds: Sounds) -> None:
    await sounds.add(sounds.case.participant("DOCTOR"))
    answer = await sounds.case.doctor.send("{ recordings { edges { node { id } } } }")
    (row,) = await sounds.harness.audit(answer.request_id)
    assert row["fields"] == ["id"]
    assert row["entities"] == [{"type": "recording", "ids": [str(sounds.video)]}]


@pytest.mark.parametrize("language", ["en", "es"])
async def test_error_of_a_sound_is_in_the_readers_language(sounds: Sounds, language: Any) -> None:
    await sounds.add(sounds.case.participant("PATIENT"), "LOST", error="egress_lost")
    answer = await sounds.case.doctor.send(documents.RECORDING, in_language=language, id=str(sounds.video))
    (shown,) = answer.data["recording"]["mediaFiles"]
    assert shown["problem"] == {
        "code": "EGRESS_LOST",
        "message": recording_error_text("egress_lost", language),
    }


async def test_only_its_doctor_downloads_a_sound_as_audio_by_its_id(
    sounds: Sounds, other_doctor: Person
) -> None:
    for participant in ("DOCTOR", "PATIENT"):
        content = f"what the {participant} said".encode()
        sound = await sounds.add(sounds.case.participant(participant), content=content)
        asked = {"recordingId": str(sounds.video), "file": str(sound), "purposeOfUse": "TREATMENT"}
        answer = await sounds.case.doctor.send(documents.ISSUE_URL, **asked)
        (row,) = await sounds.harness.audit(answer.request_id)
        assert row["entities"] == [{"type": "recording", "ids": sorted([str(sounds.video), str(sound)])}]
        assert (row["action"], row["outcome"], row["byte_count"]) == (
            "recording.issue_url",
            "ALLOWED",
            len(content),
        )
        url = (await sounds.case.doctor.ask(documents.ISSUE_URL, **asked))["url"]
        async with httpx.AsyncClient(trust_env=False) as http:
            downloaded = await http.get(url)
        assert downloaded.content == content
        assert downloaded.headers["content-type"] == "audio/mp4"
        assert downloaded.headers["content-disposition"] == f'attachment; filename="{sound}.mp4"'
        assert await other_doctor.refused(documents.ISSUE_URL, **asked) == (
            "NOT_FOUND",
            "recording_not_found",
        )


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("RECORDING", "recording_not_ready"),
        ("FAILED", "recording_failed"),
        ("ABORTED", "recording_aborted"),
        ("LOST", "recording_lost"),
    ],
)
async def test_sound_that_is_not_ready_has_no_url_beside_a_ready_video(
    sounds: Sounds, status: str, reason: str
) -> None:
    sound = await sounds.add(sounds.case.participant("DOCTOR"), status)
    asked = {"recordingId": str(sounds.video), "file": str(sound), "purposeOfUse": "TREATMENT"}
    assert await sounds.case.doctor.refused(documents.ISSUE_URL, **asked) == ("CONFLICT", reason)


async def test_file_of_another_recording_is_not_found(sounds: Sounds, other_doctor: Person) -> None:
    case = sounds.case
    other = Sounds(sounds.harness, case, await sounds.harness.recording(case))
    theirs = await other.add(case.participant("DOCTOR"))
    for recording, file in (
        (sounds.video, theirs),
        (sounds.video, other.video),
        (sounds.video, uuid4()),
        (theirs, theirs),
        (theirs, None),
        (uuid4(), theirs),
    ):
        asked = {"recordingId": str(recording), "file": file and str(file), "purposeOfUse": "TREATMENT"}
        answer = await case.doctor.send(documents.ISSUE_URL, **asked)
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "recording_not_found")
        (row,) = await sounds.harness.audit(answer.request_id)
        assert row["outcome"] in ("FAILED", "ABSENT")
        assert row["reason"] == "not_found"
        assert row["entities"] == [
            {"type": "recording", "ids": sorted({str(one) for one in (recording, file) if one})}
        ]
        assert await other_doctor.refused(documents.ISSUE_URL, **asked) == (
            "NOT_FOUND",
            "recording_not_found",
        )


async def test_video_is_the_default_file_of_its_recording(sounds: Sounds) -> None:
    asked = {"recordingId": str(sounds.video), "purposeOfUse": "TREATMENT"}
    for file in (None, str(sounds.video)):
        issued = await sounds.case.doctor.ask(documents.ISSUE_URL, file=file, **asked)
        assert "video.mp4" in issued["url"]


@pytest.mark.parametrize(
    "document",
    [
        documents.RECORDING,
        documents.STOP,
        documents.DELETE_RECORDING,
        documents.UNDO_DELETION,
        documents.TRANSCRIPT,
        documents.ISSUE_SUBTITLE_URLS,
        documents.RETRY_TRANSCRIPTION,
    ],
)
async def test_id_of_a_sound_is_the_id_of_no_recording(sounds: Sounds, document: str) -> None:
    sound = await sounds.add(sounds.case.participant("DOCTOR"), "RECORDING")
    variables: dict[str, object] = {"recordingId": str(sound), "id": str(sound), "reason": "OTHER"}
    named = {name: given for name, given in variables.items() if f"${name}:" in document}
    answer = await sounds.case.doctor.send(document, **named)
    assert answer.error.code == "NOT_FOUND"
    assert {row["row_count"] for row in await sounds.harness.audit(answer.request_id)} <= {0, None}
    (row,) = await sounds.harness.rows("select status from resguardo.recordings where id = %s", sound)
    assert row["status"] == "RECORDING"


async def test_other_doctors_do_not_see_a_sound(sounds: Sounds, other_doctor: Person) -> None:
    sound = await sounds.add(sounds.case.participant("DOCTOR"))
    assert await other_doctor.refused(documents.RECORDING, id=str(sound)) == (
        "NOT_FOUND",
        "recording_not_found",
    )


@pytest.fixture
async def api(harness: ApiHarness) -> AsyncIterator[str]:
    settings = harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    async with serve_app(create_app(settings)) as url:
        yield url


async def test_change_of_a_sound_is_sent_even_if_another_has_a_later_time(sounds: Sounds, api: str) -> None:
    """Two transactions can commit in a different order than the timestamps of their changes suggest."""
    doctor = sounds.case.participant("DOCTOR")
    made = [await sounds.add(doctor, "VERIFYING") for _ in range(6)]
    await sounds.add(doctor, "VERIFYING", hours_ahead=1)
    async with open_socket(api) as client:
        await client.init(sounds.case.doctor)
        await client.subscribe(documents.RECORDING_CHANGED, consultationId=sounds.case.id)
        assert len((await client.event())["mediaFiles"]) == 7
        for number, one in enumerate(reversed(made), start=1):
            await sounds.harness.rows("update resguardo.recordings set status = 'FAILED' where id = %s", one)
            told = (await client.event())["mediaFiles"]
            assert [part["status"] for part in told].count("FAILED") == number
        await client.require_no_message()
