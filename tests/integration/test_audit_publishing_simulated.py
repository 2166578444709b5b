"""A simulation of the published audit log: random events, seals, publications, deaths, outages, restores of the
database, and witnesses that lose their disk. Afterwards, the database and the bucket have one log, every published
checkpoint is a prefix of it, and every event has a leaf.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import LiteralString

import pytest

from app.errors import AppError, UpstreamFailed
from app.postgres.database import Database as Pool
from app.postgres.database import Transaction
from tests.integration.test_audit_publishing import Publishing, publishing

pytestmark = pytest.mark.anyio

__all__ = ["publishing"]

STEPS = 60


class Killed(Exception):  # noqa: N818 - it reads as what happened
    """The process has died."""


class MortalPool(Pool):
    """The database as a process uses it that dies at a transaction: before it, before its commit, or after it."""

    def __init__(self, through: Pool) -> None:
        self._through = through
        self.dies_at: int | None = None
        self.steps = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Killed

    @asynccontextmanager
    async def as_service(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        self._step()
        async with self._through.as_service(reason) as tx:
            yield tx
            self._step()
        self._step()


class Simulation:
    """The random actions on one audit log."""

    def __init__(self, harness: Publishing, pool: MortalPool, dice: random.Random) -> None:
        self.harness = harness
        self.pool = pool
        self.dice = dice
        self.restores = self.deaths = 0
        self.has_backup = False

    async def act(self) -> None:
        """Take one random action."""
        action = self.dice.choices(
            [self.work, self.add, self.back_up, self.restore, self.forget_witness], [12, 6, 1, 1, 1]
        )[0]
        await action()

    async def add(self) -> None:
        self.harness.add(self.dice.choice([1, 3, 40, 300]))

    async def back_up(self) -> None:
        self.harness.back_up()
        self.has_backup = True

    async def restore(self) -> None:
        if self.has_backup:
            self.restores += 1
            self.harness.restore()

    async def forget_witness(self) -> None:
        """The witness is restored from an empty disk."""
        self.harness.server.record.notes.clear()

    async def work(self) -> None:
        """Run the periodic tasks of one process, which may die, while a bucket may be unreachable."""
        harness, dice = self.harness, self.dice
        harness.make_due()
        for storage in (harness.storage, harness.second):
            storage.calls, storage.fails_at, storage.after = 0, None, dice.random() < 0.5
            storage.down = UpstreamFailed("storage_unreachable") if dice.random() < 0.15 else None
        self.pool.steps, self.pool.dies_at = 0, None
        if dice.random() < 0.3:
            harness.storage.fails_at = dice.randrange(1, 15)
        elif dice.random() < 0.5:
            self.pool.dies_at = dice.randrange(1, 40)
        for run in (harness.sealer.run, harness.publisher.run, harness.second_bucket.run):
            try:
                await run()
            except Killed:
                self.deaths += 1
                break
            except AppError:
                continue
        self.calm()
        if dice.random() < 0.5:
            harness.restart()

    def calm(self) -> None:
        """End all faults."""
        for storage in (self.harness.storage, self.harness.second):
            storage.fails_at = storage.down = None
        self.pool.dies_at = None


@pytest.mark.parametrize("seed", range(3))
async def test_database_and_bucket_agree_after_deaths_outages_and_restores(
    publishing: Publishing, seed: int
) -> None:
    pool = MortalPool(publishing.pool)
    publishing.pool = pool
    publishing.restart()
    simulation = Simulation(publishing, pool, random.Random(seed))  # noqa: S311 - a repeatable simulation
    for _ in range(STEPS):
        await simulation.act()
    simulation.calm()
    publishing.restart()
    for _ in range(2):
        with suppress(AppError):
            await publishing.publish(1)
    await publishing.publish(1)
    await publishing.second_bucket.run()
    await publishing.require_healthy()
    await publishing.require_published(publishing.second)
    assert publishing.rows("select from audit.unsealed") == []
    newest = publishing.server.record.newest(publishing.origin)
    assert newest is not None
    assert newest.size == publishing.size()
