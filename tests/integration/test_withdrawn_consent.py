"""Tests of how the withdrawal of a consent affects the transcripts of recordings that were made before the
withdrawal.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from app.errors import Conflict, InvalidInput, RateLimited
from app.media.sound_plans import Cut
from app.transcripts.transcription import store as transcription_store
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.transcription_setup import (
    SAID,
    TranscriptionPractice,
    consents,
    decide,
    open_transcription_practice,
    retry,
)

pytestmark = pytest.mark.anyio

TURNS = 6
GIVEN = ("GIVEN", "2026-12")
WITHDRAWN = ("WITHDRAWN", "2026-12")
OF_THE_FIRST_TEXT = [("GIVEN", "2026-11"), ("WITHDRAWN", "2026-11")]
REASONS = (
    "select array_agg(e.reason) from audit.events as e"
    " where e.action = 'transcript.transition' and %s = any ("
    "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid))"
)
JOBS = "select count(*) from jobs.procrastinate_jobs where task_name = 'transcribe_recording'"


@pytest.fixture
async def words(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TranscriptionPractice]:
    async with open_transcription_practice(database, emptied_store, monkeypatch, TURNS) as words:
        yield words


@pytest.mark.parametrize("kind", ["DOCTOR", "PATIENT"])
@pytest.mark.parametrize(
    "decisions", [[GIVEN, WITHDRAWN], OF_THE_FIRST_TEXT, [GIVEN, WITHDRAWN, GIVEN, WITHDRAWN]]
)
async def test_recording_is_not_transcribed_after_a_withdrawal(
    words: TranscriptionPractice, kind: str, decisions: list[tuple[str, str]]
) -> None:
    consultation = await words.harness.consultation()
    await consents(words, consultation, "PATIENT" if kind == "DOCTOR" else "DOCTOR", GIVEN)
    await consents(words, consultation, kind, *decisions)
    video = await words.harness.recording(consultation)
    assert (await words.state_of(video))[:2] == ("OFF", "consent_withdrawn")
    assert await words.harness.value(REASONS, video) == ["consent_withdrawn"]
    assert await words.harness.value(JOBS) == 0
    await words.transcriber().transcribe(video)
    assert (await words.state_of(video))[:2] == ("OFF", "consent_withdrawn")
    assert words.speech.asked == []


@pytest.mark.parametrize(("has_joined", "status"), [(True, "OFF"), (False, "PENDING")])
async def test_withdrawal_of_a_guest_counts_once_the_guest_has_joined(
    words: TranscriptionPractice, has_joined: bool, status: str
) -> None:
    consultation = await words.harness.consultation()
    for kind in ("DOCTOR", "PATIENT"):
        await consents(words, consultation, kind, GIVEN)
    await consents(
        words, consultation, "GUEST", GIVEN, WITHDRAWN, guest_role="COMPANION", has_joined=has_joined
    )
    video = await words.harness.recording(consultation)
    assert (await words.state_of(video))[0] == status


async def test_withdrawal_before_the_transcription_begins_turns_it_off(words: TranscriptionPractice) -> None:
    consultation = await words.harness.consultation()
    patient = await consents(words, consultation, "PATIENT", GIVEN)
    video = await words.harness.recording(consultation)
    assert (await words.state_of(video))[0] == "PENDING"
    await decide(words, patient, "WITHDRAWN")
    await words.transcriber().transcribe(video)
    assert (await words.state_of(video))[:2] == ("OFF", "consent_withdrawn")
    assert words.speech.asked == []
    assert await words.harness.value(REASONS, video) == ["consent_withdrawn"]


async def test_withdrawal_during_the_transcription_ends_it_before_the_next_chunk(
    words: TranscriptionPractice,
) -> None:
    video, _ = await _withdrawn_during_chunk_2(words)
    assert words.speech.asked == [0, 1, 2]
    assert (await words.state_of(video))[:3] == ("OFF", "consent_withdrawn", 2)
    assert 2 in await words.left(video), "the text that arrived after the withdrawal was stored"
    assert await words.harness.value("select count(*) from private.transcript_texts") == 0


async def _withdrawn_during_chunk_2(words: TranscriptionPractice) -> tuple[UUID, UUID]:
    """Transcribe a video whose patient withdraws consent while the speech service transcribes chunk 2. Return the
    id of the video recording and the id of the patient's participant row.
    """
    consultation = await words.harness.consultation()
    patient = await consents(words, consultation, "PATIENT", GIVEN)

    async def script(number: int, before: int) -> None:
        if number == 2:
            await decide(words, patient, "WITHDRAWN")

    words.speech.how, words.speech.script = Cut.WINDOWS, script
    video = await words.harness.recording(consultation)
    await words.transcriber().transcribe(video)
    return video, patient


async def test_answers_are_not_assembled_after_a_withdrawal(words: TranscriptionPractice) -> None:
    consultation = await words.harness.consultation()
    patient = await consents(words, consultation, "PATIENT", GIVEN)
    video = await _transcribed_but_not_assembled(words, consultation)
    await decide(words, patient, "WITHDRAWN")
    async with words.harness.worker.as_service("test") as tx:
        assert await transcription_store.read_answers(tx, video) is None
    assert (await words.state_of(video))[:2] == ("OFF", "consent_withdrawn")


async def _transcribed_but_not_assembled(words: TranscriptionPractice, consultation: UUID) -> UUID:
    async def script(number: int, before: int) -> None:
        if number == TURNS - 1:
            raise RateLimited("speech_busy")

    words.speech.script = script
    video = await words.harness.recording(consultation)
    with pytest.raises(RateLimited):
        await words.transcriber().transcribe(video)
    words.speech.script = None
    await words.harness.rows("update resguardo.transcripts set chunks_done = chunks_total")
    return video


async def test_finished_transcript_stays_after_a_withdrawal(words: TranscriptionPractice) -> None:
    consultation = await words.harness.consultation()
    patient = await consents(words, consultation, "PATIENT", GIVEN)
    video = await words.harness.recording(consultation)
    await words.transcriber().transcribe(video)
    await decide(words, patient, "WITHDRAWN")
    await words.transcriber().transcribe(video)
    assert (await words.state_of(video))[:2] == ("READY", None)
    said = [turn.text for turn in (await words.transcript_of(video)).turns]
    assert said == [SAID.format(number=number) for number in range(TURNS)]


async def test_retry_of_unintelligible_turns_ends_with_a_withdrawal_and_leaves_the_transcript(
    words: TranscriptionPractice,
) -> None:
    consultation = await words.harness.consultation()
    patient = await consents(words, consultation, "PATIENT", GIVEN)
    video = await words.harness.recording(consultation)
    words.speech.script = _refuse_one
    await words.transcriber().transcribe(video)
    before = (await words.transcript_of(video)).turns
    words.speech.script = None
    words.speech.asked.clear()
    await retry(words, video)
    await decide(words, patient, "WITHDRAWN")
    await words.transcriber().transcribe(video)
    assert words.speech.asked == []
    assert (await words.state_of(video))[:2] == ("READY", "consent_withdrawn")
    assert (await words.transcript_of(video)).turns == before
    with pytest.raises(Conflict, match="transcription_consent_withdrawn"):
        await retry(words, video)


async def _refuse_one(number: int, before: int) -> None:
    if number == 3:
        raise InvalidInput("speech_refused")


async def test_retry_is_refused_until_the_consent_is_given_again(words: TranscriptionPractice) -> None:
    video, patient = await _withdrawn_during_chunk_2(words)
    words.speech.script = None
    with pytest.raises(Conflict, match="transcription_consent_withdrawn"):
        await retry(words, video)
    assert (await words.state_of(video))[0] == "OFF"
    await decide(words, patient, "GIVEN")
    await retry(words, video)
    words.speech.asked.clear()
    await words.transcriber().transcribe(video)
    assert words.speech.asked == [2, 3, 4, 5], "only the chunks without a stored text are sent again"
    assert (await words.state_of(video))[:2] == ("READY", None)


async def test_consent_given_again_before_the_worker_looks_lets_the_transcription_go_on(
    words: TranscriptionPractice,
) -> None:
    consultation = await words.harness.consultation()
    patient = await consents(words, consultation, "PATIENT", GIVEN)
    video = await words.harness.recording(consultation)
    for decision in ("WITHDRAWN", "GIVEN"):
        await decide(words, patient, decision)
    await words.transcriber().transcribe(video)
    assert (await words.state_of(video))[:2] == ("READY", None)


async def test_withdrawal_in_one_consultation_leaves_the_others_alone(words: TranscriptionPractice) -> None:
    patient_id = await words.harness.patient()
    one, other = [await words.harness.consultation(patient_id) for _ in range(2)]
    await consents(words, one, "PATIENT", GIVEN, WITHDRAWN)
    await consents(words, other, "PATIENT", GIVEN)
    video = await words.harness.recording(other)
    await words.transcriber().transcribe(video)
    assert (await words.state_of(video))[:2] == ("READY", None)
