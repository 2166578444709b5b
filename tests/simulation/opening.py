"""Opens a practice on a new database and an empty bucket, with a clock and people."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from app.deployment import mark_database
from app.postgres.database import Database as Pool
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.simulation.harness import DEPLOYMENT, KEYRING, SIGNER, Person, SimulationHarness
from tests.simulation.oracle import Oracle
from tests.simulation.process import Deaths, Process, SimulatedStorage, Weather

_PREPARED = Path(__file__).with_name("practice.sql")


@asynccontextmanager
async def opened(
    database: Database, store: ObjectStore, seed: int, start: datetime
) -> AsyncIterator[SimulationHarness]:
    """Yield a practice that has just opened, with an empty bucket."""
    dice = random.Random(seed)  # noqa: S311 - a simulation is repeated by its seed
    oracle = Oracle(SIGNER.public_key)
    oracle.now = start
    weather, deaths = (
        Weather(random.Random(seed + 1)),  # noqa: S311 - the same
        Deaths(random.Random(seed + 2)),  # noqa: S311 - the same
    )
    storage = SimulatedStorage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
    storage.uploads_since = {}
    storage.process = Process("people", deaths, weather, oracle)
    mark_database(database.owner_url, DEPLOYMENT)
    worker, api, owner = pools = [
        Pool(url, application="simulation")
        for url in (database.worker_url, database.api_url, database.owner_url)
    ]
    async with await psycopg.AsyncConnection.connect(
        database.superuser_url, autocommit=True, row_factory=dict_row
    ) as superuser:
        for pool in pools:
            await pool.open()
        try:
            await superuser.execute(_PREPARED.read_text())
            await superuser.execute(
                "insert into private.root_keys (id, check_value) values (%s, %s) on conflict do nothing",
                (KEYRING.current_id, KEYRING.check_values()[KEYRING.current_id]),
            )
            nobody = Person(uuid4(), uuid4())
            harness = SimulationHarness(
                database=database,
                worker=worker,
                api=api,
                owner=owner,
                storage=storage,
                superuser=superuser,
                oracle=oracle,
                dice=dice,
                weather=weather,
                deaths=deaths,
                doctor=nobody,
                officers=(nobody, nobody),
            )
            await harness.move_to(start)
            harness.doctor = await harness.person("clinician")
            harness.officers = (await harness.person("compliance"), await harness.person("compliance"))
            await harness.raw.claim(DEPLOYMENT)
            yield harness
        finally:
            for pool in pools:
                await pool.close()
            storage.close()
