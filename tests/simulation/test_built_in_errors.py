"""Each test puts an error into the real database or the real worker, and requires that the oracle of `make
simulate` detects it.
"""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.holds.model import HoldOrder, Scope
from app.integrations.storage.objects import StoredObject
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.simulation.facts import Hold, Recording, Wrong
from tests.simulation.opening import opened
from tests.simulation.play import START, Play, Scale
from tests.simulation.process import SimulatedStorage
from tests.simulation.rounds import destroy
from tests.simulation.world import World

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


@pytest.fixture
async def world(database: Database, emptied_store: ObjectStore) -> AsyncIterator[World]:
    async with opened(database, emptied_store, 1, START) as world:
        world.weather.is_calm = True
        play = Play(world, Scale.of(1))
        await play.people.change_policy(is_first=True)
        yield world


async def ended(world: World, status: str = "READY") -> Recording:
    """Return a recording that is due after 90 days."""
    patient, consultation = world.uuid(), world.uuid()
    consultation = await world.consult("follow_up", patient, None, None)
    one = Recording(world.uuid(), consultation, patient, "follow_up", None, world.oracle.now)
    await world.record(one, status)
    return one


async def two_days_on(world: World, *days: int) -> dict[Wrong, int]:
    for day in days or (90, 92):
        await world.move_to(START + day * DAY)
        await world.run("destroy", destroy, may_die=False)
        await world.observe()
        world.oracle.judge_overdue()
    await world.look_for_left(is_end=True)
    return {wrong: many for wrong in Wrong if (many := world.oracle.count(wrong))}


async def test_without_an_error_nothing_is_counted(world: World) -> None:
    await ended(world)
    assert await two_days_on(world) == {}
    assert world.oracle.deletions == 1


async def test_what_is_aborted_while_a_clock_is_a_year_back_stays_its_term(world: World) -> None:
    world.jump = timedelta(days=-365)
    await world.move_to(START)
    await ended(world, "ABORTED")
    world.jump = timedelta(0)
    assert await two_days_on(world, 10, 89) == {}
    assert world.oracle.deletions == 0
    assert await two_days_on(world, 90, 92) == {}
    assert world.oracle.deletions == 1


async def test_is_held_that_always_says_no(world: World) -> None:
    one = await ended(world)
    order = HoldOrder(Scope(one.consultation, None, None, None), "matter", "custodian")
    placed = await world.holds.place(world.officers[0].asker, order)
    world.oracle.held(placed.hold.id, Hold(1, consultation=one.consultation))
    assert await two_days_on(world) == {}
    await alter(world, "is_held", "private.holds_on(of_recording) <> '{}'", "false")
    await alter(world, "claim_deletions", "and r.id <> all (spared)", "")
    assert await two_days_on(world, 93) == {Wrong.HELD: 1}


async def test_claim_that_asks_no_term(world: World) -> None:
    await alter(world, "claim_deletions", "where r.due_at <= moment", "where r.due_at is not null")
    await ended(world)
    assert await two_days_on(world, 80) == {Wrong.EARLY: 1}


async def test_claim_that_takes_nothing(world: World) -> None:
    await alter(world, "claim_deletions", "where r.due_at <= moment", "where false")
    await ended(world)
    assert await two_days_on(world) == {Wrong.OVERDUE: 1}


async def test_shredding_that_leaves_the_key(world: World) -> None:
    await alter(
        world,
        "shred_keys",
        "delete from private.recording_keys as k where k.recording_id = any (media)\n"
        "        returning k.recording_id, k.wrapped_key, k.root_key_id",
        "select k.* from private.recording_keys as k where k.recording_id = any (media)",
    )
    await ended(world)
    assert await two_days_on(world) == {Wrong.LEFT: 1}


@pytest.mark.parametrize("table", ["transcript_chunks", "transcript_texts", "subtitle_links"])
async def test_clearing_that_forgets_a_table_of_words(world: World, table: str) -> None:
    others = {"'transcript_corrections', ", f"'{table}'"} if table == "transcript_texts" else {f"'{table}'"}
    source = await world.value("select prosrc from pg_proc where proname = 'clear_transcript'")
    [tables] = re.findall(r"array\[\s*(.*?)\s*\]", source)
    left = ", ".join(one for one in tables.split(", ") if not any(one in other for other in others))
    await alter(world, "clear_transcript", tables, left)
    for _ in range(12):
        await ended(world)
    found = await two_days_on(world)
    assert found[Wrong.LEFT] > 0
    assert found[Wrong.CERTIFICATE] > 0


async def test_inventory_that_tells_another_size(world: World) -> None:
    await alter(
        world,
        "keep_inventory",
        "i.object_key, i.size_bytes, i.etag",
        "i.object_key, i.size_bytes + 1, i.etag",
    )
    await ended(world)
    assert await two_days_on(world) == {Wrong.CERTIFICATE: 1}


async def test_worker_that_believes_without_looking(world: World) -> None:
    world.storage.__class__ = Credulous
    await ended(world)
    assert await two_days_on(world) == {Wrong.LEFT: 1}


class Credulous(SimulatedStorage):
    """A bucket that deletes no object and finds no object."""

    async def delete(self, key: str) -> None:
        """Report a deletion without deleting."""

    async def head(self, key: str) -> StoredObject | None:
        return None if key.startswith(("r/", "keep/")) else await super().head(key)


async def alter(world: World, function: str, before: str, after: str) -> None:
    """Put an error into a database function of the product."""
    text = str(
        await world.value(
            "select pg_get_functiondef(p.oid) from pg_proc as p where p.pronamespace = 'private'::regnamespace"
            " and p.proname = %s",
            function,
        )
    )
    assert before in text, "the function reads otherwise by now"
    await world.superuser.execute(text.replace(before, after))
