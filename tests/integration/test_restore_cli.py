"""Tests of the command `resguardo restore check`, which an operator runs after a restore of the database."""

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
from tests.integration.retention_harness import DAY, START, RetentionHarness, opened
from tests.integration.test_destroyer import restore, snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def _told(
    monkeypatch: pytest.MonkeyPatch,
    report: RestoreReport,
    *arguments: str,
    differences: dict[str, int] | None = None,
) -> Result:
    """Run `resguardo restore check` with checks that return this report and these differences of the audit logs, and
    return the command's result.
    """

    async def compare(settings: object, *, repeat: bool) -> RestoreReport:
        assert repeat is ("--repeat" in arguments)
        return report

    async def compare_logs(settings: object) -> dict[str, int]:
        return differences or {}

    monkeypatch.setattr("app.commands.restore.compare_ledger", compare)
    monkeypatch.setattr("app.commands.restore.compare_audit_logs", compare_logs)
    monkeypatch.setattr("app.settings.load", lambda kind: kind is WorkerSettings)
    invoke = partial(CliRunner().invoke, cli, ("restore", "check", *arguments))
    return await asyncio.to_thread(invoke)  # The command runs its own event loop


async def test_command_lists_what_came_back_and_says_what_is_next(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, held = await harness.recording(), await harness.recording()
    backups = {one: await snapshot(harness, one) for one in (gone, held)}
    await harness.move_to(START + 90 * DAY)
    await harness.destroyer().run_once()
    for one, backup in backups.items():
        await restore(harness, one, backup)
    consultation = await harness.value("select consultation_id from resguardo.recordings where id = %s", held)
    await harness.hold(consultation_id=consultation)

    looked = await _told(monkeypatch, await harness.restore_check().run(repeat=False))
    assert looked.exit_code == 1
    assert "2 deletions in the ledger" in looked.output
    assert f"came back {gone}" in looked.output
    assert f"release the hold first {held}" in looked.output
    assert "resguardo restore check --repeat" in looked.output

    repeated = await _told(monkeypatch, await harness.restore_check().run(repeat=True), "--repeat")
    assert repeated.exit_code == 1, "the held recording still exists"
    assert f"destroyed again by the worker {gone}" in repeated.output


async def test_command_ends_well_where_nothing_came_back(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.recording()
    await harness.move_to(START + 90 * DAY)
    await harness.destroyer().run_once()
    told = await _told(monkeypatch, await harness.restore_check().run(repeat=False))
    assert (told.exit_code, told.output) == (0, "1 deletions in the ledger\n")


async def test_command_names_an_audit_log_of_which_the_bucket_has_more(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = await harness.restore_check().run(repeat=False)
    told = await _told(monkeypatch, report, differences={"resguardo/test-practice/2027": 301})
    assert told.exit_code == 0
    assert "audit log resguardo/test-practice/2027" in told.output
    assert "from leaf 301 on" in told.output
