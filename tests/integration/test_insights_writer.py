"""Tests of how the worker writes insights: each answer is stored before it is read, so no answer is paid for twice, and
nothing is shown before it is complete.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from app.costs.tasks import HeldLanguageWork
from app.errors import AppError, Conflict, RateLimited, Timeout, UpstreamFailed
from app.insights.paid_requests import OVERTAKEN_PAUSE_SECONDS
from app.insights.tasks import WRITING_ATTEMPTS, define_tasks
from app.insights.writer import InsightsWriter
from app.insights.writing.extractive import ExtractiveWriter
from app.integrations.language.port import AnswerRefused, AnswerUnusable, LanguageUsage
from app.jobs.queue import _runner
from app.jobs.retries import GrowingPauses, JobFailed
from app.postgres.selection import Selection
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.insights_setup import (
    MODEL,
    PARTS,
    SAID,
    TOKENS,
    VENDOR,
    InsightsPractice,
    Script,
    open_insights_practice,
)
from tests.integration.retention_harness import KEYRING
from tests.integration.test_destroyer import restore, snapshot
from tests.integration.transcription_setup import Killed, Life
from tests.unit.dialogues import dialogue

pytestmark = pytest.mark.anyio
USAGE = LanguageUsage(VENDOR, MODEL, *TOKENS)
_STATUS = Selection.of("id", "insights.status")
_ALL = Selection.of("recording.id")


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[InsightsPractice]:
    async with open_insights_practice(database, emptied_store, monkeypatch, part_turns=4) as practice:
        await practice.harness.adopt()
        yield practice


def fail(error: AppError, *, at: int = 1, times: int = 1) -> Script:
    """Return a script in which the first requests for one part fail."""
    left = [times]

    async def script(part: int, is_repair: bool) -> str | None:
        if part == at and left[0]:
            left[0] -= 1
            raise error
        return None

    return script


def reply(text: str, *, at: int = 1, times: int = 1) -> Script:
    """Return a script that answers the first requests for one part with the given text."""
    left = [times]

    async def script(part: int, is_repair: bool) -> str | None:
        if part == at and left[0]:
            left[0] -= 1
            return text
        return None

    return script


async def _try(practice: InsightsPractice, video: UUID) -> None:
    try:
        await practice.write(video)
    except AppError:
        return


async def _count(practice: InsightsPractice, table: str) -> int:
    return int(await practice.harness.value(f"select count(*) from {table}"))  # noqa: S608


async def test_ready_transcript_gets_insights_with_numbered_cited_lines(practice: InsightsPractice) -> None:
    video = await practice.transcribed()
    assert await practice.state_of(video) == ("PENDING", None)
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'write_insights'"
    assert await practice.harness.value(jobs) == 1
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert await practice.progress_of(video) == (PARTS, PARTS)
    stored = await practice.insights_of(video)
    lines = list(stored.insights.lines)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > 5
    turns = dialogue(*SAID)
    for line in lines:
        for citation in line.citations:
            turn = turns[citation.turn_number]
            assert citation.quote in turn.text
            assert (citation.start_ms, citation.end_ms) == (turn.start_ms, turn.end_ms)
    assert stored.coverage.turn_count == len(SAID)
    rows = await practice.harness.rows(
        "select language, vendor, model, generation, dropped_count, written_at is not null as is_written"
        " from resguardo.insights"
    )
    assert list(rows[0].values()) == ["en", VENDOR, MODEL, 1, 0, True]
    assert practice.language.asked == [(part, False) for part in range(PARTS)]
    assert await practice.tokens() == tuple(PARTS * used for used in TOKENS)
    assert await _count(practice, "private.insight_answers") == 0


async def test_no_word_of_insights_is_in_the_database(practice: InsightsPractice) -> None:
    video = await practice.transcribed()
    practice.language.script = fail(RateLimited("language_rate_limited"), at=PARTS - 1)
    await _try(practice, video)
    half_way = await _all_rows(practice)
    await practice.write(video)
    for rows in (half_way, await _all_rows(practice)):
        assert not [word for word in ("penicillin", "metformin", "ibuprofen", "headache") if word in rows]


async def _all_rows(practice: InsightsPractice) -> str:
    tables = await practice.harness.rows(
        "select c.oid::regclass::text as name from pg_class as c where c.relkind = 'r'"
        " and c.relnamespace::regnamespace::text in ('resguardo', 'private', 'audit', 'jobs')"
        " and c.relname not in ('audit_terms')"
    )
    found = []
    for table in tables:
        query = f"select t::text as row from {table['name']} as t"  # noqa: S608 - table names from the catalogue
        found += [row["row"] for row in await practice.harness.rows(query)]
    return "\n".join(found).lower()


async def test_writing_resumes_after_the_process_died_at_any_step(practice: InsightsPractice) -> None:
    """This test lets the worker's process die at each step: before and after a call to the language service, and
    before, within and after a transaction.
    """
    life = Life()
    await practice.writer(life).write(await practice.transcribed())
    assert life.steps > 20
    for step in range(1, life.steps + 1):
        practice.language.asked.clear()
        video = await practice.transcribed()
        life = Life(ends_at=step)
        with pytest.raises(Killed):
            await practice.writer(life).write(video)
        status = (await practice.state_of(video))[0]
        is_ready = status == "READY"
        has_text = "select count(*) from private.insight_texts where recording_id = %s"
        assert await practice.harness.value(has_text, video) == int(is_ready), step
        assert is_ready or status in ("PENDING", "RUNNING"), step
        answered = await practice.answered(video)
        before = practice.language.parts
        assert len(before) == len(set(before)), step
        practice.language.asked.clear()
        await practice.write(video)
        assert (await practice.state_of(video))[0] == "READY", step
        expected = [] if is_ready else [part for part in range(PARTS) if part not in answered]
        assert practice.language.parts == expected, step
        assert len(list((await practice.insights_of(video)).insights.lines)) > 5, step


async def test_repair_is_not_requested_again_after_the_process_died(practice: InsightsPractice) -> None:
    life = Life()
    practice.language.script = reply("{}")
    await practice.writer(life).write(await practice.transcribed())
    assert practice.language.asked == [(0, False), (1, False), (1, True), (2, False)]
    for step in range(1, life.steps + 1):
        practice.language.asked.clear()
        practice.language.script = reply("{}")
        video = await practice.transcribed()
        with pytest.raises(Killed):
            await practice.writer(Life(ends_at=step)).write(video)
        stored = await practice.harness.rows(
            "select part, round from private.insight_answers where recording_id = %s and ciphertext is not null",
            video,
        )
        answered = [(row["part"], bool(row["round"])) for row in stored]
        if (await practice.state_of(video))[0] == "READY":
            continue
        practice.language.asked.clear()
        practice.language.script = None if (1, False) in answered else reply("{}")
        await practice.write(video)
        assert await practice.state_of(video) == ("READY", None), step
        assert set(practice.language.asked).isdisjoint(answered), step
        assert len(practice.language.asked) == len(set(practice.language.asked)), step


@pytest.mark.parametrize("text", ["", "{}", "not JSON", '{"summary": [', "[]", "null", '"' * 9])
async def test_answer_with_errors_is_repaired_once(practice: InsightsPractice, text: str) -> None:
    practice.language.script = reply(text)
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.asked == [(0, False), (1, False), (1, True), (2, False)]
    assert await practice.tokens() == tuple(4 * used for used in TOKENS)


async def test_part_that_cannot_be_repaired_fails_and_only_it_is_requested_by_a_retry(
    practice: InsightsPractice,
) -> None:
    practice.language.script = reply("{}", times=2)
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("FAILED", "insights_unusable")
    assert practice.language.asked == [(0, False), (1, False), (1, True)]
    assert await practice.progress_of(video) == (1, PARTS)
    assert await _count(practice, "private.insight_texts") == 0
    await _retry(practice, video)
    assert await practice.state_of(video) == ("PENDING", None)
    practice.language.asked.clear()
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.asked == [(1, False), (2, False)]


async def _retry(practice: InsightsPractice, video: UUID) -> None:
    async with practice.as_doctor() as (insights, doctor):
        await insights.retry(doctor, video, _STATUS)


async def _refresh(practice: InsightsPractice, video: UUID) -> None:
    async with practice.as_doctor() as (insights, doctor):
        await insights.refresh(doctor, video, _STATUS)


async def test_stored_answer_that_cannot_be_read_is_requested_again_by_a_retry(
    practice: InsightsPractice,
) -> None:
    video = await practice.transcribed()
    practice.language.script = fail(RateLimited("language_rate_limited"), at=2)
    await _try(practice, video)
    await practice.harness.rows(
        "update private.insight_answers set ciphertext = decode(repeat('00', 99), 'hex') where part = 0"
    )
    await practice.write(video)
    assert await practice.state_of(video) == ("FAILED", "field_unreadable")
    practice.language.asked.clear()
    await _retry(practice, video)
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.parts == [0, 2]


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("language_rate_limited"),
        UpstreamFailed("language_unavailable"),
        Timeout("language_timeout"),
        Conflict("concurrent_change"),
    ],
    ids=["rate limit", "outage", "timeout", "deadlock"],
)
async def test_temporary_failure_is_retried_for_the_remaining_parts(
    practice: InsightsPractice, error: AppError
) -> None:
    practice.language.script = fail(error)
    video = await practice.transcribed()
    with pytest.raises(type(error)):
        await practice.write(video)
    assert await practice.state_of(video) == ("RUNNING", None)
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.parts == [0, 1, 1, 2]


@pytest.mark.parametrize(
    "error",
    [
        AnswerRefused("language_refused", USAGE),
        AnswerRefused("language_filtered", USAGE),
        AnswerRefused("language_incomplete", USAGE),
        AnswerRefused("language_quota_exceeded", None),
        Conflict("language_request_rejected"),
    ],
    ids=lambda error: error.reason,
)
async def test_permanent_failure_ends_the_insights_and_counts_what_was_paid(
    practice: InsightsPractice, error: AppError
) -> None:
    practice.language.script = fail(error, times=9)
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("FAILED", error.reason)
    answers = 2 if getattr(error, "usage", None) else 1
    assert await practice.tokens() == tuple(answers * used for used in TOKENS)
    await practice.write(video)
    assert practice.language.parts == [0, 1]
    practice.language.script = None
    await _retry(practice, video)
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.parts == [0, 1, 1, 2]


async def test_answer_without_a_text_is_repaired(practice: InsightsPractice) -> None:
    practice.language.script = fail(AnswerUnusable("language_nonsense", USAGE))
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.asked == [(0, False), (1, False), (1, True), (2, False)]
    assert await practice.tokens() == tuple(4 * used for used in TOKENS)


async def test_part_is_requested_at_most_five_times_without_an_answer(practice: InsightsPractice) -> None:
    practice.language.script = fail(Timeout("language_timeout"), times=99)
    video = await practice.transcribed()
    for _ in range(8):
        await _try(practice, video)
    assert await practice.state_of(video) == ("FAILED", "insights_unanswered")
    assert practice.language.parts == [0, *[1] * 5]


async def test_outage_of_an_hour_uses_up_no_requests(practice: InsightsPractice) -> None:
    practice.language.script = fail(RateLimited("language_rate_limited"), times=30)
    video = await practice.transcribed()
    for _ in range(31):
        await _try(practice, video)
    assert await practice.state_of(video) == ("READY", None)


async def test_job_fails_the_insights_after_its_last_attempt(practice: InsightsPractice) -> None:
    practice.language.script = fail(RateLimited("language_rate_limited"), times=9)
    video = await practice.transcribed()
    [task] = define_tasks(practice.writer())
    job = cast("Any", SimpleNamespace(attempts=WRITING_ATTEMPTS - 1))
    with pytest.raises(JobFailed):
        await _runner(task)(cast("Any", SimpleNamespace(job=job)), str(video))
    assert await practice.state_of(video) == ("FAILED", "language_rate_limited")


async def test_overtaken_worker_sends_no_more_requests_and_its_answer_is_kept(
    practice: InsightsPractice,
) -> None:
    taken_over: list[int] = []

    async def script(part: int, is_repair: bool) -> str | None:
        if part == 1 and not taken_over:
            taken_over.append(part)
            async with practice.harness.worker.as_service("test") as tx:
                await tx.run("select private.begin_insights(%(id)s, true)", {"id": video})
        return None

    practice.language.script = script
    video = await practice.transcribed()
    with pytest.raises(Conflict, match="insights_overtaken") as overtaken:
        await practice.write(video)
    assert overtaken.value.detail == {"retry_after_seconds": OVERTAKEN_PAUSE_SECONDS}
    decision = GrowingPauses(None).get_retry_decision(
        exception=JobFailed("insights_overtaken", OVERTAKEN_PAUSE_SECONDS),
        job=cast("Any", SimpleNamespace(attempts=0)),
    )
    assert decision is not None
    await practice.writer().give_up(video, "insights_overtaken")
    assert await practice.state_of(video) == ("RUNNING", None)
    assert practice.language.parts == [0, 1]
    assert await practice.answered(video) == [0, 1]
    await practice.write(video)
    assert practice.language.parts == [0, 1, 2]
    assert await practice.state_of(video) == ("READY", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("update resguardo.consultations set transcribe = false", "switched_off"),
        (
            "update resguardo.consents set text_version = '2026-12' where participant_kind = 'PATIENT'",
            "consent_text",
        ),
    ],
)
@pytest.mark.parametrize("is_begun", [True, False])
async def test_insights_end_before_the_next_request_once_they_are_forbidden(
    practice: InsightsPractice, change: str, reason: str, is_begun: bool
) -> None:
    consultation = await practice.harness.consultation()
    for kind in ("DOCTOR", "PATIENT"):
        participant = await practice.harness.participant(consultation, kind)
        practice.harness.practice.consent(participant, "GIVEN", text_version="2027-01")

    async def forbid() -> None:
        with practice.harness.practice.without_triggers():
            await practice.harness.rows("set session_replication_role = replica")
            await practice.harness.rows(change)
            await practice.harness.rows("set session_replication_role = origin")

    async def script(part: int, is_repair: bool) -> str | None:
        if part == 1:
            await forbid()
        return None

    practice.language.script = script
    if not is_begun:
        await forbid()
    video = await practice.transcribed(consultation=consultation)
    await practice.write(video)
    assert await practice.state_of(video) == ("OFF", reason)
    assert practice.language.parts == ([0, 1] if is_begun else [])
    assert await _count(practice, "private.insight_texts") == 0
    with pytest.raises(Conflict, match=f"insights_{reason}"):
        await _retry(practice, video)


async def test_withdrawn_consent_ends_unfinished_insights_and_keeps_ready_ones(
    practice: InsightsPractice,
) -> None:
    consultation = await practice.harness.consultation()
    await practice.harness.participant(consultation, "DOCTOR")
    patient = await practice.harness.participant(consultation, "PATIENT")
    practice.harness.practice.consent(patient, "GIVEN", text_version="2027-01")
    ready, waiting = [await practice.transcribed(consultation=consultation) for _ in range(2)]
    await practice.write(ready)
    practice.harness.practice.consent(patient, "WITHDRAWN", text_version="2027-01")
    await practice.write(waiting)
    assert await practice.state_of(ready) == ("READY", None)
    assert await practice.state_of(waiting) == ("OFF", "consent_withdrawn")
    assert practice.language.parts == [0, 1, 2]
    await practice.correct(ready, 3, "Yes, to aspirin.")
    for act, video in ((_retry, waiting), (_refresh, ready)):
        with pytest.raises(Conflict, match="insights_consent_withdrawn"):
            await act(practice, video)
    practice.harness.practice.consent(patient, "GIVEN", text_version="2027-01")
    await _retry(practice, waiting)
    await practice.write(waiting)
    assert await practice.state_of(waiting) == ("READY", None)


@pytest.mark.parametrize("sensitivity", ["PSYCHOTHERAPY", "SUBSTANCE_USE"])
async def test_sensitive_kinds_have_no_insights_by_default(
    practice: InsightsPractice, sensitivity: str
) -> None:
    consultation = await practice.harness.consultation()
    await practice.harness.rows(
        "update resguardo.consultations set sensitivity = %s where id = %s", sensitivity, consultation
    )
    video = await practice.transcribed(consultation=consultation)
    await practice.write(video)
    assert await practice.state_of(video) == ("OFF", "switched_off")
    assert practice.language.asked == []


async def _request_deletion(practice: InsightsPractice, video: UUID) -> None:
    await practice.harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, reason,"
        " requested_by, undo_until) select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'REQUEST',"
        " 'OTHER', r.doctor_id, private.now() + interval '7 days' from resguardo.recordings as r where r.id = %s",
        video,
    )


async def test_nothing_is_written_while_a_deletion_is_requested(practice: InsightsPractice) -> None:
    async def script(part: int, is_repair: bool) -> str | None:
        if part == 1:
            await _request_deletion(practice, video)
        return None

    practice.language.script = script
    video = await practice.transcribed()
    await practice.write(video)
    await practice.write(video)
    assert practice.language.parts == [0, 1]
    await practice.harness.rows("update jobs.procrastinate_jobs set status = 'cancelled'")
    todo = (
        "select count(*) from jobs.procrastinate_jobs where status = 'todo' and task_name = 'write_insights'"
    )
    for status, jobs in (("REQUESTED", 0), ("UNDONE", 1)):
        await practice.harness.rows(
            "update resguardo.deletions set status = %s, finished_at = case %s when 'UNDONE' then now() end",
            status,
            status,
        )
        await practice.writer().resume()
        assert await practice.harness.value(todo) == jobs
    practice.language.script = None
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.parts == [0, 1, 1, 2], "the answer came after the request to delete"


async def test_insights_of_a_recording_that_is_destroyed_meanwhile_are_not_stored(
    practice: InsightsPractice,
) -> None:
    async def script(part: int, is_repair: bool) -> str | None:
        if part == 1:
            await practice.harness.move_to(practice.harness.time + timedelta(days=400))
            assert (await practice.harness.destroyer().run_once()).destroyed == 1
        return None

    practice.language.script = script
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("OFF", "recording_destroyed")
    for table in ("insight_answers", "insight_texts", "recording_keys"):
        assert await _count(practice, f"private.{table}") == 0
    assert practice.language.parts == [0, 1]
    assert await practice.tokens() == tuple(2 * used for used in TOKENS), "the ledger keeps what was paid"


async def test_certificate_counts_the_rows_of_destroyed_insights(practice: InsightsPractice) -> None:
    video = await practice.transcribed()
    await practice.write(video)
    async with practice.as_doctor() as (insights, doctor):
        await insights.dismiss(doctor, video, 1, 2, _ALL)
    half_done = await practice.transcribed()
    practice.language.script = fail(RateLimited("language_rate_limited"), at=2)
    await _try(practice, half_done)
    await practice.harness.move_to(practice.harness.time + timedelta(days=400))
    assert (await practice.harness.destroyer().run_once()).destroyed == 2
    cleared = {
        row["recording_id"]: {one["table"]: one["rows"] for one in row["cleared_text_rows"]}
        for row in await practice.harness.rows(
            "select recording_id, cleared_text_rows from resguardo.deletions"
        )
    }
    assert cleared == {
        video: {"transcript_texts": 1, "insight_texts": 1, "insight_dismissals": 1},
        half_done: {"transcript_texts": 1, "insight_answers": 3},
    }


async def test_insights_that_a_restored_backup_brings_back_are_destroyed_again(
    practice: InsightsPractice,
) -> None:
    harness, video = practice.harness, await practice.transcribed()
    await practice.write(video)
    backup = await snapshot(harness, video)
    (text,) = await harness.rows("select generation, ciphertext from private.insight_texts")
    await harness.move_to(harness.time + timedelta(days=400))
    assert (await harness.destroyer().run_once()).destroyed == 1
    await restore(harness, video, backup)
    await harness.rows("update resguardo.insights set status = 'READY', error = null")
    await harness.rows(
        "insert into private.insight_texts (recording_id, generation, ciphertext) values (%s, %s, %s)",
        video,
        *text.values(),
    )
    assert (await harness.restore_check().run(repeat=True)).repeated == [video]
    await harness.move_to(harness.time + timedelta(hours=1))
    assert (await harness.destroyer().run_once()).destroyed == 1
    assert await practice.state_of(video) == ("OFF", "recording_destroyed")
    (deletion,) = await harness.rows("select number, cleared_text_rows from resguardo.deletions")
    assert list(deletion.values()) == [2, [{"table": "insight_texts", "rows": 1}]]


async def test_hold_does_not_stop_insights(practice: InsightsPractice) -> None:
    video = await practice.transcribed()
    await practice.harness.hold(patient_id=await practice.harness.patient_of(video))
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    await practice.harness.move_to(practice.harness.time + timedelta(days=400))
    assert (await practice.harness.destroyer().run_once()).destroyed == 0
    assert await _count(practice, "private.insight_texts") == 1


async def test_lost_job_is_queued_again(practice: InsightsPractice) -> None:
    video = await practice.transcribed()
    todo = "select count(*) from jobs.procrastinate_jobs where task_name = 'write_insights'"
    await practice.writer().resume()
    assert await practice.harness.value(todo) == 1, "a job that waits is enough"
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    await practice.writer().resume()
    assert await practice.harness.value(todo) == 1
    await practice.write(video)
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    await practice.writer().resume()
    assert await practice.harness.value(todo) == 0


async def test_used_up_budget_holds_insights_back_until_the_next_day(practice: InsightsPractice) -> None:
    await practice.harness.rows("update private.language_budget set tokens_per_day = 2000")
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("PENDING", "language_budget_used_up")
    assert practice.language.parts == [0, 1], "the second answer exceeded the budget"
    assert await practice.progress_of(video) == (2, PARTS)
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    todo = "select count(*) from jobs.procrastinate_jobs where task_name = 'write_insights'"
    for days, jobs in ((0, 0), (1, 1)):
        await practice.harness.move_to(practice.harness.time + timedelta(days=days))
        await practice.writer().resume()
        await HeldLanguageWork(practice.harness.worker).resume()
        assert await practice.harness.value(todo) == jobs
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)
    assert practice.language.parts == [0, 1, 2]


async def test_budget_does_not_hold_the_extractive_writer_back(practice: InsightsPractice) -> None:
    await practice.harness.rows("update private.language_budget set tokens_per_day = 1")
    video = await practice.transcribed()
    await practice.write(video)
    assert await practice.state_of(video) == ("PENDING", "language_budget_used_up")
    other = await practice.transcribed()
    await practice.writer(language=ExtractiveWriter()).write(other)
    assert await practice.state_of(other) == ("READY", None)
    rows = await practice.harness.rows("select vendor, model from resguardo.insights where status = 'READY'")
    assert list(rows[0].values()) == ["resguardo", "resguardo-extract"]


async def test_without_a_language_service_insights_are_off_until_a_retry(practice: InsightsPractice) -> None:
    video = await practice.transcribed()
    await InsightsWriter(practice.harness.worker, None, KEYRING).write(video)
    assert await practice.state_of(video) == ("OFF", "language_not_configured")
    await _retry(practice, video)
    await practice.write(video)
    assert await practice.state_of(video) == ("READY", None)


async def test_transcript_without_speech_has_no_insights(practice: InsightsPractice) -> None:
    silent = await practice.harness.recording()
    await practice.harness.rows(
        "update resguardo.transcripts set status = 'NO_SPEECH', error = null where recording_id = %s", silent
    )
    assert await practice.state_of(silent) == ("NO_SPEECH", None)
    emptied = await practice.transcribed(turns=[])
    await practice.write(emptied)
    assert await practice.state_of(emptied) == ("NO_SPEECH", None)
    await practice.write(silent)
    assert practice.language.asked == []


async def test_transcript_of_one_turn_and_of_thousands(
    practice: InsightsPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    one = await practice.transcribed("P: I have had a headache for three days.")
    many = await practice.transcribed(*(SAID[number % len(SAID)] for number in range(5_000)))
    for video, parts in ((one, 1), (many, 5)):
        practice.language.asked.clear()
        await practice.write(video)
        assert await practice.state_of(video) == ("READY", None)
        assert practice.language.parts == list(range(parts))
    lines = list((await practice.insights_of(many)).insights.lines)
    assert max(citation.turn_number for line in lines for citation in line.citations) > 1000
