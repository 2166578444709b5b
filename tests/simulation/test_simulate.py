"""Simulates two years with 200 consultations. `make simulate` uses 5,000."""

from datetime import timedelta

import pytest

from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.simulation.opening import opened
from tests.simulation.play import START, Play, Scale

pytestmark = pytest.mark.anyio
CONSULTATIONS = 200
SEED = 4


async def test_simulation_loses_no_held_recording_and_destroys_every_due_one(
    database: Database, emptied_store: ObjectStore
) -> None:
    async with opened(database, emptied_store, SEED, START) as harness:
        play = Play(harness, Scale.of(CONSULTATIONS))
        await play.run(lambda part: None)
        assert play.oracle.violations == [], f"seed {SEED}"
        assert play.oracle.deletions > CONSULTATIONS / 2
        assert harness.deaths.at.total() > 50
        assert harness.oracle.now - START > timedelta(days=731)
