"""Tests of how a doctor reads insights, dismisses a wrong line, and writes insights again after the transcript has
changed.
"""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from app.errors import Conflict, NotFound, RateLimited
from app.insights.service import ReadInsights
from app.postgres.selection import Selection
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.insights_setup import MODEL, SAID, VENDOR, InsightsPractice, open_insights_practice
from tests.unit.dialogues import dialogue

pytestmark = pytest.mark.anyio
_SHOWN = Selection.of("recording.id", "recording.insights.status")
_RECORDING = Selection.of("id", "insights.status")
STALE, READY = "STALE", "READY"


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[InsightsPractice]:
    async with open_insights_practice(database, emptied_store, monkeypatch, part_turns=999) as practice:
        await practice.harness.adopt()
        yield practice


async def _written(practice: InsightsPractice) -> UUID:
    video = await practice.transcribed()
    await practice.write(video)
    practice.language.asked.clear()
    return video


async def _read(practice: InsightsPractice, video: UUID) -> ReadInsights:
    async with practice.as_doctor() as (insights, doctor):
        return await insights.read(doctor, video, _SHOWN)


async def _dismiss(practice: InsightsPractice, video: UUID, generation: int, number: int) -> ReadInsights:
    async with practice.as_doctor() as (insights, doctor):
        return await insights.dismiss(doctor, video, generation, number, _SHOWN)


async def _refresh(practice: InsightsPractice, video: UUID) -> dict[str, object]:
    """Refresh the insights, and return their state as the recording shows it."""
    async with practice.as_doctor() as (insights, doctor):
        row = await insights.refresh(doctor, video, _RECORDING)
        shown: dict[str, object] = row["insights"]
        return shown


async def _actions(practice: InsightsPractice, action: str) -> list[tuple[str, int]]:
    rows = await practice.harness.rows(
        "select outcome, row_count from audit.events where action = %s order by recorded_at, id", action
    )
    return [(row["outcome"], row["row_count"]) for row in rows]


async def test_doctor_reads_insights_with_their_coverage_and_an_audit_row(practice: InsightsPractice) -> None:
    video = await _written(practice)
    read = await _read(practice, video)
    assert (read.is_stale, read.is_refreshed, read.generation) == (False, False, 1)
    assert (read.language, read.vendor, read.model) == ("en", VENDOR, MODEL)
    assert read.metadata["recording"]["id"] == str(video)
    assert read.metadata["recording"]["insights"]["status"] == READY
    assert read.insights == (await practice.insights_of(video)).insights
    assert read.coverage.turn_count == len(SAID)
    assert not read.coverage.are_speakers_unknown
    assert await _actions(practice, "insights.read") == [("ALLOWED", 1)]


async def test_repr_of_insights_has_no_text(practice: InsightsPractice) -> None:
    read = await _read(practice, await _written(practice))
    assert "headache" not in repr(read)
    assert "penicillin" not in repr(read)


@pytest.mark.parametrize("is_unknown", [True, False])
async def test_insights_that_are_missing_or_not_ready_are_not_found(
    practice: InsightsPractice, is_unknown: bool
) -> None:
    video = uuid4() if is_unknown else await practice.transcribed()
    for act in (_read, _refresh):
        reason = "insights_not_found" if is_unknown or act is _read else "insights_not_stale"
        with pytest.raises(NotFound if reason == "insights_not_found" else Conflict, match=reason):
            await act(practice, video)


async def test_dismissed_line_is_out_of_view_and_counted(practice: InsightsPractice) -> None:
    video = await _written(practice)
    before = await _read(practice, video)
    numbers = [line.number for line in before.insights.lines]
    for _ in range(2):
        shown = await _dismiss(practice, video, 1, 3)
        assert [line.number for line in shown.insights.lines] == [n for n in numbers if n != 3]
        assert shown.dismissed_count == 1
    assert (await _read(practice, video)).insights == shown.insights
    count = "select dismissed_count from resguardo.insights"
    assert await practice.harness.value(count) == 1
    assert await _actions(practice, "insights.dismiss") == [("ALLOWED", 1)] * 2


async def test_unknown_line_and_former_generation_cannot_be_dismissed(practice: InsightsPractice) -> None:
    video = await _written(practice)
    for number in (0, -1, 10_000):
        with pytest.raises(NotFound, match="insight_line_unknown"):
            await _dismiss(practice, video, 1, number)
    for generation in (0, 2):
        with pytest.raises(Conflict, match="insights_changed"):
            await _dismiss(practice, video, generation, 1)
    assert await practice.harness.value("select count(*) from private.insight_dismissals") == 0


async def test_concurrent_dismissals_are_all_counted(practice: InsightsPractice) -> None:
    video = await _written(practice)
    await asyncio.gather(*(_dismiss(practice, video, 1, number % 3 + 1) for number in range(6)))
    assert (await _read(practice, video)).dismissed_count == 3
    assert await practice.harness.value("select dismissed_count from resguardo.insights") == 3


async def test_correction_makes_insights_stale_and_they_stay_readable(practice: InsightsPractice) -> None:
    video = await _written(practice)
    before = await _read(practice, video)
    await practice.correct(video, 3, "Yes, I am allergic to sulfa drugs.")
    assert await practice.state_of(video) == (STALE, None)
    stale = await _read(practice, video)
    assert stale.is_stale
    assert stale.insights == before.insights


async def test_refresh_writes_the_corrected_text_under_a_new_generation(practice: InsightsPractice) -> None:
    video = await _written(practice)
    await _dismiss(practice, video, 1, 1)
    await practice.correct(video, 3, "Yes, I am allergic to sulfa drugs.")
    shown = await _refresh(practice, video)
    assert (shown["status"], shown["is_refreshed"], shown["dismissed_count"]) == (STALE, True, 1)
    assert await _refresh(practice, video) == shown, "a repeated refresh changes nothing"
    old = await _read(practice, video)
    assert (old.generation, old.is_refreshed, old.dismissed_count) == (1, True, 1)
    await practice.write(video)
    new = await _read(practice, video)
    assert (new.generation, new.is_stale, new.is_refreshed, new.dismissed_count) == (2, False, False, 0)
    quotes = " ".join(one.quote for line in new.insights.lines for one in line.citations)
    assert "sulfa" in quotes
    assert "penicillin" not in quotes
    with pytest.raises(Conflict, match="insights_changed"):
        await _dismiss(practice, video, 1, 2)
    with pytest.raises(Conflict, match="insights_not_stale"):
        await _refresh(practice, video)


async def test_failed_refresh_keeps_the_old_insights_and_says_why(practice: InsightsPractice) -> None:
    video = await _written(practice)
    await practice.correct(video, 3, "Yes, I am allergic to sulfa drugs.")
    await _refresh(practice, video)

    async def nonsense(part: int, is_repair: bool) -> str | None:
        return "{}"

    practice.language.script = nonsense
    await practice.write(video)
    assert await practice.state_of(video) == (STALE, "insights_unusable")
    assert (await _read(practice, video)).generation == 1
    practice.language.script = None
    await _refresh(practice, video)
    await practice.write(video)
    assert (await _read(practice, video)).generation == 3


async def test_correction_while_insights_are_written_makes_them_stale_at_the_end(
    practice: InsightsPractice,
) -> None:
    async def script(part: int, is_repair: bool) -> str | None:
        await practice.correct(video, 3, "Yes, I am allergic to sulfa drugs.")
        raise RateLimited("language_rate_limited")

    practice.language.script = script
    video = await practice.transcribed()
    with pytest.raises(RateLimited):
        await practice.write(video)
    practice.language.script = None
    await practice.write(video)
    assert await practice.state_of(video) == (READY, None), "no answer was stored, so the new text was used"

    async def correct(part: int, is_repair: bool) -> str | None:
        await practice.correct(other, 3, "Yes, I am allergic to sulfa drugs.")
        return None

    practice.language.script = correct
    other = await practice.transcribed()
    await practice.write(other)
    assert await practice.state_of(other) == (STALE, None)
    quotes = " ".join(
        one.quote for line in (await _read(practice, other)).insights.lines for one in line.citations
    )
    assert "penicillin" in quotes


@pytest.mark.parametrize(("count", "status"), [(0, READY), (1, STALE)])
async def test_retry_of_a_transcript_makes_insights_stale_if_a_turn_has_changed(
    practice: InsightsPractice, count: int, status: str
) -> None:
    video = await practice.transcribed()
    await practice.harness.rows("update resguardo.transcripts set unintelligible_count = 1")
    await practice.write(video)
    await practice.harness.rows("update resguardo.transcripts set is_retried = true")
    await practice.store_transcript(video, dialogue(*SAID))
    await practice.harness.rows(
        "update resguardo.transcripts set is_retried = false, unintelligible_count = 1 - %s", count
    )
    assert await practice.state_of(video) == (status, None)


async def test_insights_of_a_recording_that_is_to_be_destroyed_are_not_shown(
    practice: InsightsPractice,
) -> None:
    video = await _written(practice)
    await practice.harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, reason,"
        " requested_by, undo_until) select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'REQUEST',"
        " 'OTHER', r.doctor_id, private.now() + interval '7 days' from resguardo.recordings as r where r.id = %s",
        video,
    )
    with pytest.raises(Conflict, match="recording_being_deleted"):
        await _read(practice, video)
    with pytest.raises(Conflict, match="recording_being_deleted"):
        await _dismiss(practice, video, 1, 1)


async def test_ciphertext_of_another_generation_cannot_be_read(practice: InsightsPractice) -> None:
    video = await _written(practice)
    await practice.harness.rows("update private.insight_texts set generation = 2")
    with pytest.raises(Conflict, match="field_unreadable"):
        await _read(practice, video)
