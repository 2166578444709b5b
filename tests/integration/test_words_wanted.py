"""Whether a recording is turned into words at all, and what is told where nobody speaks."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.integrations.speech import Heard, HeardSegment
from app.transcripts.transcriber import Transcriber
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.keeping_world import KEYRING, opened
from tests.integration.words_world import ScriptedSpeech, Words, register_keys, script_sound

pytestmark = pytest.mark.anyio


@pytest.fixture
async def words(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Words]:
    script_sound(monkeypatch, 3)
    async with opened(database, emptied_store) as world:
        await register_keys(world)
        yield Words(world, ScriptedSpeech())


async def consents(words: Words, consultation: UUID, kind: str, *decisions: tuple[str, str]) -> None:
    """A participant, and each word of theirs: what was decided, by which version of the text."""
    participant = uuid4()
    await words.world.rows(
        "insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind)"
        " select %s, c.id, c.doctor_id, c.patient_id, %s from resguardo.consultations as c where c.id = %s",
        participant,
        kind,
        consultation,
    )
    for decision, version in decisions:
        await words.world.rows(
            "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
            " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
            " select gen_random_uuid(), p.consultation_id, p.doctor_id, p.patient_id, p.id, p.kind, %s, 'SELF',"
            " p.doctor_id, %s, 'en', repeat('a', 64) from resguardo.participants as p where p.id = %s",
            decision,
            version,
            participant,
        )


@pytest.mark.parametrize(
    ("decisions", "state"),
    [
        ([("GIVEN", "2026-11")], ("READY", None)),
        ([("GIVEN", "2025-01")], ("OFF", "consent_text")),
        ([("GIVEN", "2026-11"), ("GIVEN", "2025-01")], ("OFF", "consent_text")),
        ([("GIVEN", "2025-01"), ("WITHDRAWN", "2026-11")], ("OFF", "consent_text")),
        ([("GIVEN", "2025-01"), ("GIVEN", "2026-11")], ("READY", None)),
        ([], ("READY", None)),
    ],
)
async def test_nothing_is_sent_unless_every_text_speaks_of_it(
    words: Words, decisions: Any, state: tuple[str, str | None]
) -> None:
    consultation = await words.world.consultation()
    await consents(words, consultation, "DOCTOR", ("GIVEN", "2026-11"))
    await consents(words, consultation, "PATIENT", *decisions)
    video = await words.world.recording(consultation)
    await words.transcriber().transcribe(video)
    assert (await words.state_of(video))[:2] == state
    assert bool(words.speech.asked) is (state[0] == "READY")


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
async def test_recording_that_nobody_wants_in_words_gets_no_job(
    words: Words, sensitivity: str, said: bool | None, is_wanted: bool
) -> None:
    consultation = await words.world.consultation()
    await words.world.rows(
        "update resguardo.consultations set sensitivity = %s, transcribe = %s where id = %s",
        sensitivity,
        said,
        consultation,
    )
    video = await words.world.recording(consultation)
    state = ("PENDING", None) if is_wanted else ("OFF", "switched_off")
    assert (await words.state_of(video))[:2] == state
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'transcribe_recording'"
    assert await words.world.value(jobs) == int(is_wanted)
    await words.transcriber().transcribe(video)
    assert bool(words.speech.asked) is is_wanted


async def test_recording_without_a_speech_service_says_so(words: Words) -> None:
    video = await words.recorded()
    await Transcriber(words.world.worker, words.world.storage, None, KEYRING).transcribe(video)
    assert (await words.state_of(video))[:2] == ("OFF", "speech_not_configured")


@pytest.mark.parametrize("turns", [0, 3])
async def test_recording_in_which_nobody_speaks_is_ready_and_has_no_speech(
    words: Words, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Where the plan has no turn, a movie without sound among them, and where the service heard nothing in any."""

    async def nothing(flac: bytes, *, language: str | None) -> Heard:
        return Heard(())

    script_sound(monkeypatch, turns)
    monkeypatch.setattr(words.speech, "transcribe", nothing)
    video = await words.recorded()
    await words.transcriber().transcribe(video)
    assert await words.state_of(video) == ("NO_SPEECH", None, turns, turns)
    status = "select status from resguardo.recordings where id = %s"
    assert await words.world.value(status, video) == "READY"
    for table in ("private.transcript_words", "private.transcript_pieces"):
        assert await words.world.value(f"select count(*) from {table}") == 0  # noqa: S608 - names of ours


async def test_speech_in_spanish_is_kept_as_it_was_said(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spanish(flac: bytes, *, language: str | None) -> Heard:
        return Heard((HeardSegment(0, 900, "Me duele la cabeza desde el año pasado."),), "es")

    monkeypatch.setattr(words.speech, "transcribe", spanish)
    video = await words.recorded()
    await words.transcriber().transcribe(video)
    made = await words.transcript_of(video)
    assert made.language == "es"
    assert {turn.text for turn in made.turns} == {"Me duele la cabeza desde el año pasado."}


async def beside(words: Words, consultation: UUID, *, seconds: float) -> UUID:
    """A video, READY, that began so long after the sound beside it."""
    video = await words.world.recording(consultation, status="VERIFYING")
    speakers = await words.world.recording(consultation, medium="SPEAKERS", beside=video, status="VERIFYING")
    key = KEYRING.new_data_key()
    await words.world.rows(
        "insert into private.recording_keys values (%s, %s, %s)", video, key.wrapped, key.root_key_id
    )
    for one, began in ((speakers, 0.0), (video, seconds)):
        await words.world.storage.put_new(await words.world.key_of(one), b"x" * 64, "video/mp4")
        await words.world.rows(
            "update resguardo.recordings set status = 'READY', started_at = private.now() + make_interval(secs => %s)"
            " where id = %s",
            began,
            one,
        )
    return video


@pytest.mark.parametrize(
    ("seconds", "starts"), [(1.5, [0, 0, 500]), (0.0, [0, 1000, 2000]), (-0.25, [250, 1250, 2250])]
)
async def test_turns_are_told_on_the_videos_timeline_whenever_the_sound_began(
    words: Words, seconds: float, starts: list[int]
) -> None:
    video = await beside(words, await words.world.consultation(), seconds=seconds)
    await words.transcriber().transcribe(video)
    made = await words.transcript_of(video)
    assert [turn.start_ms for turn in made.turns] == starts
    assert [turn.speaker.value for turn in made.turns] == ["DOCTOR", "PATIENT", "DOCTOR"]


@pytest.mark.parametrize("has_joined", [True, False])
async def test_channels_name_nobody_where_a_guest_was_let_in(words: Words, has_joined: bool) -> None:
    consultation = await words.world.consultation()
    await words.world.rows(
        "insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role, joined_at)"
        " select gen_random_uuid(), c.id, c.doctor_id, c.patient_id, 'GUEST', 'INTERPRETER',"
        " case when %s then private.now() end from resguardo.consultations as c where c.id = %s",
        has_joined,
        consultation,
    )
    video = await beside(words, consultation, seconds=0)
    await words.transcriber().transcribe(video)
    made = await words.transcript_of(video)
    assert {turn.speaker.value for turn in made.turns} == (
        {"UNKNOWN"} if has_joined else {"DOCTOR", "PATIENT"}
    )
    assert [turn.label for turn in made.turns] == [0, 1, 0], "so that each voice is named in one call"


async def test_channels_of_a_movie_name_nobody(words: Words) -> None:
    video = await words.recorded()
    await words.transcriber().transcribe(video)
    assert {turn.speaker.value for turn in (await words.transcript_of(video)).turns} == {"UNKNOWN"}
