"""Tests of `resguardo restore check` as an operator runs it after a restore."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.deletions.restore_check import RestoreReport
from app.settings import WorkerSettings
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.keeping_world import DAY, START, World, opened
from tests.integration.test_destroyer import restore, snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database: Database, emptied_store: ObjectStore) -> AsyncIterator[World]:
    async with opened(database, emptied_store) as world:
        await world.adopt()
        yield world


async def _told(monkeypatch: pytest.MonkeyPatch, report: RestoreReport, *arguments: str) -> Result:
    """Return the output of the command for a check with this report."""

    async def compare(settings: object, *, repeat: bool) -> RestoreReport:
        assert repeat is ("--repeat" in arguments)
        return report

    monkeypatch.setattr("app.commands.restore.compare_ledger", compare)
    monkeypatch.setattr("app.settings.load", lambda kind: kind is WorkerSettings)
    invoke = partial(CliRunner().invoke, cli, ("restore", "check", *arguments))
    return await asyncio.to_thread(invoke)  # The command runs its own event loop


async def test_command_lists_what_came_back_and_says_what_is_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, held = await world.recording(), await world.recording()
    backups = {one: await snapshot(world, one) for one in (gone, held)}
    await world.move_to(START + 90 * DAY)
    await world.destroyer().run_once()
    for one, backup in backups.items():
        await restore(world, one, backup)
    consultation = await world.value("select consultation_id from resguardo.recordings where id = %s", held)
    await world.hold(consultation_id=consultation)

    looked = await _told(monkeypatch, await world.restore_check().run(repeat=False))
    assert looked.exit_code == 1
    assert "2 deletions in the ledger" in looked.output
    assert f"came back {gone}" in looked.output
    assert f"release the hold first {held}" in looked.output
    assert "resguardo restore check --repeat" in looked.output

    repeated = await _told(monkeypatch, await world.restore_check().run(repeat=True), "--repeat")
    assert repeated.exit_code == 1, "the held recording still exists"
    assert f"destroyed again by the worker {gone}" in repeated.output


async def test_command_ends_well_where_nothing_came_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.recording()
    await world.move_to(START + 90 * DAY)
    await world.destroyer().run_once()
    told = await _told(monkeypatch, await world.restore_check().run(repeat=False))
    assert (told.exit_code, told.output) == (0, "1 deletions in the ledger\n")
