"""Tests of how a transcription fails, resumes and ends. No chunk is sent again after its answer has been stored,
and the doctor learns how every transcription ended.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from procrastinate.jobs import Job, Status

from app.consents.texts import ABOUT_TRANSCRIPTION
from app.errors import AppError, Conflict, InvalidInput, NotFound, RateLimited, Timeout, UpstreamFailed
from app.jobs.queue import TRANSCRIPTION_QUEUE, Task, _runner, make_queue
from app.jobs.retries import GrowingPauses, JobFailed
from app.keys.keyring import Keyring, new_key_line
from app.media.sound_plans import Cut
from app.transcripts.tasks import TRANSCRIPTION_ATTEMPTS, define_tasks
from app.transcripts.transcription import assembly
from app.transcripts.transcription import store as transcription_store
from app.transcripts.transcription.service import OVERTAKEN_PAUSE_SECONDS
from app.transcripts.transcription.speech_requests import MAX_CONCURRENT_REQUESTS, MAX_FAILED_REQUESTS
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.retention_harness import KEYRING
from tests.integration.transcription_setup import (
    SAID,
    Killed,
    Life,
    TranscriptionPractice,
    open_transcription_practice,
    retry,
    script_sound,
)

pytestmark = pytest.mark.anyio

TURNS = 10
HOUR = 3600.0


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TranscriptionPractice]:
    async with open_transcription_practice(database, emptied_store, monkeypatch, TURNS) as practice:
        await practice.harness.adopt()
        yield practice


def fail(error: AppError, *, at: int = 3, times: int = 1) -> Any:
    """Return a script for the speech service, in which the requests for one chunk fail the given number of times."""

    async def script(number: int, before: int) -> None:
        if number == at and before < times:
            raise error

    return script


async def test_turns_are_sent_four_at_once_and_stored_in_order(practice: TranscriptionPractice) -> None:
    full = asyncio.Event()

    async def script(number: int, before: int) -> None:
        if practice.speech.now == MAX_CONCURRENT_REQUESTS[Cut.TURNS]:
            full.set()
        await asyncio.wait_for(full.wait(), 10)

    practice.speech.script = script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert practice.speech.most_at_once == MAX_CONCURRENT_REQUESTS[Cut.TURNS] == 4
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    said = [turn.text for turn in (await practice.transcript_of(video)).turns]
    assert said == [SAID.format(number=number) for number in range(TURNS)]


async def test_windows_are_sent_one_after_the_other(practice: TranscriptionPractice) -> None:
    practice.speech.how = Cut.WINDOWS
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert (practice.speech.most_at_once, len(practice.speech.asked)) == (1, TURNS)


async def test_first_failure_ends_the_run_and_keeps_running_requests(practice: TranscriptionPractice) -> None:
    is_full = asyncio.Event()

    async def script(number: int, before: int) -> None:
        if practice.speech.now == MAX_CONCURRENT_REQUESTS[Cut.TURNS]:
            is_full.set()
        await asyncio.wait_for(is_full.wait(), 10)
        if number == 1:
            raise RateLimited("speech_busy")
        await asyncio.sleep(0.05)

    practice.speech.script = script
    video = await practice.recorded()
    with pytest.raises(RateLimited):
        await practice.transcriber().transcribe(video)
    assert sorted(practice.speech.asked) == [0, 1, 2, 3]
    assert await practice.left(video) == [1, *range(4, TURNS)]


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("speech_busy"),
        Timeout("speech_timeout"),
        UpstreamFailed("speech_failed", status=503),
        Conflict("concurrent_change"),
    ],
    ids=["rate limit", "timeout", "5xx", "deadlock"],
)
async def test_temporary_failure_is_retried_for_the_remaining_chunks(
    practice: TranscriptionPractice, error: AppError
) -> None:
    practice.speech.script = fail(error)
    video = await practice.recorded()
    with pytest.raises(type(error)):
        await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == ("RUNNING", None)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    assert practice.speech.times == {number: 2 if number == 3 else 1 for number in range(TURNS)}


@pytest.mark.parametrize(
    "error",
    [
        Conflict("speech_key_refused"),
        InvalidInput("speech_model_unknown"),
        Conflict("speech_quota", status=429),
    ],
    ids=["key", "model", "credit"],
)
async def test_permanent_failure_ends_the_transcription_at_once(
    practice: TranscriptionPractice, error: AppError
) -> None:
    practice.speech.script = fail(error, times=9)
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == ("FAILED", error.reason)
    asked = len(practice.speech.asked)
    await practice.transcriber().transcribe(video)
    assert len(practice.speech.asked) == asked < TURNS


@pytest.mark.parametrize("error", [UpstreamFailed("speech_nonsense"), Timeout("speech_timeout")])
async def test_useless_chunk_is_sent_a_limited_number_of_times(
    practice: TranscriptionPractice, error: AppError
) -> None:
    practice.speech.script = fail(error, times=99)
    video = await practice.recorded()
    for _ in range(MAX_FAILED_REQUESTS - 1):
        with pytest.raises(type(error)):
            await practice.transcriber().transcribe(video)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    assert practice.speech.times[3] == MAX_FAILED_REQUESTS
    assert max(count for number, count in practice.speech.times.items() if number != 3) == 1
    await _lacks(practice, video, 3)


async def _lacks(practice: TranscriptionPractice, video: UUID, *lost: int) -> None:
    """Require that the transcript has an unintelligible turn for each lost chunk, with the chunk's time span and
    voice, and that its count of unintelligible turns is right. Require that every chunk that was not lost has text.
    """
    turns = (await practice.transcript_of(video)).turns
    for number, turn in enumerate(turns):
        is_lost = number in lost
        assert (turn.text, turn.is_unintelligible) == ("" if is_lost else SAID.format(number=number), is_lost)
        assert (turn.start_ms, turn.end_ms, turn.label) == (1000 * number, 1000 * number + 900, number % 2)
    assert len(turns) == TURNS
    count = "select unintelligible_count from resguardo.transcripts where recording_id = %s"
    assert await practice.harness.value(count, video) == len(lost)


async def test_refused_chunk_is_unintelligible_after_one_try(practice: TranscriptionPractice) -> None:
    practice.speech.script = fail(InvalidInput("speech_refused", status=400), times=99)
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    assert practice.speech.times == dict.fromkeys(range(TURNS), 1)
    await _lacks(practice, video, 3)


async def test_service_that_refuses_every_chunk_fails_the_transcript(practice: TranscriptionPractice) -> None:
    async def script(number: int, before: int) -> None:
        raise InvalidInput("speech_refused", status=400)

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == ("FAILED", "speech_refused")
    assert len(practice.speech.asked) == MAX_FAILED_REQUESTS


async def test_refused_chunks_keep_the_text_of_an_earlier_attempt(practice: TranscriptionPractice) -> None:
    lost = (4, 5, 6, 7, 8, 9)
    failures: list[AppError] = [UpstreamFailed("speech_failed"), InvalidInput("speech_refused", status=400)]
    video = await practice.recorded()
    for failure in failures:

        async def script(number: int, before: int, failure: AppError = failure) -> None:
            if number in lost:
                raise failure

        practice.speech.script = script
        await _try(practice, video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    await _lacks(practice, video, *lost)


async def test_refused_chunks_wait_for_the_running_request(practice: TranscriptionPractice) -> None:
    lost, refused, are_refused = (1, 2, 3, 4, 5), [], asyncio.Event()

    async def script(number: int, before: int) -> None:
        if number == 0:
            await are_refused.wait()
        if number in lost:
            refused.append(number)
            if len(refused) == MAX_FAILED_REQUESTS:
                are_refused.set()
            raise InvalidInput("speech_refused", status=400)

    practice.speech.script = script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    await _lacks(practice, video, *lost)


async def test_many_chunks_of_nonsense_leave_the_text_of_the_others(practice: TranscriptionPractice) -> None:
    lost = (0, 1, 2, 4, 5, 7, 9)

    async def script(number: int, before: int) -> None:
        if number in lost:
            raise UpstreamFailed("speech_nonsense")

    practice.speech.script = script
    video = await practice.recorded()
    for _ in range(MAX_FAILED_REQUESTS * len(lost)):
        await _try(practice, video)
    assert (await practice.state_of(video))[:2] == ("READY", None)
    assert all(
        practice.speech.times[number] == (MAX_FAILED_REQUESTS if number in lost else 1)
        for number in range(TURNS)
    )
    await _lacks(practice, video, *lost)


async def test_last_attempt_of_a_job_does_not_fail_a_transcript_for_one_chunk(
    practice: TranscriptionPractice,
) -> None:
    practice.speech.script = fail(Timeout("speech_timeout"), times=99)
    video = await practice.recorded()
    await _try(practice, video)
    await practice.transcriber().give_up(video, "speech_timeout")
    assert (await practice.state_of(video))[:2] == ("RUNNING", None)


async def _ready_without(practice: TranscriptionPractice, *lost: int) -> UUID:
    async def script(number: int, before: int) -> None:
        if number in lost:
            raise InvalidInput("speech_refused")

    practice.speech.script = script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    await _lacks(practice, video, *lost)
    practice.speech.script = None
    practice.speech.asked.clear()
    return video


async def test_retry_of_a_ready_transcript_sends_only_unintelligible_chunks(
    practice: TranscriptionPractice,
) -> None:
    video = await _ready_without(practice, 3, 6)
    await retry(practice, video)
    assert await practice.state_of(video) == ("READY", None, TURNS - 2, TURNS)
    await practice.transcriber().transcribe(video)
    assert sorted(practice.speech.asked) == [3, 6]
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    await _lacks(practice, video)
    assert await practice.left(video) == []
    with pytest.raises(Conflict, match="transcription_not_failed"):
        await retry(practice, video)


async def test_chunk_that_stays_unintelligible_can_be_retried_again(practice: TranscriptionPractice) -> None:
    video = await _ready_without(practice, 3, 6)
    practice.speech.script = fail(InvalidInput("speech_refused"), at=6, times=1)
    await retry(practice, video)
    await practice.transcriber().transcribe(video)
    await _lacks(practice, video, 6)
    await retry(practice, video)
    await practice.transcriber().transcribe(video)
    await _lacks(practice, video)


async def test_many_chunks_that_stay_refused_leave_the_transcript_as_it_was(
    practice: TranscriptionPractice,
) -> None:
    lost = (1, 2, 3, 4, 5, 6)
    video = await _ready_without(practice, *lost)

    async def script(number: int, before: int) -> None:
        raise InvalidInput("speech_refused")

    practice.speech.script = script
    await retry(practice, video)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    await _lacks(practice, video, *lost)


async def test_retry_that_fails_keeps_the_text_and_reports_the_reason(
    practice: TranscriptionPractice,
) -> None:
    video = await _ready_without(practice, 3)
    practice.speech.script = fail(Conflict("speech_key_refused"))
    await retry(practice, video)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", "speech_key_refused", TURNS - 1, TURNS)
    await _lacks(practice, video, 3)
    await retry(practice, video)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    await _lacks(practice, video)


async def test_retry_that_is_switched_off_keeps_the_text(practice: TranscriptionPractice) -> None:
    video = await _ready_without(practice, 3)
    await retry(practice, video)
    await practice.harness.rows("update resguardo.consultations set transcribe = false")
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == ("READY", "switched_off")
    assert practice.speech.asked == []
    await _lacks(practice, video, 3)


async def test_lost_job_of_a_retry_is_queued_again(practice: TranscriptionPractice) -> None:
    video = await _ready_without(practice, 3)
    await retry(practice, video)
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    await practice.transcriber().resume()
    assert await practice.harness.value("select count(*) from jobs.procrastinate_jobs") == 1
    await practice.transcriber().transcribe(video)
    await _lacks(practice, video)


async def test_implausibly_long_turn_is_sent_again(
    practice: TranscriptionPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "MAX_TURN_CHARACTERS", len(SAID.format(number=0)) - 1)
    video = await practice.recorded()
    with pytest.raises(UpstreamFailed, match="speech_nonsense"):
        await practice.transcriber().transcribe(video)
    assert len(await practice.left(video)) == TURNS
    monkeypatch.undo()
    script_sound(monkeypatch, TURNS)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)


async def test_implausibly_long_transcript_fails_at_once(
    practice: TranscriptionPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "MAX_CHARACTERS", TURNS * len(SAID.format(number=0)) - 1)
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("FAILED", "speech_nonsense", TURNS, TURNS)
    assert practice.speech.times == dict.fromkeys(range(TURNS), 1)


async def test_retry_resets_the_attempts_of_a_chunk(practice: TranscriptionPractice) -> None:
    practice.speech.script = fail(UpstreamFailed("speech_nonsense"), times=MAX_FAILED_REQUESTS + 1)
    video = await practice.recorded()
    for _ in range(MAX_FAILED_REQUESTS):
        await _try(practice, video)
    await _lacks(practice, video, 3)
    await retry(practice, video)
    await _try(practice, video)
    await _lacks(practice, video, 3)
    await _try(practice, video)
    await _lacks(practice, video)


async def _try(practice: TranscriptionPractice, video: UUID) -> None:
    try:
        await practice.transcriber().transcribe(video)
    except AppError:
        return


def _task(practice: TranscriptionPractice) -> Task:
    [task] = define_tasks(practice.transcriber())
    return task


async def _live(
    practice: TranscriptionPractice, video: UUID, busy_seconds: float, retry_after_seconds: int
) -> tuple[float, int]:
    """Run the transcription job, including its retries, while the speech service answers 429 for the given number
    of seconds. Return the time at which the transcription job ended, and how many attempts it needed.
    """
    clock, attempts, task = 0.0, 0, _task(practice)

    async def script(number: int, before: int) -> None:
        if clock < busy_seconds:
            detail = {"retry_after_seconds": retry_after_seconds} if retry_after_seconds else {}
            raise RateLimited("speech_busy", **detail)

    practice.speech.script = script
    while True:
        job = cast("Any", SimpleNamespace(attempts=attempts))
        try:
            await _runner(task)(cast("Any", SimpleNamespace(job=job)), str(video))
        except JobFailed as error:
            decision = GrowingPauses(task.attempts).get_retry_decision(exception=error, job=job)
            if decision is None:
                return clock, attempts + 1
            clock += decision.pause.total_seconds()
            attempts += 1
        else:
            return clock, attempts + 1


@pytest.mark.parametrize("retry_after_seconds", [0, 17, 1200, 3600])
async def test_transcription_waits_for_a_service_that_is_busy_for_an_hour(
    practice: TranscriptionPractice, retry_after_seconds: int
) -> None:
    video = await practice.recorded()
    ended_at, tries = await _live(practice, video, HOUR, retry_after_seconds)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    assert HOUR - 1 <= ended_at <= HOUR + max(61, retry_after_seconds)
    if retry_after_seconds >= 1200:
        assert tries <= HOUR / retry_after_seconds + 2, "the job was retried before the time in Retry-After"


async def test_transcription_fails_if_the_service_is_busy_for_longer(
    practice: TranscriptionPractice,
) -> None:
    video = await practice.recorded()
    ended_at, tries = await _live(practice, video, float("inf"), 0)
    assert tries == TRANSCRIPTION_ATTEMPTS
    assert ended_at > HOUR
    assert (await practice.state_of(video))[:2] == ("FAILED", "speech_busy")
    audited = await practice.harness.rows(
        "select outcome, reason from audit.events where action = 'transcript.transition'"
        " and "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid) = array[%s]",
        video,
    )
    assert [(row["outcome"], row["reason"]) for row in audited] == [("FAILED", "speech_busy")]


async def test_transcription_resumes_after_the_process_died_at_any_step(
    practice: TranscriptionPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This test lets the worker's process die at each step: before and after a call to the speech service, and
    before, within and after a transaction.
    """
    script_sound(monkeypatch, 3)
    life = Life()
    await practice.transcriber(life).transcribe(await practice.recorded())
    assert life.steps > 30
    for step in range(1, life.steps + 1):
        practice.speech.asked.clear()
        video = await practice.recorded()
        life = Life(ends_at=step)
        await _live_and_die(practice, life, video)
        assert life.is_over, step
        in_vain = await practice.left(video)
        before = practice.speech.times
        practice.speech.asked.clear()
        is_planned = (await practice.state_of(video))[3] is not None
        is_done = (await practice.state_of(video))[0] == "READY"
        await practice.transcriber().transcribe(video)
        assert (await practice.state_of(video))[0] == "READY", step
        assert sorted(practice.speech.asked) == (in_vain if is_planned else [0, 1, 2]), step
        assert not (is_done and practice.speech.asked), step
        assert max(before.values(), default=0) <= 1, step
        assert len((await practice.transcript_of(video)).turns) == 3, step


async def _live_and_die(practice: TranscriptionPractice, life: Life, video: UUID) -> None:
    try:
        await practice.transcriber(life).transcribe(video)
    except (Killed, RateLimited):
        return
    except BaseExceptionGroup as group:
        if group.split(Killed)[1] is not None:
            raise


async def test_later_of_two_workers_continues_and_only_running_requests_are_paid_twice(
    practice: TranscriptionPractice,
) -> None:
    begun, second_asks = asyncio.Event(), asyncio.Event()

    async def script(number: int, before: int) -> None:
        if practice.speech.now == MAX_CONCURRENT_REQUESTS[Cut.TURNS]:
            begun.set()
        if len(practice.speech.asked) > MAX_CONCURRENT_REQUESTS[Cut.TURNS]:
            second_asks.set()
        await asyncio.wait_for(second_asks.wait(), 10)

    practice.speech.script = script
    video = await practice.recorded()
    first = asyncio.create_task(practice.transcriber().transcribe(video))
    await asyncio.wait_for(begun.wait(), 10)
    await practice.transcriber().transcribe(video)
    with pytest.raises(Conflict, match="transcription_overtaken") as overtaken:
        await first
    assert overtaken.value.detail == {"retry_after_seconds": OVERTAKEN_PAUSE_SECONDS}
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    assert max(practice.speech.times.values()) <= 2
    assert len(practice.speech.asked) <= TURNS + MAX_CONCURRENT_REQUESTS[Cut.TURNS]
    assert len((await practice.transcript_of(video)).turns) == TURNS


async def test_later_of_two_workers_keeps_the_job(
    practice: TranscriptionPractice,
) -> None:
    """If a worker that has lost its job fails, the job queue counts the failure for the job, even if a second
    worker now runs the job.
    """
    video = await practice.recorded()
    queue = make_queue(practice.harness.database.worker_url, [_task(practice)])
    async with queue.open_async():
        jobs = queue.job_manager

        async def fetched() -> Job | None:
            return await jobs.fetch_job(queues=[TRANSCRIPTION_QUEUE], worker_id=await jobs.register_worker())

        first = await fetched()
        assert first is not None
        await jobs.retry_job(first)  # The queue took the first worker for dead
        second = await fetched()
        assert second is not None
        with pytest.raises(JobFailed) as overtaken:
            await _overtaken(practice, video)
        decision = GrowingPauses(None).get_retry_decision(exception=overtaken.value, job=first)
        assert decision is not None
        assert decision.retry_at is not None
        assert decision.pause >= timedelta(seconds=OVERTAKEN_PAUSE_SECONDS)
        await jobs.retry_job(first, retry_at=decision.retry_at)
        assert await fetched() is None
        await jobs.finish_job(second, Status.SUCCEEDED, delete_job=True)
    assert await practice.harness.value("select count(*) from jobs.procrastinate_jobs") == 0


async def _overtaken(practice: TranscriptionPractice, video: UUID, attempts: int = 0) -> None:
    async def script(number: int, before: int) -> None:
        if number == 2:
            async with practice.harness.worker.as_service("test") as tx:
                assert await transcription_store.begin(tx, video, ABOUT_TRANSCRIPTION) is not None

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    job = SimpleNamespace(attempts=attempts)
    await _runner(_task(practice))(cast("Any", SimpleNamespace(job=job)), str(video))


async def test_overtaken_worker_does_not_fail_the_transcription(
    practice: TranscriptionPractice,
) -> None:
    video = await practice.recorded()
    with pytest.raises(JobFailed, match="transcription_overtaken"):
        await _overtaken(practice, video, TRANSCRIPTION_ATTEMPTS - 1)
    assert await practice.state_of(video) == ("RUNNING", None, 3, TURNS)


async def test_transcription_ends_before_the_next_chunk_after_switching_off(
    practice: TranscriptionPractice,
) -> None:
    async def script(number: int, before: int) -> None:
        if number == 2:
            await practice.harness.rows("update resguardo.consultations set transcribe = false")

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert practice.speech.asked == [0, 1, 2]
    assert (await practice.state_of(video))[:2] == ("OFF", "switched_off")
    assert await practice.harness.value("select count(*) from private.transcript_texts") == 0


async def test_answers_of_a_transcription_that_was_switched_off_are_not_returned(
    practice: TranscriptionPractice,
) -> None:
    practice.speech.script = fail(RateLimited("speech_busy"))
    video = await practice.recorded()
    await _try(practice, video)
    await practice.harness.rows("update resguardo.transcripts set chunks_done = chunks_total")
    await practice.harness.rows("update resguardo.consultations set transcribe = false")
    async with practice.harness.worker.as_service("test") as tx:
        assert await transcription_store.read_answers(tx, video) is None
    count = "select count(*) from audit.events where action = 'transcript.assemble'"
    assert await practice.harness.value(count) == 0


@pytest.mark.parametrize("is_planned", [True, False])
async def test_late_sound_of_speakers_is_used_unless_the_video_was_planned(
    practice: TranscriptionPractice, is_planned: bool
) -> None:
    """A plan of chunks depends on the start and the length of its sound file, so a plan for one file cannot be used
    for a different file.
    """
    consultation = await practice.harness.consultation()
    video = await practice.harness.recording(consultation)
    speakers = await practice.harness.recording(
        consultation, medium="SPEAKERS", video_id=video, status="LOST"
    )
    practice.speech.script = fail(RateLimited("speech_busy"))
    await _live_and_die(practice, Life(ends_at=None if is_planned else 4), video)
    assert ((await practice.state_of(video))[3] is not None) is is_planned
    await practice.harness.rows("update resguardo.recordings set status = 'READY' where id = %s", speakers)
    async with practice.harness.worker.as_service("test") as tx:
        begun = await transcription_store.begin(tx, video, ABOUT_TRANSCRIPTION)
    assert begun is not None
    expected = [(video, "VIDEO")] if is_planned else [(speakers, "SPEAKERS"), (video, "VIDEO")]
    assert [(one.id, one.medium) for one in begun.sounds] == expected
    assert begun.is_planned is is_planned


async def test_object_that_is_moved_under_keep_is_found(practice: TranscriptionPractice) -> None:
    video = await practice.recorded()
    key = await practice.harness.key_of(video)

    async def script(number: int, before: int) -> None:
        if number == 2 and not before:
            await practice.harness.storage.put_new(f"keep/{key}", b"the same", "video/mp4")
            await practice.harness.rows(
                "update private.recording_secrets set object_key = %s where recording_id = %s",
                f"keep/{key}",
                video,
            )
            await practice.harness.storage.delete(key)

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    with pytest.raises(NotFound, match="storage_object_missing"):
        await practice.transcriber().transcribe(video)
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)
    assert practice.speech.times == dict.fromkeys(range(TURNS), 1)


async def test_transcription_pauses_while_a_deletion_is_requested(
    practice: TranscriptionPractice,
) -> None:
    async def script(number: int, before: int) -> None:
        if number == 2:
            await practice.harness.rows(
                "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, reason,"
                " requested_by, undo_until) select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'REQUEST',"
                " 'OTHER', r.doctor_id, now() + interval '7 days' from resguardo.recordings as r where r.id = %s",
                video,
            )

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert practice.speech.asked == [0, 1, 2]
    await practice.transcriber().transcribe(video)
    assert practice.speech.asked == [0, 1, 2]
    await practice.harness.rows("update jobs.procrastinate_jobs set status = 'cancelled'")
    count = "select count(*) from jobs.procrastinate_jobs where status = 'todo'"
    for status, jobs in (("REQUESTED", 0), ("UNDONE", 1)):
        await practice.harness.rows(
            "update resguardo.deletions set status = %s, finished_at = case %s when 'UNDONE' then now() end",
            status,
            status,
        )
        await practice.transcriber().resume()
        assert await practice.harness.value(count) == jobs
    practice.speech.script = None
    await practice.transcriber().transcribe(video)
    assert await practice.state_of(video) == ("READY", None, TURNS, TURNS)


async def test_transcript_of_a_destroyed_recording_is_not_stored(
    practice: TranscriptionPractice,
) -> None:
    video = await practice.recorded()
    destroyed: list[int] = []

    async def script(number: int, before: int) -> None:
        if number == 5 and not destroyed:
            await practice.harness.move_to(practice.harness.time + timedelta(days=400))
            destroyed.append((await practice.harness.destroyer().run_once()).destroyed)

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    try:
        await practice.transcriber().transcribe(video)
    except NotFound:
        await practice.transcriber().transcribe(video)
    assert destroyed == [1]
    assert len(practice.speech.asked) == 6
    assert (await practice.state_of(video))[:2] == ("OFF", "recording_destroyed")
    assert await practice.harness.value("select count(*) from private.transcript_chunks") == 0
    assert await practice.harness.value("select count(*) from private.transcript_texts") == 0


async def test_text_stored_during_the_destruction_of_the_key_is_deleted(
    practice: TranscriptionPractice,
) -> None:
    """In this test, a transaction of the worker begins before the data key is destroyed, and commits while the
    destruction runs.
    """
    video = await practice.recorded()
    await practice.harness.move_to(practice.harness.time + timedelta(days=400))
    async with practice.harness.superuser.transaction():
        await practice.harness.rows(
            "select from resguardo.transcripts where recording_id = %s for update", video
        )
        destroying = asyncio.create_task(practice.harness.destroyer().run_once())
        async with asyncio.timeout(20):
            while not await practice.harness.value("select exists (select from pg_locks where not granted)"):
                assert not destroying.done()
                await asyncio.sleep(0.01)
        await practice.harness.rows(
            "insert into private.transcript_texts (recording_id, ciphertext, terms) values (%s, %s, '{1}')",
            video,
            bytes(100),
        )
    assert (await destroying).destroyed == 1
    assert await practice.harness.value("select count(*) from private.transcript_texts") == 0
    assert (await practice.state_of(video))[:2] == ("OFF", "recording_destroyed")


async def test_job_is_queued_in_the_transaction_that_sets_ready(practice: TranscriptionPractice) -> None:
    """The transaction that sets a recording to READY also queues the transcription job. The transaction does not
    read the recording's sound.
    """
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'transcribe_recording'"
    transcripts = "select count(*) from resguardo.transcripts"
    video = await practice.harness.recording(status="VERIFYING")
    assert (await practice.harness.value(jobs), await practice.harness.value(transcripts)) == (0, 0)
    async with practice.harness.superuser.transaction(force_rollback=True):
        await practice.harness.rows("update resguardo.recordings set status = 'READY' where id = %s", video)
        assert (await practice.harness.value(jobs), await practice.harness.value(transcripts)) == (1, 1)
    assert (await practice.harness.value(jobs), await practice.harness.value(transcripts)) == (0, 0)
    await practice.recorded()
    assert (await practice.harness.value(jobs), await practice.harness.value(transcripts)) == (1, 1)
    assert practice.speech.asked == []


async def test_recording_without_a_data_key_fails_visibly(practice: TranscriptionPractice) -> None:
    video = await practice.recorded()
    await practice.harness.rows("delete from private.recording_keys where recording_id = %s", video)
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == ("FAILED", "data_key_missing")
    assert practice.speech.asked == []


@pytest.mark.parametrize("case", ["rotated away", "wrong"])
async def test_wrong_data_key_fails_before_any_request(practice: TranscriptionPractice, case: str) -> None:
    name = "newer" if case == "rotated away" else KEYRING.current_id
    video = await practice.recorded()
    await practice.transcriber(keyring=Keyring.parse(new_key_line(name))).transcribe(video)
    reason = "root_key_unknown" if case == "rotated away" else "data_key_wrong"
    assert (await practice.state_of(video))[:2] == ("FAILED", reason)
    assert practice.speech.asked == []


async def test_answer_that_was_moved_to_another_row_fails_the_transcription(
    practice: TranscriptionPractice,
) -> None:
    practice.speech.script = fail(RateLimited("speech_busy"), at=TURNS - 1)
    video = await practice.recorded()
    await _try(practice, video)
    await practice.harness.rows(
        "update private.transcript_chunks as p set answer = o.answer from private.transcript_chunks as o"
        " where p.number = 0 and o.number = 1"
    )
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[:2] == ("FAILED", "field_unreadable")


async def test_no_transaction_is_open_during_a_request(practice: TranscriptionPractice) -> None:
    async def script(number: int, before: int) -> None:
        if practice.speech.now == 1:
            idle = await practice.harness.value(
                "select count(*) from pg_stat_activity where state = 'idle in transaction'"
                " and datname = current_database() and usename = 'resguardo_worker'"
            )
            assert idle == 0

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    assert (await practice.state_of(video))[0] == "READY"


async def test_transcription_without_a_job_gets_exactly_one(practice: TranscriptionPractice) -> None:
    video, over = await practice.recorded(), await practice.recorded()
    await practice.transcriber().transcribe(over)

    async def jobs() -> list[str]:
        rows = await practice.harness.rows(
            "select args->>'id' as id from jobs.procrastinate_jobs"
            " where task_name = 'transcribe_recording' and status = 'todo'"
        )
        return [row["id"] for row in rows]

    assert sorted(await jobs()) == sorted([str(video), str(over)])
    await practice.transcriber().resume()
    assert len(await jobs()) == 2
    await practice.harness.rows("update jobs.procrastinate_jobs set status = 'cancelled'")
    for _ in range(2):
        await practice.transcriber().resume()
        assert await jobs() == [str(video)]


@pytest.mark.parametrize(
    ("given", "consented", "interpreter", "told"),
    [
        ("ES", ("en", "en"), False, "es"),
        ("EN", (), False, "en"),
        ("MIXED", ("es", "es"), False, None),
        (None, ("es", "es"), False, "es"),
        (None, ("en",), False, "en"),
        (None, ("en", "es"), False, None),
        (None, (), False, None),
        (None, ("es", "es"), True, None),
        ("ES", ("es", "es"), True, "es"),
    ],
)
async def test_speech_service_gets_the_given_language_or_that_of_the_consents(
    practice: TranscriptionPractice,
    given: str | None,
    consented: tuple[str, ...],
    interpreter: bool,
    told: str | None,
) -> None:
    harness = practice.harness
    consultation = await harness.consultation()
    await harness.rows("update resguardo.consultations set language = %s where id = %s", given, consultation)
    for kind, language in zip(("DOCTOR", "PATIENT"), consented, strict=False):
        person = await _participant(practice, consultation, kind)
        for decision_language in ("en" if language == "es" else "es", language):  # The latest consent counts
            await harness.rows(
                "insert into resguardo.consents (id, participant_id, consultation_id, doctor_id, patient_id,"
                " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
                " select gen_random_uuid(), p.id, p.consultation_id, p.doctor_id, p.patient_id, p.kind, 'GIVEN',"
                " 'SELF', p.doctor_id, %s, %s, repeat('a', 64) from resguardo.participants as p where p.id = %s",
                ABOUT_TRANSCRIPTION[0],
                decision_language,
                person,
            )
    if interpreter:
        person = await _participant(practice, consultation, "GUEST", "INTERPRETER")
        await harness.rows("update resguardo.participants set joined_at = now() where id = %s", person)
    await practice.transcriber().transcribe(await harness.recording(consultation))
    assert practice.speech.languages == {told}


async def _participant(
    practice: TranscriptionPractice, consultation: UUID, kind: str, guest_role: str | None = None
) -> UUID:
    person: UUID = await practice.harness.value(
        "insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)"
        " select gen_random_uuid(), c.id, c.doctor_id, c.patient_id, %s, %s from resguardo.consultations as c"
        " where c.id = %s returning id",
        kind,
        guest_role,
        consultation,
    )
    return person
