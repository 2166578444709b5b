"""Tests of how the worker writes sections of note drafts again: no answer is paid for twice, the other sections stay as
they are, and a draft dies with its recording.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from app.errors import AppError, Conflict, RateLimited
from app.insights.drafts import Section
from app.notes.editing import LineEdit
from app.notes.sections import NoteSectionWriter
from app.notes.service import NoteDrafts, ReadDraft
from app.postgres.database import Asker
from app.postgres.database import Database as Pool
from app.postgres.selection import Selection
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.insights_setup import (
    MODEL,
    PARTS,
    TOKENS,
    VENDOR,
    InsightsPractice,
    open_insights_practice,
)
from tests.integration.recording_harness import asker
from tests.integration.retention_harness import KEYRING
from tests.integration.transcription_setup import Killed, Life, MortalDoors

pytestmark = pytest.mark.anyio
_ALL = Selection.of("version")
MINE = [LineEdit("Written by the doctor.")]


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[InsightsPractice]:
    async with open_insights_practice(database, emptied_store, monkeypatch, part_turns=4) as practice:
        await practice.harness.adopt()
        yield practice


@asynccontextmanager
async def as_doctor(practice: InsightsPractice) -> AsyncIterator[tuple[NoteDrafts, Asker]]:
    """Yield the service with which the recordings' doctor edits drafts, and the doctor."""
    async with practice.as_doctor():
        pool = Pool(practice.harness.database.api_url, application="test", max_size=1)
        await pool.open()
        try:
            yield NoteDrafts(pool, KEYRING), asker(practice.harness.doctor)
        finally:
            await pool.close()


def section_writer(practice: InsightsPractice, life: Life | None = None) -> NoteSectionWriter:
    practice.language.life = life or Life()
    doors = MortalDoors(practice.harness.worker, practice.language.life)
    return NoteSectionWriter(doors, practice.language, KEYRING)


async def asked(practice: InsightsPractice, *sections: Section) -> UUID:
    """Return a recording with insights, of which the doctor has edited the objective section and asked for others."""
    video = await practice.transcribed()
    await practice.write(video)
    practice.language.asked.clear()
    async with as_doctor(practice) as (drafts, doctor):
        version = (await drafts.edit(doctor, video, Section.O, MINE, 1, _ALL)).draft.version
        for section in sections:
            await drafts.rewrite_section(doctor, video, section, version, _ALL)
    return video


async def read(practice: InsightsPractice, video: UUID) -> ReadDraft:
    async with as_doctor(practice) as (drafts, doctor):
        return await drafts.read(doctor, video, _ALL)


def texts(draft: ReadDraft, section: Section) -> list[str]:
    return [one.line.text for one in draft.sections[section]]


async def _count(practice: InsightsPractice, table: str) -> int:
    return int(await practice.harness.value(f"select count(*) from {table}"))  # noqa: S608


async def test_section_is_written_again_and_the_others_stay(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P)
    before = await read(practice, video)
    assert before.written_sections == {Section.P}
    used = await practice.tokens()
    await section_writer(practice).write(video)
    after = await read(practice, video)
    assert (after.version, after.written_sections) == (before.version + 1, frozenset())
    assert not after.failed_sections
    assert texts(after, Section.O) == ["Written by the doctor."]
    assert texts(after, Section.S) == texts(before, Section.S)
    assert "ibuprofen 400 milligrams" in " ".join(texts(after, Section.P))
    numbers = {one.line.number for one in before.sections[Section.P]}
    assert not numbers & {one.line.number for one in after.sections[Section.P]}
    assert all(one.line.citations for one in after.sections[Section.P])
    assert after.writer is not None
    assert (after.writer.vendor, after.writer.model) == (VENDOR, MODEL)
    assert practice.language.parts == list(range(PARTS))
    tokens = await practice.tokens()
    assert tuple(now - then for now, then in zip(tokens, used, strict=True)) == tuple(
        PARTS * one for one in TOKENS
    )
    assert await _count(practice, "private.note_section_answers") == 0


async def test_section_is_paid_for_once_wherever_the_process_dies(practice: InsightsPractice) -> None:
    life = Life()
    await section_writer(practice, life).write(await asked(practice, Section.P))
    assert life.steps > 20
    for step in range(1, life.steps + 1, 2):
        video = await asked(practice, Section.P)
        before = await read(practice, video)
        with pytest.raises(Killed):
            await section_writer(practice, Life(ends_at=step)).write(video)
        answered = [
            row["part"]
            for row in await practice.harness.rows(
                "select part from private.note_section_answers where recording_id = %s and ciphertext is not null",
                video,
            )
        ]
        half = await read(practice, video)
        is_done = half.version > before.version
        assert is_done or half.sections == before.sections, step
        practice.language.asked.clear()
        await section_writer(practice).write(video)
        expected = [] if is_done else [part for part in range(PARTS) if part not in answered]
        assert practice.language.parts == expected, step
        after = await read(practice, video)
        assert (after.version, after.written_sections) == (before.version + 1, frozenset()), step
        assert texts(after, Section.O) == ["Written by the doctor."]


async def test_doctor_edits_the_other_sections_meanwhile_and_not_this_one(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P)
    async with as_doctor(practice) as (drafts, doctor):
        version = (await drafts.read(doctor, video, _ALL)).version
        with pytest.raises(Conflict) as refused:
            await drafts.edit(doctor, video, Section.P, MINE, version, _ALL)
        assert refused.value.reason == "note_section_in_progress"
        again = await drafts.rewrite_section(doctor, video, Section.P, 0, _ALL)
        assert again.version == version, "a repeated call changes nothing"
        await drafts.edit(doctor, video, Section.A, MINE, version, _ALL)
    await section_writer(practice).write(video)
    after = await read(practice, video)
    assert (after.version, texts(after, Section.A)) == (version + 2, ["Written by the doctor."])
    assert len(practice.language.asked) == PARTS


async def test_failure_is_shown_and_retried(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P, Section.A)
    failures = [Conflict("language_refused")]

    async def script(part: int, is_repair: bool) -> str | None:
        if failures:
            raise failures.pop()
        return None

    practice.language.script = script
    await section_writer(practice).write(video)
    failed = await read(practice, video)
    assert failed.failed_sections == {Section.A: "language_refused"}
    assert texts(failed, Section.P)
    assert failed.written_sections == set()
    async with as_doctor(practice) as (drafts, doctor):
        asked_again = await drafts.rewrite_section(doctor, video, Section.A, failed.version, _ALL)
    assert not asked_again.failed_sections
    assert asked_again.written_sections == {Section.A}
    await section_writer(practice).write(video)
    assert (await read(practice, video)).failed_sections == {}


async def test_answer_that_cannot_be_repaired_ends_the_section(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P)

    async def script(part: int, is_repair: bool) -> str | None:
        return "{}"

    practice.language.script = script
    await section_writer(practice).write(video)
    assert (await read(practice, video)).failed_sections == {Section.P: "insights_unusable"}
    assert practice.language.asked == [(0, False), (0, True)]
    assert await _count(practice, "private.note_section_answers") == 0


async def test_temporary_failure_is_raised_for_the_next_attempt(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P)
    left = [RateLimited("language_rate_limited")]

    async def script(part: int, is_repair: bool) -> str | None:
        if part == 1 and left:
            raise left.pop()
        return None

    practice.language.script = script
    with pytest.raises(AppError):
        await section_writer(practice).write(video)
    await section_writer(practice).write(video)
    assert practice.language.parts == [0, 1, 1, 2]
    assert (await read(practice, video)).written_sections == set()


async def test_used_up_budget_holds_the_section_back_until_the_next_day(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P)
    await practice.harness.rows("update private.language_budget set tokens_per_day = 3150")
    await section_writer(practice).write(video)
    assert practice.language.asked == []
    assert (await read(practice, video)).written_sections == {Section.P}
    todo = "select count(*) from private.held_language_work where task = 'write_note_section'"
    assert await practice.harness.value(todo) == 1
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    await section_writer(practice).resume()
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'write_note_section'"
    assert await practice.harness.value(jobs) == 0
    await practice.harness.move_to(practice.harness.time + timedelta(days=1))
    await practice.harness.rows("select private.resume_language_work()")
    assert await practice.harness.value(jobs) == 1
    await section_writer(practice).write(video)
    assert (await read(practice, video)).written_sections == set()


async def test_lost_job_is_queued_again(practice: InsightsPractice) -> None:
    await asked(practice, Section.P)
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'write_note_section'"
    assert await practice.harness.value(jobs) == 1
    await practice.harness.rows("delete from jobs.procrastinate_jobs")
    await section_writer(practice).resume()
    assert await practice.harness.value(jobs) == 1


async def test_without_transcription_no_section_is_written(practice: InsightsPractice) -> None:
    video = await asked(practice, Section.P)
    await practice.harness.rows("update resguardo.consultations set transcribe = false")
    await section_writer(practice).write(video)
    stopped = await read(practice, video)
    assert stopped.failed_sections == {Section.P: "insights_switched_off"}
    assert practice.language.asked == []
    async with as_doctor(practice) as (drafts, doctor):
        with pytest.raises(Conflict) as refused:
            await drafts.rewrite_section(doctor, video, Section.P, stopped.version, _ALL)
    assert refused.value.reason == "insights_switched_off"


async def test_draft_dies_with_its_recording_and_its_certificate_counts_it(
    practice: InsightsPractice,
) -> None:
    video = await asked(practice, Section.P)

    async def script(part: int, is_repair: bool) -> str | None:
        if part == 1:
            raise RateLimited("language_rate_limited")
        return None

    practice.language.script = script
    with pytest.raises(AppError):
        await section_writer(practice).write(video)
    await practice.harness.move_to(practice.harness.time + timedelta(days=400))
    assert (await practice.harness.destroyer().run_once()).destroyed == 1
    rows = await practice.harness.rows("select cleared_text_rows from resguardo.deletions")
    cleared = {one["table"]: one["rows"] for one in rows[0]["cleared_text_rows"]}
    assert {name: many for name, many in cleared.items() if name.startswith("note_")} == {
        "note_drafts": 1,
        "note_sections": 1,
        "note_section_answers": 2,
    }
    await section_writer(practice).write(video)
    for table in ("note_drafts", "note_sections", "note_section_answers"):
        assert await _count(practice, f"private.{table}") == 0


async def test_hold_keeps_the_draft(practice: InsightsPractice) -> None:
    video = await asked(practice)
    await practice.harness.hold(patient_id=await practice.harness.patient_of(video))
    await practice.harness.move_to(practice.harness.time + timedelta(days=400))
    assert (await practice.harness.destroyer().run_once()).destroyed == 0
    assert await _count(practice, "private.note_drafts") == 1
