"""Tests under which conditions a recording is transcribed at all, and which status the transcript of a recording
without speech gets.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from app.errors import RateLimited, UpstreamFailed
from app.integrations.speech.client import SpeechAnswer, SpeechSegment
from app.transcripts.transcription.service import Transcriber
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.retention_harness import KEYRING
from tests.integration.transcription_setup import (
    TranscriptionPractice,
    consents,
    open_transcription_practice,
    script_sound,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TranscriptionPractice]:
    async with open_transcription_practice(database, emptied_store, monkeypatch, 3) as practice:
        yield practice


@pytest.mark.parametrize(
    ("decisions", "state"),
    [
        ([("GIVEN", "2026-11")], ("READY", None)),
        ([("GIVEN", "2025-01")], ("OFF", "consent_text")),
        ([("GIVEN", "2026-11"), ("GIVEN", "2025-01")], ("OFF", "consent_text")),
        ([("GIVEN", "2026-11"), ("GIVEN", "2026-12")], ("READY", None)),
        ([("GIVEN", "2025-01"), ("GIVEN", "2026-11")], ("READY", None)),
        ([], ("READY", None)),
    ],
)
async def test_nothing_is_sent_unless_every_consent_text_mentions_transcription(
    practice: TranscriptionPractice, decisions: Any, state: tuple[str, str | None]
) -> None:
    consultation = await practice.harness.consultation()
    await consents(practice, consultation, "DOCTOR", ("GIVEN", "2026-11"))
    await consents(practice, consultation, "PATIENT", *decisions)
    video = await practice.harness.recording(consultation)
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == state
    assert bool(practice.speech.asked) is (state[0] == "READY")


@pytest.mark.parametrize(
    ("sensitivity", "said", "is_wanted"),
    [
        ("ORDINARY", None, True),
        ("ORDINARY", False, False),
        ("PSYCHOTHERAPY", None, False),
        ("SUBSTANCE_USE", None, False),
        ("PSYCHOTHERAPY", True, True),
    ],
)
async def test_recording_that_is_not_to_be_transcribed_gets_no_job(
    practice: TranscriptionPractice, sensitivity: str, said: bool | None, is_wanted: bool
) -> None:
    consultation = await practice.harness.consultation()
    await practice.harness.rows(
        "update resguardo.consultations set sensitivity = %s, transcribe = %s where id = %s",
        sensitivity,
        said,
        consultation,
    )
    video = await practice.harness.recording(consultation)
    state = ("PENDING", None) if is_wanted else ("OFF", "switched_off")
    assert (await practice.state_of(video))[:2] == state
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'transcribe_recording'"
    assert await practice.harness.value(jobs) == int(is_wanted)
    await practice.transcriber().transcribe(video)
    assert bool(practice.speech.asked) is is_wanted


async def test_recording_without_a_speech_service_has_this_reason(practice: TranscriptionPractice) -> None:
    video = await practice.recorded()
    await Transcriber(practice.harness.worker, practice.harness.storage, None, KEYRING).transcribe(video)
    assert (await practice.state_of(video))[:2] == ("OFF", "speech_not_configured")


@pytest.mark.parametrize("turns", [0, 3])
async def test_recording_in_which_nobody_speaks_is_ready_and_has_no_speech(
    practice: TranscriptionPractice, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """A recording has no speech if the plan of its chunks has no turn, for example because the video has no sound.
    A recording also has no speech if the speech service returns no text for any turn.
    """

    async def nothing(flac: bytes, *, language: str | None) -> SpeechAnswer:
        return SpeechAnswer(())

    script_sound(monkeypatch, turns)
    monkeypatch.setattr(practice.speech, "transcribe", nothing)
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("NO_SPEECH", None, turns, turns)
    status = "select status from resguardo.recordings where id = %s"
    assert await practice.harness.value(status, video) == "READY"
    for table in ("private.transcript_texts", "private.transcript_chunks"):
        assert await practice.harness.value(f"select count(*) from {table}") == 0  # noqa: S608 - table names from this test


async def test_spanish_speech_is_stored_unchanged(
    practice: TranscriptionPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spanish(flac: bytes, *, language: str | None) -> SpeechAnswer:
        return SpeechAnswer((SpeechSegment(0, 900, "Me duele la cabeza desde el año pasado."),), "es")

    monkeypatch.setattr(practice.speech, "transcribe", spanish)
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    made = await practice.transcript_of(video)
    assert made.language == "es"
    assert {turn.text for turn in made.turns} == {"Me duele la cabeza desde el año pasado."}


async def parts_beside(
    practice: TranscriptionPractice,
    consultation: UUID,
    *parts: dict[str, Any],
    video_began: float = 0.0,
    video_longer: float | None = None,
) -> tuple[UUID, list[UUID]]:
    """Insert a READY video, and the sound recordings that belong to the video. Each positional argument of the
    function describes one sound recording. `began` is the number of seconds after START at which a sound recording
    began, or None if it never began. If `status` is not given, the sound recording is READY.

    The video's file is `video_longer` seconds longer than LiveKit reported.
    """
    harness = practice.harness
    video = await harness.recording(consultation, status="VERIFYING")
    key = KEYRING.new_data_key()
    await harness.rows(
        "insert into private.recording_keys values (%s, %s, %s)", video, key.wrapped, key.root_key_id
    )
    made = []
    for part in parts:
        given = {name: part[name] for name in part if name not in ("began", "status")}
        status = part.get("status", "READY")
        first = status if status == "ABORTED" else "VERIFYING"
        one = await harness.recording(consultation, video_id=video, status=first, **given)
        made.append(one)
        if part.get("began") is not None:
            await _set_began(practice, one, part["began"])
        if status == "READY":
            await harness.storage.put_new(await harness.key_of(one), b"x" * 64, "audio/mp4")
        await harness.rows("update resguardo.recordings set status = %s where id = %s", status, one)
    await harness.storage.put_new(await harness.key_of(video), b"x" * 64, "video/mp4")
    await _set_began(practice, video, video_began)
    if video_longer is not None:
        await harness.rows(
            "update resguardo.recordings set ended_at = started_at + interval '50 s', duration_seconds = %s"
            " where id = %s",
            50 + video_longer,
            video,
        )
    await harness.rows("update resguardo.recordings set status = 'READY' where id = %s", video)
    return video, made


async def _consultation(practice: TranscriptionPractice) -> tuple[UUID, UUID, UUID]:
    """Insert a consultation that the doctor and the patient have joined. Return the ids of the consultation and of
    the participants.
    """
    consultation = await practice.harness.consultation()
    doctor = await practice.harness.participant(consultation, "DOCTOR")
    return consultation, doctor, await practice.harness.participant(consultation, "PATIENT")


async def _set_began(practice: TranscriptionPractice, recording: UUID, seconds: float) -> None:
    await practice.harness.rows(
        "update resguardo.recordings set started_at = private.now() + make_interval(secs => %s) where id = %s",
        seconds,
        recording,
    )


async def shown(
    practice: TranscriptionPractice, video: UUID
) -> list[tuple[int, str, int | None, UUID | None]]:
    """Transcribe the video. Return, for each turn of the transcript, its start in milliseconds, its speaker, its
    label and its participant.
    """
    await practice.transcriber().transcribe(video)
    turns = (await practice.transcript_of(video)).turns
    return [(turn.start_ms, turn.speaker.value, turn.label, turn.participant_id) for turn in turns]


@pytest.mark.parametrize(
    ("seconds", "starts"), [(1.5, [0, 0, 410]), (0.0, [0, 910, 1910]), (-0.25, [160, 1160, 2160])]
)
async def test_turns_are_on_the_videos_timeline_whenever_the_sound_began(
    practice: TranscriptionPractice, seconds: float, starts: list[int]
) -> None:
    """In this test, the file of each sound recording begins 0.09 s before the start time that LiveKit reported."""
    consultation = await practice.harness.consultation()
    routed = {"medium": "SPEAKERS", "is_routed": True, "began": 0.0}
    video, _ = await parts_beside(practice, consultation, routed, video_began=seconds)
    assert [turn[0] for turn in await shown(practice, video)] == starts


@pytest.mark.parametrize(("longer", "late_ms"), [(None, -90), (0.7, 610), (4.2, 910), (-3.0, -90)])
async def test_start_of_the_video_is_corrected_by_the_length_of_its_file(
    practice: TranscriptionPractice, longer: float | None, late_ms: int
) -> None:
    consultation = await practice.harness.consultation()
    routed = {"medium": "SPEAKERS", "is_routed": True, "began": 0.0}
    video, _ = await parts_beside(practice, consultation, routed, video_longer=longer)
    assert [turn[0] for turn in await shown(practice, video)] == [
        max(0, n + late_ms) for n in (0, 1000, 2000)
    ]


async def test_each_microphone_has_the_voice_of_its_participant(practice: TranscriptionPractice) -> None:
    harness = practice.harness
    consultation = await harness.consultation()
    patient = await harness.participant(consultation, "PATIENT")
    doctor = await harness.participant(consultation, "DOCTOR")
    mother, father = [await harness.participant(consultation, "GUEST", "COMPANION") for _ in range(2)]
    video, parts = await parts_beside(
        practice,
        consultation,
        *(
            {"medium": "MICROPHONE", "participant": one, "began": began}
            for one, began in (
                (patient, 0.09),
                (doctor, 10.09),
                (mother, 20.09),
                (father, 30.09),
                (patient, 7200.09),
            )
        ),
    )
    read = await shown(practice, video)
    assert {turn[1:] for turn in read} == {
        ("DOCTOR", 0, doctor),
        ("PATIENT", 1, patient),
        *{("COMPANION", read[n][2], one) for n, one in ((6, mother), (9, father))},
    }
    assert {read[6][2], read[9][2]} == {2, 3}, "two guests with the same role have two labels"
    assert [turn[0] for turn in read if turn[3] == patient] == [
        0,
        1000,
        2000,
        7_200_000,
        7_201_000,
        7_202_000,
    ]
    assert len(read) == len({*practice.speech.asked}) * 5 == 15
    assert await practice.state_of(video) == ("READY", None, 15, 15)
    (row,) = await harness.rows(
        "select "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids from audit.events where action = 'transcript.begin'"
    )
    assert set(row["entity_ids"]) == {video, *parts}, (
        "the audit row names each recording whose object key was read"
    )


@pytest.mark.parametrize(
    ("is_routed", "speakers"),
    [(True, ["DOCTOR", "PATIENT", "DOCTOR"]), (False, ["UNKNOWN"] * 3)],
)
@pytest.mark.parametrize("has_guest", [True, False])
async def test_channels_name_speakers_only_if_routed(
    practice: TranscriptionPractice, is_routed: bool, speakers: list[str], has_guest: bool
) -> None:
    """LiveKit writes the participants' tracks to the two channels in random order, so the order in which they
    joined does not show who speaks on which channel.
    """
    consultation, doctor, patient = await _consultation(practice)
    if has_guest:
        await practice.harness.participant(consultation, "GUEST", "INTERPRETER")
    part = {"medium": "SPEAKERS", "is_routed": is_routed, "began": 0.09}
    video, _ = await parts_beside(practice, consultation, part)
    read = await shown(practice, video)
    assert [turn[1] for turn in read] == speakers
    assert [turn[2] for turn in read] == [0, 1, 0], (
        "each channel has a label, so one mutation can name its speaker"
    )
    assert [turn[3] for turn in read] == ([doctor, patient, doctor] if is_routed else [None] * 3)


@pytest.mark.parametrize(
    ("status", "began", "is_video"),
    [
        ("LOST", None, True),
        ("LOST", 5.0, True),
        ("FAILED", 5.0, True),
        ("FAILED", None, False),
        ("ABORTED", None, False),
    ],
)
async def test_video_is_transcribed_if_a_recorded_part_is_lost(
    practice: TranscriptionPractice, status: str, began: float | None, is_video: bool
) -> None:
    """If a sound recording never began, for example because its track ended before the egress started, the
    recording contains nothing.
    """
    consultation, doctor, patient = await _consultation(practice)
    video, _ = await parts_beside(
        practice,
        consultation,
        {"medium": "MICROPHONE", "participant": doctor, "began": 0.09},
        {"medium": "MICROPHONE", "participant": patient, "began": began, "status": status},
    )
    read = await shown(practice, video)
    assert {turn[1] for turn in read} == ({"UNKNOWN"} if is_video else {"DOCTOR"})


async def test_video_is_transcribed_if_the_object_of_a_part_is_missing(
    practice: TranscriptionPractice,
) -> None:
    consultation = await practice.harness.consultation()
    doctor = await practice.harness.participant(consultation, "DOCTOR")
    video, (part,) = await parts_beside(
        practice, consultation, {"medium": "MICROPHONE", "participant": doctor, "began": 0.09}
    )
    await practice.harness.rows(
        "update resguardo.recordings set missing_since = private.now() where id = %s", part
    )
    assert {turn[1] for turn in await shown(practice, video)} == {"UNKNOWN"}


@pytest.mark.parametrize("status", ["REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING"])
async def test_transcription_waits_for_each_unfinished_part(
    practice: TranscriptionPractice, status: str
) -> None:
    consultation, doctor, patient = await _consultation(practice)
    video, (_, late) = await parts_beside(
        practice,
        consultation,
        {"medium": "MICROPHONE", "participant": doctor, "began": 0.09},
        {"medium": "MICROPHONE", "participant": patient, "began": 0.09, "status": "VERIFYING"},
    )
    await practice.harness.rows("alter table resguardo.recordings disable trigger user")
    await practice.harness.rows("update resguardo.recordings set status = %s where id = %s", status, late)
    await practice.harness.rows("alter table resguardo.recordings enable trigger user")
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("PENDING", None, 0, None)
    await practice.harness.rows("alter table resguardo.recordings disable trigger user")
    await practice.harness.rows("update resguardo.recordings set status = 'VERIFYING' where id = %s", late)
    await practice.harness.rows("alter table resguardo.recordings enable trigger user")
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'transcribe_recording'"
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    await practice.harness.storage.put_new(await practice.harness.key_of(late), b"x" * 64, "audio/mp4")
    await practice.harness.rows("update resguardo.recordings set status = 'READY' where id = %s", late)
    assert await practice.harness.value(jobs) == 1
    assert {turn[1] for turn in await shown(practice, video)} == {"DOCTOR", "PATIENT"}


async def test_part_that_becomes_ready_after_the_plan_changes_nothing(
    practice: TranscriptionPractice,
) -> None:
    consultation, doctor, patient = await _consultation(practice)
    video, (_, late) = await parts_beside(
        practice,
        consultation,
        {"medium": "MICROPHONE", "participant": doctor, "began": 0.09},
        {"medium": "MICROPHONE", "participant": patient, "began": 0.09, "status": "LOST"},
    )

    async def busy(number: int, before: int) -> None:
        raise RateLimited("speech_busy")

    practice.speech.script = busy
    with pytest.raises(RateLimited):
        await practice.transcriber().transcribe(video)
    await practice.harness.storage.put_new(await practice.harness.key_of(late), b"x" * 64, "audio/mp4")
    await practice.harness.rows("update resguardo.recordings set status = 'READY' where id = %s", late)
    practice.speech.script = None
    assert [turn[:2] for turn in await shown(practice, video)] == [(n, "UNKNOWN") for n in (0, 1000, 2000)]


async def test_channels_of_a_video_name_nobody(practice: TranscriptionPractice) -> None:
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert {turn.speaker.value for turn in (await practice.transcript_of(video)).turns} == {"UNKNOWN"}


async def test_retried_chunk_of_a_microphone_keeps_its_voice_and_place(
    practice: TranscriptionPractice,
) -> None:
    consultation = await practice.harness.consultation()
    doctor = await practice.harness.participant(consultation, "DOCTOR")
    guest = await practice.harness.participant(consultation, "GUEST", "STUDENT")
    video, _ = await parts_beside(
        practice,
        consultation,
        {"medium": "MICROPHONE", "participant": doctor, "began": 0.09},
        {"medium": "MICROPHONE", "participant": guest, "began": 0.59},
    )

    async def refused(number: int, before: int) -> None:
        if number == 1:
            raise UpstreamFailed("speech_refused")

    practice.speech.script = refused
    before = await shown(practice, video)
    assert [turn[:3] for turn in before][2:4] == [(1000, "DOCTOR", 0), (1500, "STUDENT", 2)]
    assert sum(turn.is_unintelligible for turn in (await practice.transcript_of(video)).turns) == 2
    practice.speech.script = None
    await practice.harness.rows(
        "update private.transcript_chunks set answer = null, failed_requests = 0 where recording_id = %s",
        video,
    )
    await practice.harness.rows(
        "update resguardo.transcripts set is_retried = true, chunks_total = 2, chunks_done = 0"
        " where recording_id = %s",
        video,
    )
    assert await shown(practice, video) == before
    assert not any(turn.is_unintelligible for turn in (await practice.transcript_of(video)).turns)
