"""The system that each attack starts from: a database with a sealed audit log of two years, two object stores, and a
witness. The worker's own sealer and publisher made them. After an attack, everything is as it was before.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from app.audit.publishing.adoption import Adoption
from app.audit.publishing.cosigners import Cosigners
from app.audit.publishing.publisher import Publisher, SecondBucket
from app.audit.sealing.model import LogKeys
from app.audit.sealing.sealer import Sealer
from app.audit.verification.checkpoints import compose_origin
from app.deployment import mark_database
from app.integrations.witness.client import Witness
from app.postgres.database import Database as Door
from app.transparency_log.checkpoints import Ed25519Cosigner, Ed25519Signer
from app.transparency_log.notes import VerifierKey
from devstack import object_store
from devstack.object_store import ObjectStore
from devstack.supabase_project import drop_project
from devstack.witness.app import create_witness_app
from devstack.witness.witness import TestWitness, WitnessRecord
from tests.attack_audit.attacker import Targets
from tests.attack_audit.clock import Clock
from tests.attack_audit.exports import write_export
from tests.attack_audit.objects import Objects
from tests.attack_audit.threads import serving
from tests.databases import Cluster, Database
from tests.drill import storage_of

DEPLOYMENT: Final = "attacked"
HOUR: Final = 3600
PUBLISH_SECONDS: Final = 60
FORMER_HOURS: Final = 5
HOURS: Final = 8
EVENTS_PER_HOUR: Final = 90
KEPT_AFTER_HOURS: Final = 5
"""The hour of the current year after which the auditor copies the newest checkpoint."""

YESTERDAY_AFTER_HOURS: Final = 4

_INSERT: Final = """
insert into audit.events (
    actor_id, actor_role, session_fingerprint, aal, action, operation, outcome, reason, purpose, basis, entities,
    patient_ids, consultation_ids, fields, row_count, request_id, address, policy_version
)
select
    lpad(to_hex(1 + n.number %% 5), 32, '0')::uuid, 'clinician', repeat('0', 63) || n.number %% 5, 'aal2',
    case when n.number %% 9 = 4 then 'recording.list' else 'recording.read' end, 'R',
    case when n.number %% 17 = 5 then 'DENIED' else 'ALLOWED' end,
    case when n.number %% 17 = 5 then 'not_visible' end, 'TREATMENT', 'treating_clinician',
    private.entities_of('recording', array[gen_random_uuid()]),
    array[lpad(to_hex(100 + n.number %% 23), 32, '0')::uuid], array[lpad(to_hex(1000 + n.number %% 41), 32, '0')::uuid],
    '{recording.status}', 1, gen_random_uuid(), '192.0.2.7', 'attacks'
from generate_series(%s::integer, %s::integer) as n (number)
"""
_INSERT_EXPORT: Final = """
insert into audit.events (actor_role, action, operation, outcome, purpose, basis, row_count, digest, policy_version)
values ('compliance', 'audit.export', 'R', 'ALLOWED', 'OPERATIONS', 'compliance', 100, %s, 'attacks')
returning id
"""
_PARTITION: Final = """
create table if not exists audit.events_{year} partition of audit.events
for values from ('{year}-01-01 00:00:00+00') to ('{next_year}-01-01 00:00:00+00');
"""
_PATIENT: Final = UUID(int=105)


@dataclass(frozen=True)
class Sealed:
    """A copy of the system, for one attack."""

    database: Database
    first: ObjectStore
    second: ObjectStore


class System:
    """The services of the attacked deployment."""

    def __init__(
        self, cluster: Cluster, base: Database, first: ObjectStore, second: ObjectStore, directory: Path, url: str,
        witness: TestWitness, clock: Clock, seed: bytes,
    ) -> None:  # fmt: skip
        self.cluster = cluster
        self.base = base
        self.first, self.second = first, second
        self.directory = directory
        self.witness_url, self.witness = url, witness
        self.clock = clock
        self.seed = seed
        self.objects = (Objects(first), Objects(second))
        self.yesterday = f"yesterday_{secrets.token_hex(4)}"
        self.kept = b""
        self.export_event = UUID(int=0)
        self.size = 0
        self._snapshots: tuple[dict[str, bytes], ...] = ()
        self._notes: dict[str, bytes] = {}
        self._end = _choose_end()
        self.year = datetime.fromtimestamp(time.time() + self._end, UTC).year
        self.closed_year = self.year - 1

    def work(self, database: Database) -> None:
        """Let a worker lead for a moment: it seals everything and publishes it."""
        asyncio.run(self._work(database, publishes=True))

    def seal(self, database: Database) -> None:
        """Let a worker seal everything. It dies before it publishes."""
        asyncio.run(self._work(database, publishes=False))

    async def _work(self, database: Database, *, publishes: bool) -> None:
        door = Door(database.worker_url, application="attacked")
        await door.open()
        try:
            await self._lead(door, publishes=publishes)
        finally:
            await door.close()

    async def _lead(self, door: Door, *, publishes: bool) -> None:
        first, second = (storage_of(store) for store in (self.first, self.second))
        (key,) = self.witness.vkeys
        witness = Witness(self.witness_url, VerifierKey.parse(key))
        adoption = Adoption(door, first, self._keys)
        sealer = Sealer(door, self.seed, deployment=DEPLOYMENT, clock=time.monotonic, reconcile=adoption.run)
        cosigners = Cosigners(door, [witness], clock=time.monotonic)
        publisher = Publisher(door, first, adoption, cosigners, self._keys, publish_seconds=PUBLISH_SECONDS)
        try:
            for _ in range(
                2
            ):  # the second run seals the events that the first run wrote about the log itself
                await sealer.run()
            if publishes:
                await publisher.run()
                await SecondBucket(door, first, second, deployment=DEPLOYMENT).run()
        finally:
            await witness.aclose()
            first.close()
            second.close()

    def _keys(self, year: int) -> LogKeys:
        return LogKeys.derive(self.seed, (), deployment=DEPLOYMENT, year=year)

    def build(self, export: Path) -> Targets:
        """Let the deployment work for the last hours of the former year, and for the hours until now. A worker that is
        stopped for months in between leaves no gap in either log. In the last hour, an officer exports events to the
        file `export`.
        """
        self._prepare()
        new_year = datetime(self.year, 1, 1, tzinfo=UTC).timestamp() - time.time()
        former = [new_year - hour * HOUR + 300 for hour in range(FORMER_HOURS, 0, -1)]
        current = [self._end - hour * HOUR for hour in range(HOURS, -1, -1)]
        for number, offset in enumerate((*former, *current)):
            self.clock.offset = offset
            if number == FORMER_HOURS + HOURS:
                self._export(export)
            self._work_for_an_hour(number)
            hour = number - FORMER_HOURS
            if hour == KEPT_AFTER_HOURS:
                self.kept = self.witness.record.notes[compose_origin(DEPLOYMENT, self.year)]
            if hour == YESTERDAY_AFTER_HOURS:
                self._copy_database(self.base.name, self.yesterday)
        self._snapshots = tuple(one.snapshot() for one in self.objects)
        self._notes = dict(self.witness.record.notes)
        return self._find_targets()

    def _prepare(self) -> None:
        asyncio.run(_claim(self.first))
        with psycopg.connect(self.base.superuser_url) as connection:
            connection.execute("update private.deployment set name = %s", [DEPLOYMENT])
            connection.execute(_PARTITION.format(year=self.closed_year, next_year=self.year).encode())
        mark_database(self.base.owner_url, DEPLOYMENT)

    def _export(self, path: Path) -> None:
        digest = write_export(self.base.superuser_url, self.year, path)
        self.clock.set_database(self.base.superuser_url)
        with psycopg.connect(self.base.superuser_url) as connection:
            (self.export_event,) = cast(
                "tuple[UUID]", connection.execute(_INSERT_EXPORT, [digest]).fetchone()
            )

    def _work_for_an_hour(self, number: int) -> None:
        self.clock.set_database(self.base.superuser_url)
        with psycopg.connect(self.base.superuser_url) as connection:
            connection.execute(_INSERT, [number * EVENTS_PER_HOUR, (number + 1) * EVENTS_PER_HOUR - 1])
        self.work(self.base)

    def _find_targets(self) -> Targets:
        with psycopg.connect(self.base.superuser_url) as connection:
            rows = connection.execute(
                "select e.id, e.outcome from audit.leaves as l join audit.events as e on e.id = l.event_id"
                " where l.log_year = %s and e.action like 'recording%%' order by l.index",
                [self.year],
            ).fetchall()
            former = connection.execute(
                "select event_id from audit.leaves where log_year = %s order by index", [self.closed_year]
            ).fetchall()
        self.size = len(rows) + len(former)
        allowed = [row[0] for row in rows if row[1] == "ALLOWED"]
        denied = [row[0] for row in rows if row[1] == "DENIED"]
        return Targets(
            self.year,
            self.closed_year,
            tuple(allowed[10:60]),
            denied[2],
            _PATIENT,
            tuple(row[0] for row in former),
        )

    @contextmanager
    def copy(self) -> Iterator[Database]:
        """Yield a copy of the database, and make everything as it was before at the end of the block."""
        name = f"attacked_{uuid4().hex[:8]}"
        self._copy_database(self.base.name, name)
        database = self.cluster._database(name, self.base.grants, self.base.owner)
        try:
            self.clock.set_database(database.superuser_url)
            yield database
        finally:
            drop_project(self.cluster.superuser_url, name)
            for objects, snapshot in zip(self.objects, self._snapshots, strict=True):
                objects.restore(snapshot)
            self.witness.record.notes = dict(self._notes)
            self.clock.offset = self._end

    def restore_yesterday(self, database: Database) -> None:
        """Replace the database by the backup of yesterday."""
        drop_project(self.cluster.superuser_url, database.name)
        self._copy_database(self.yesterday, database.name)
        self.clock.set_database(database.superuser_url)

    def _copy_database(self, template: str, name: str) -> None:
        with psycopg.connect(self.cluster.superuser_url, autocommit=True) as connection:
            statement = sql.SQL("create database {} template {} owner {} strategy file_copy")
            connection.execute(statement.format(*map(sql.Identifier, (name, template, self.base.owner))))

    def close(self) -> None:
        """Drop the backup of yesterday, and close the clients."""
        drop_project(self.cluster.superuser_url, self.yesterday)
        for one in self.objects:
            one.close()


async def _claim(store: ObjectStore) -> None:
    storage = storage_of(store)
    try:
        await storage.claim(DEPLOYMENT)
    finally:
        storage.close()


def _choose_end() -> float:
    """Return the seconds by which the end of the history is ahead of now: none, except in the first hours of a year, in
    which the history would begin in the former year.
    """
    now = datetime.now(UTC)
    is_early = (now - timedelta(hours=HOURS + 2)).year < now.year
    return (HOURS + 2) * HOUR if is_early else 0.0


@contextmanager
def running(cluster: Cluster, base: Database, directory: Path) -> Iterator[System]:
    """Run the stores and the witness until the block ends."""
    clock, seed = Clock(), secrets.token_bytes(32)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(object_store.running(directory / name, bucket=name))
            for name in ("first", "second")
        )
        keys = {
            origin: [Ed25519Signer.from_seed(origin, seed).verifier_key]
            for origin in (compose_origin(DEPLOYMENT, year) for year in range(2020, 2047))
        }
        witness = TestWitness(
            [Ed25519Cosigner.from_seed("witness.example", secrets.token_bytes(32))],
            WitnessRecord(directory / "witness.json"),
            lambda origin: keys.get(origin, []),
            clock=clock,
        )
        url = stack.enter_context(serving(create_witness_app(witness)))
        system = System(cluster, base, first, second, directory, url, witness, clock, seed)
        stack.callback(system.close)
        yield system
