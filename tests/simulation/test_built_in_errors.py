"""Each test puts an error into the real database or the real worker, and requires that the oracle of `make
simulate` detects it.
"""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.holds.model import HoldOrder
from app.integrations.storage.objects import StoredObject
from app.postgres.references import ConsultationBy
from app.postgres.selection import Selection
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.simulation.facts import Hold, Recording, Wrong
from tests.simulation.harness import SimulationHarness
from tests.simulation.opening import opened
from tests.simulation.play import START, Play, Scale
from tests.simulation.process import SimulatedStorage
from tests.simulation.rounds import destroy

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[SimulationHarness]:
    async with opened(database, emptied_store, 1, START) as harness:
        harness.weather.is_calm = True
        play = Play(harness, Scale.of(1))
        await play.people.change_policy(is_first=True)
        yield harness


async def ended(harness: SimulationHarness, status: str = "READY") -> Recording:
    """Return a recording that is due after 90 days."""
    patient, consultation = harness.uuid(), harness.uuid()
    consultation = await harness.consult("follow_up", patient, None, None)
    one = Recording(harness.uuid(), consultation, patient, "follow_up", None, harness.oracle.now)
    await harness.record(one, status)
    return one


async def two_days_on(harness: SimulationHarness, *days: int) -> dict[Wrong, int]:
    for day in days or (90, 92):
        await harness.move_to(START + day * DAY)
        await harness.run("destroy", destroy, may_die=False)
        await harness.observe()
        harness.oracle.judge_overdue()
    await harness.look_for_left(is_end=True)
    return {wrong: many for wrong in Wrong if (many := harness.oracle.count(wrong))}


async def test_oracle_counts_nothing_without_an_error(harness: SimulationHarness) -> None:
    await ended(harness)
    assert await two_days_on(harness) == {}
    assert harness.oracle.deletions == 1


async def test_aborted_recording_keeps_its_term_if_a_clock_is_a_year_behind(
    harness: SimulationHarness,
) -> None:
    harness.jump = timedelta(days=-365)
    await harness.move_to(START)
    await ended(harness, "ABORTED")
    harness.jump = timedelta(0)
    assert await two_days_on(harness, 10, 89) == {}
    assert harness.oracle.deletions == 0
    assert await two_days_on(harness, 90, 92) == {}
    assert harness.oracle.deletions == 1


async def test_oracle_detects_is_held_that_always_returns_false(harness: SimulationHarness) -> None:
    one = await ended(harness)
    order = HoldOrder(ConsultationBy(one.consultation), "matter", "custodian")
    _, placed = await harness.holds.place(harness.officers[0].asker, order, Selection())
    harness.oracle.held(placed.id, Hold(1, consultation=one.consultation))
    assert await two_days_on(harness) == {}
    await alter(harness, "is_held", "private.holds_on(of_recording) <> '{}'", "false")
    await alter(harness, "claim_deletions", "and r.id <> all (spared)", "")
    assert await two_days_on(harness, 93) == {Wrong.HELD: 1}


async def test_oracle_detects_a_claim_that_ignores_the_term(harness: SimulationHarness) -> None:
    await alter(harness, "claim_deletions", "where r.due_at <= moment", "where r.due_at is not null")
    await ended(harness)
    assert await two_days_on(harness, 80) == {Wrong.EARLY: 1}


async def test_oracle_detects_a_claim_that_claims_nothing(harness: SimulationHarness) -> None:
    await alter(harness, "claim_deletions", "where r.due_at <= moment", "where false")
    await ended(harness)
    assert await two_days_on(harness) == {Wrong.OVERDUE: 1}


async def test_oracle_detects_a_destruction_that_keeps_the_key(harness: SimulationHarness) -> None:
    await alter(
        harness,
        "shred_keys",
        "delete from private.recording_keys as k where k.recording_id = any (media)\n"
        "        returning k.recording_id, k.wrapped_key, k.root_key_id",
        "select k.* from private.recording_keys as k where k.recording_id = any (media)",
    )
    await ended(harness)
    assert await two_days_on(harness) == {Wrong.LEFT: 1}


@pytest.mark.parametrize(
    ("function", "table"),
    [
        ("clear_transcript", "transcript_chunks"),
        ("clear_transcript", "transcript_texts"),
        ("clear_transcript", "subtitle_links"),
        ("clear_insights", "insight_answers"),
        ("clear_insights", "insight_dismissals"),
        ("clear_insights", "insight_texts"),
        ("clear_note_draft", "note_drafts"),
        ("clear_session_notes", "session_notes"),
        ("clear_session_notes", "psychotherapy_notes"),
        ("clear_thumbnail", "thumbnails"),
        ("clear_thumbnail", "thumbnail_links"),
    ],
)
async def test_oracle_detects_a_table_whose_text_is_not_deleted(
    harness: SimulationHarness, function: str, table: str
) -> None:
    others = {"'transcript_corrections', ", f"'{table}'"} if table == "transcript_texts" else {f"'{table}'"}
    source = await harness.value(f"select prosrc from pg_proc where proname = '{function}'")  # noqa: S608
    [tables] = re.findall(r"array\[\s*(.*?)\s*\]", source)
    left = ", ".join(one for one in tables.split(", ") if not any(one in other for other in others))
    await alter(harness, function, tables, left)
    for _ in range(12):
        await ended(harness)
    found = await two_days_on(harness)
    assert found[Wrong.LEFT] > 0
    assert found[Wrong.CERTIFICATE] > 0


async def test_oracle_detects_an_inventory_with_a_wrong_size(harness: SimulationHarness) -> None:
    await alter(
        harness,
        "keep_inventory",
        "i.object_key, i.size_bytes, i.etag",
        "i.object_key, i.size_bytes + 1, i.etag",
    )
    await ended(harness)
    assert await two_days_on(harness) == {Wrong.CERTIFICATE: 1}


async def test_oracle_detects_a_worker_that_does_not_check_a_deletion(harness: SimulationHarness) -> None:
    harness.storage.__class__ = Credulous
    await ended(harness)
    assert await two_days_on(harness) == {Wrong.LEFT: 1}


class Credulous(SimulatedStorage):
    """A defective bucket client, which deletes no object and then finds no object."""

    async def delete(self, key: str) -> None:
        """Report that the object is deleted, but do not delete it."""

    async def head(self, key: str) -> StoredObject | None:
        return None if key.startswith(("r/", "keep/")) else await super().head(key)


async def alter(harness: SimulationHarness, function: str, before: str, after: str) -> None:
    """Replace a text in one of the product's database functions, so that the function has an error."""
    text = str(
        await harness.value(
            "select pg_get_functiondef(p.oid) from pg_proc as p where p.pronamespace = 'private'::regnamespace"
            " and p.proname = %s",
            function,
        )
    )
    assert before in text, "the function reads otherwise by now"
    await harness.superuser.execute(text.replace(before, after))
