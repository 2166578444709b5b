"""Tests of the publisher of the audit log on a real Postgres, a real object store and the test witness: what is in the
buckets, and what a death, an outage, a restored database and a witness that is elsewhere do to it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, LiteralString, TypeVar
from uuid import UUID, uuid4

import anyio
import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from app.audit.publishing.adoption import Adoption
from app.audit.publishing.bucket_log import BucketLog
from app.audit.publishing.checks import require_published
from app.audit.publishing.cosigners import Cosigners
from app.audit.publishing.model import BucketLeaf, count_objects_in_a_year
from app.audit.publishing.publisher import Publisher, SecondBucket
from app.audit.sealing.model import LogKeys, compute_leaf
from app.audit.sealing.sealer import Sealer
from app.deployment import mark_database
from app.errors import AppError, Conflict, UpstreamFailed
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ObjectPage
from app.integrations.witness.client import Witness
from app.postgres.database import Database as Pool
from app.transparency_log.checkpoints import Checkpoint, Ed25519Cosigner, verify_note
from app.transparency_log.merkle import leaf_hash, split_hashes, tree_root, verify_consistency
from app.transparency_log.notes import SignedNote
from app.transparency_log.tiles import (
    ENTRY_LEVEL,
    TileId,
    consistency_proof,
    parse_entry_bundle,
    root_from_tiles,
    tiles_of_tree,
)
from devstack.object_store import ObjectStore
from devstack.witness.app import create_witness_app
from devstack.witness.witness import TestWitness, WitnessRecord
from tests.alerts import open_alerts
from tests.buckets import InterceptedStorage, s3_client
from tests.databases import Database

pytestmark = pytest.mark.anyio

T = TypeVar("T")

SEED = bytes(range(32))
COSIGNER = Ed25519Cosigner.from_seed("witness.example/test", b"w" * 32)
INSERT: LiteralString = (
    "insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis, policy_version)"
    " select clock_timestamp(), 'resguardo_api', 'viewer.read', 'R', 'ALLOWED', 'TREATMENT', 'check', '1'"
    " from generate_series(1, %s) returning id"
)
TABLES = (
    "events",
    "unindexed",
    "event_blocks",
    "event_bitmaps",
    "unsealed",
    "logs",
    "leaves",
    "tile_hashes",
    "published_logs",
    "publications",
)


class FaultyStorage(InterceptedStorage):
    """A storage client that fails at one of its calls, before or after the call took effect, or at every call."""

    fails_at: int | None = None
    after: bool = False
    down: AppError | None = None
    calls: int = 0

    async def _call(self, operation: str, work: Callable[[], T]) -> T:
        self.calls += 1
        if self.down is not None:
            raise self.down
        if self.calls == self.fails_at and not self.after:
            raise UpstreamFailed("storage_unreachable")
        answer = await super()._call(operation, work)
        if self.calls == self.fails_at:
            raise UpstreamFailed("storage_unreachable")
        return answer


@dataclass
class Publishing:
    """A database with a sealer, two buckets, a witness, and a publisher."""

    database: Database
    pool: Pool
    storage: FaultyStorage
    second: FaultyStorage
    server: TestWitness
    http: httpx.AsyncClient
    deployment: str
    sealer: Sealer = field(init=False)
    publisher: Publisher = field(init=False)
    second_bucket: SecondBucket = field(init=False)
    adoption: Adoption = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Replace the sealer and the publishers by those of a new process."""
        self.adoption = Adoption(self.pool, self.storage, self.keys)
        self.sealer = Sealer(
            self.pool,
            SEED,
            deployment=self.deployment,
            clock=lambda: 0.0,
            reconcile=self.adoption.run_briefly,
        )
        self.use_witness(Witness("http://witness.test", COSIGNER.verifier_key, http=self.http))
        self.second_bucket = SecondBucket(self.pool, self.storage, self.second, deployment=self.deployment)

    def use_witness(self, witness: Witness) -> None:
        """Replace the publisher by one that asks this witness."""
        cosigners = Cosigners(self.pool, [witness], clock=lambda: 0.0)
        self.publisher = Publisher(
            self.pool, self.storage, self.adoption, cosigners, self.keys, publish_seconds=60
        )

    def keys(self, year: int) -> LogKeys:
        return LogKeys.derive(SEED, (), deployment=self.deployment, year=year)

    @property
    def year(self) -> int:
        return datetime.now(UTC).year

    @property
    def origin(self) -> str:
        return f"resguardo/{self.deployment}/{self.year}"

    def rows(self, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.superuser_url, row_factory=dict_row) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def tamper(self, *statements: LiteralString) -> None:
        """Run statements as the superuser, without the triggers that guard the log."""
        tables = [f"audit.{table}" for table in TABLES] + [
            row["name"]
            for row in self.rows(
                "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'audit.events'::regclass"
            )
        ]
        with psycopg.connect(self.database.superuser_url) as connection:
            for table in tables:
                connection.execute(f"alter table {table} disable trigger user".encode())
            for statement in statements:
                connection.execute(statement)
            for table in tables:
                connection.execute(f"alter table {table} enable trigger user".encode())

    def back_up(self) -> None:
        self.rows("drop schema if exists backup cascade")
        self.rows("create schema backup")
        for table in TABLES:
            self.rows(f"create table backup.{table} as table audit.{table}")

    def restore(self) -> None:
        """Bring the tables of the audit log back to the backup, as a restore of the database does, and restart."""
        self.tamper(
            *(f"truncate audit.{table}" for table in TABLES),
            *(f"insert into audit.{table} table backup.{table}" for table in TABLES),
        )
        self.restart()

    def add(self, count: int) -> list[UUID]:
        return [row["id"] for row in self.rows(INSERT, count)]

    async def seal(self, count: int = 0) -> None:
        if count:
            self.add(count)
        await self.sealer.run()
        await self.sealer.run()  # the first run writes events about the log itself

    async def publish(self, count: int = 0) -> int:
        """Seal events, publish, and return the size of the published log."""
        await self.seal(count)
        self.make_due()
        await self.publisher.run()
        return self.published()

    def make_due(self) -> None:
        self.rows("update audit.published_logs set published_at = published_at - interval '60 seconds'")

    def published(self) -> int:
        rows = self.rows("select size from audit.published_logs where log_year = %s", self.year)
        return int(rows[0]["size"]) if rows else 0

    def size(self) -> int:
        return int(self.rows("select size from audit.logs where log_year = %s", self.year)[0]["size"])

    def lost(self) -> int:
        return int(self.rows("select count(*) as n from audit.leaves where event_id is null")[0]["n"])

    def adoptions(self) -> list[int]:
        rows = self.rows(
            "select row_count from audit.events where action = 'audit_log.adopt' order by recorded_at"
        )
        return [row["row_count"] for row in rows]

    async def objects(self, storage: Storage | None = None) -> dict[str, bytes]:
        """Return the objects of the log by their keys below `audit/<origin>/`."""
        prefix = f"audit/{self.origin}/"
        found = {}
        bucket = storage or self.storage
        async for page in bucket.list_objects(prefix):
            for one in page.objects:
                found[one.key.removeprefix(prefix)] = await bucket.get_small(one.key, 100_000) or b""
        return found

    async def latest(self, storage: Storage | None = None) -> bytes:
        note = await (storage or self.storage).get_small(f"audit-latest/{self.origin}/checkpoint", 100_000)
        return note or b""

    async def require_published(self, storage: Storage | None = None) -> Checkpoint:
        """Check that the bucket has all tiles of each of its checkpoints, that each entry has its hash, and that the
        checkpoints are consistent with each other. Return the newest checkpoint.
        """
        objects = await self.objects(storage)
        keys = self.keys(self.year)
        checkpoints = sorted(
            (keys.read_checkpoint(note) for key, note in objects.items() if key.startswith("checkpoints/")),
            key=lambda one: one.size,
        )
        newest = checkpoints[-1]
        assert SignedNote.parse(await self.latest(storage)).text == newest.format()
        for one in checkpoints:
            tiles = {tile: objects[tile.path] for tile in tiles_of_tree(one.size)}
            assert root_from_tiles(one.size, tiles) == one.root
            for tile, content in tiles.items():
                if tile.level == 0:
                    bundle = parse_entry_bundle(
                        tiles[TileId(ENTRY_LEVEL, tile.index, tile.width)], tile.width
                    )
                    assert [leaf_hash(entry) for entry in bundle] == list(split_hashes(content))
            proof = consistency_proof(
                one.size, newest.size, {tile: objects[tile.path] for tile in tiles_of_tree(newest.size)}
            )
            verify_consistency(one.size, one.root, newest.size, newest.root, proof)
        return newest

    async def require_healthy(self) -> None:
        """Check that the database and the bucket have the same log, and that each event has one leaf."""
        newest = await self.require_published()
        leaves = self.rows("select * from audit.leaves where log_year = %s order by index", self.year)
        assert newest.size == len(leaves) == self.size()
        assert tree_root(leaf["leaf_hash"] for leaf in leaves) == newest.root
        events = {row["id"]: row for row in self.rows("select * from audit.events")}
        linked = {leaf["event_id"]: leaf["leaf_hash"] for leaf in leaves if leaf["event_id"] is not None}
        assert {one: compute_leaf(events[one]).leaf_hash for one in linked} == linked
        unsealed = {row["event_id"] for row in self.rows("select event_id from audit.unsealed")}
        assert events.keys() - linked.keys() == unsealed


@pytest.fixture
async def publishing(
    database: Database, object_store: ObjectStore, tmp_path: Path
) -> AsyncIterator[Publishing]:
    deployment = f"t-{uuid4().hex[:12]}"
    mark_database(database.owner_url, deployment)
    pool = Pool(database.worker_url, application="test-publisher", max_size=4)
    await pool.open()
    client = s3_client(object_store, object_store.writer)
    second_name = f"second-{deployment}"
    client.create_bucket(Bucket=second_name)
    client.close()
    storages = [
        FaultyStorage(
            endpoint_url=object_store.endpoint_url,
            bucket=bucket,
            credentials=object_store.writer,
            region=object_store.region,
        )
        for bucket in (object_store.bucket, second_name)
    ]
    keys = LogKeys.derive(SEED, (), deployment=deployment, year=datetime.now(UTC).year)
    server = TestWitness(
        [COSIGNER],
        WitnessRecord(tmp_path / "witness.json"),
        lambda origin: [keys.signer.verifier_key] if origin == keys.origin else [],
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_witness_app(server))) as http:
        yield Publishing(database, pool, storages[0], storages[1], server, http, deployment)
    for storage in storages:
        storage.close()
    await pool.close()


async def test_bucket_gets_tiles_entries_and_a_cosigned_checkpoint(publishing: Publishing) -> None:
    size = await publishing.publish(300)

    assert size > 300
    objects = await publishing.objects()
    width = size % 256
    assert sorted(objects) == sorted(
        [
            f"checkpoints/{size}",
            "tile/0/000",
            f"tile/0/001.p/{width}",
            "tile/1/000.p/1",
            "tile/entries/000",
            f"tile/entries/001.p/{width}",
        ]
    )
    note = SignedNote.parse(objects[f"checkpoints/{size}"])
    assert {one.key for one in verify_note(note, [COSIGNER.verifier_key])} == {COSIGNER.verifier_key}
    assert await publishing.latest() == objects[f"checkpoints/{size}"]
    await publishing.require_healthy()


async def test_further_publication_adds_only_what_is_new(publishing: Publishing) -> None:
    first = await publishing.publish(300)
    before = await publishing.objects()
    second = await publishing.publish(5)
    after = await publishing.objects()

    assert second == first + 5
    assert {key: after[key] for key in before} == before
    assert sorted(after.keys() - before.keys()) == sorted(
        [f"checkpoints/{second}", f"tile/0/001.p/{second % 256}", f"tile/entries/001.p/{second % 256}"]
    )
    await publishing.require_healthy()


async def test_checkpoint_is_published_only_after_the_interval_and_only_if_the_log_grew(
    publishing: Publishing,
) -> None:
    first = await publishing.publish(3)
    await publishing.seal(3)
    await publishing.publisher.run()
    assert publishing.published() == first

    publishing.make_due()
    await publishing.publisher.run()
    assert publishing.published() == first + 3

    publishing.make_due()
    calls = publishing.storage.calls
    await publishing.publisher.run()
    assert publishing.storage.calls == calls


async def test_clock_that_went_back_does_not_stop_the_publication(publishing: Publishing) -> None:
    await publishing.publish(3)
    publishing.rows("update audit.published_logs set published_at = now() + interval '1 year'")
    await publishing.seal(3)
    await publishing.publisher.run()
    await publishing.require_healthy()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_death_at_every_call_to_the_bucket_leaves_a_log_that_the_next_process_completes(
    publishing: Publishing, after: bool
) -> None:
    number = 0
    while True:
        number += 1
        await publishing.seal(100)
        publishing.make_due()
        publishing.storage.calls, publishing.storage.fails_at, publishing.storage.after = 0, number, after
        try:
            await publishing.publisher.run()
        except UpstreamFailed:
            publishing.storage.fails_at = None
            publishing.restart()
            publishing.make_due()
            await publishing.publisher.run()
            await publishing.require_healthy()
            continue
        break
    assert number > 7
    publishing.storage.fails_at = None
    await publishing.require_healthy()


async def test_death_before_the_database_notes_the_publication_keeps_the_first_cosignatures(
    publishing: Publishing,
) -> None:
    size = await publishing.publish(3)
    kept = await publishing.latest()
    publishing.rows("delete from audit.unsealed where false")
    publishing.tamper("truncate audit.published_logs", "truncate audit.publications")
    publishing.server._clock = lambda: 2_000_000_000
    publishing.restart()

    await publishing.publisher.run()

    assert publishing.published() == size
    assert (await publishing.objects())[f"checkpoints/{size}"] == kept
    await publishing.require_healthy()


@pytest.mark.parametrize("reason", ["storage_unreachable", "storage_access_denied"])
async def test_bucket_that_refuses_does_not_stop_sealing(publishing: Publishing, reason: str) -> None:
    await publishing.publish(3)
    publishing.storage.down = UpstreamFailed(reason)
    publishing.restart()
    await publishing.seal(600)
    assert publishing.rows("select from audit.unsealed") == []
    publishing.make_due()
    with pytest.raises(UpstreamFailed):
        await publishing.publisher.run()

    publishing.storage.down = None
    await publishing.publish(1)
    await publishing.require_healthy()


async def test_bucket_that_does_not_answer_delays_sealing_by_a_bounded_time(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.audit.publishing.adoption.BRIEF_SECONDS", 0.2)
    monkeypatch.setattr(publishing.storage, "list_objects", _hang)
    with anyio.fail_after(10):
        await publishing.seal(10)
    assert publishing.rows("select from audit.unsealed") == []


async def _hang(_: str) -> AsyncIterator[ObjectPage]:
    await anyio.sleep_forever()
    yield ObjectPage((), datetime.now(UTC), None)


async def test_adoption_begins_again_if_the_sealer_seals_at_the_same_time(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publishing.publish(100)
    publishing.back_up()
    await publishing.publish(20)
    publishing.restore()
    read_leaves = publishing.adoption._read_leaves
    sealed: list[bool] = []

    async def seal_first(bucket: BucketLog, index: int) -> list[BucketLeaf]:
        if not sealed:
            sealed.append(True)
            publishing.add(3)
            await publishing.sealer.seal_year(publishing.year)
        return await read_leaves(bucket, index)

    monkeypatch.setattr(publishing.adoption, "_read_leaves", seal_first)
    assert await publishing.adoption.run()
    assert publishing.lost() == 20
    await publishing.publish(1)
    await publishing.require_healthy()


async def test_new_bucket_gets_the_whole_log_again(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    await publishing.publish(300)
    for key in await publishing.objects():
        await publishing.storage.delete(f"audit/{publishing.origin}/{key}")
    await publishing.publish(5)
    await publishing.require_healthy()
    assert "lacks the newest published checkpoint" in caplog.text


async def test_database_restored_from_yesterday_adopts_what_the_bucket_has(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    await publishing.publish(300)
    publishing.add(4)
    publishing.back_up()
    await publishing.publish(700)
    lost = publishing.size()
    receipt = await publishing.require_published()
    publishing.restore()
    publishing.add(10)
    assert await publishing.adoption.find_differences() == {publishing.origin: 301}
    assert publishing.lost() == 0

    await publishing.publish()
    assert await publishing.adoption.find_differences() == {}

    # The four events that the backup had in the queue are those of four adopted leaves.
    assert publishing.size() > lost
    assert publishing.lost() == 700
    assert publishing.adoptions() == [700]
    assert "700 of them without an event" in caplog.text
    await publishing.publish(1)
    await publishing.require_healthy()
    newest = await publishing.require_published()
    assert receipt.size < newest.size


@pytest.mark.parametrize("local", [1, 20, 400])
async def test_leaves_that_a_restored_database_sealed_itself_give_way_to_the_bucket(
    publishing: Publishing, local: int
) -> None:
    await publishing.publish(300)
    publishing.back_up()
    await publishing.publish(30)
    in_bucket = publishing.size()
    publishing.restore()
    publishing.storage.down = UpstreamFailed("storage_unreachable")
    await publishing.seal(local)
    assert publishing.rows("select from audit.unsealed") == []
    publishing.storage.down = None

    publishing.make_due()
    await publishing.publisher.run()
    await publishing.publish(1)

    assert publishing.lost() == 30
    assert publishing.size() > in_bucket + local
    await publishing.publish(1)
    await publishing.require_healthy()


async def test_tiles_of_a_publication_that_died_before_its_checkpoint_are_adopted(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publishing.publish(300)
    publishing.back_up()
    await publishing.seal(10)
    publishing.make_due()
    monkeypatch.setattr(publishing.server, "add_checkpoint", _die)
    with pytest.raises(AssertionError):
        await publishing.publisher.run()
    monkeypatch.undo()
    assert any(key == f"tile/0/001.p/{publishing.size() % 256}" for key in await publishing.objects())
    publishing.restore()

    await publishing.publish(3)

    assert publishing.lost() == 10
    await publishing.publish(1)
    await publishing.require_healthy()


def _die(_: bytes) -> bytes:
    raise AssertionError("the process dies")


async def test_database_older_than_its_log_adopts_the_whole_log(publishing: Publishing) -> None:
    publishing.back_up()
    await publishing.publish(20)
    publishing.restore()
    await publishing.publish(3)
    assert publishing.lost() >= 20
    await publishing.publish(1)
    await publishing.require_healthy()


async def test_many_leaves_are_adopted_in_several_transactions(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.audit.publishing.adoption.ADOPTED_AT_ONCE", 1)
    await publishing.publish(100)
    publishing.back_up()
    await publishing.publish(900)
    publishing.restore()
    publishing.storage.down = UpstreamFailed("storage_unreachable")
    await publishing.seal(50)
    publishing.storage.down = None
    await publishing.publish()
    assert len(publishing.adoptions()) == 4
    assert publishing.lost() == 900
    await publishing.publish(1)
    await publishing.require_healthy()


async def test_adopted_log_survives_a_death_between_its_transactions(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.audit.publishing.adoption.ADOPTED_AT_ONCE", 1)
    await publishing.publish(100)
    publishing.back_up()
    await publishing.publish(600)
    for number in range(1, 12):
        publishing.restore()
        publishing.storage.calls, publishing.storage.fails_at = 0, number
        with suppress(UpstreamFailed):
            await publishing.adoption.run()
        publishing.storage.fails_at = None
        publishing.restart()
        await publishing.adoption.run()
        assert publishing.lost() == 600
    await publishing.publish(1)
    await publishing.require_healthy()


async def test_leaf_changed_between_seal_and_publication_is_not_published(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    size = await publishing.publish(3)
    await publishing.seal(3)
    publishing.tamper(
        "update audit.leaves set leaf_hash = sha256('forged') where index = (select max(index) from audit.leaves)"
    )
    publishing.make_due()
    with pytest.raises(Conflict, match="audit_log_differs"):
        await publishing.publisher.run()
    assert publishing.published() == size
    assert "its leaves are not those of its checkpoint" in caplog.text


async def test_published_size_that_was_forged_does_not_stop_the_publication(publishing: Publishing) -> None:
    await publishing.publish(3)
    publishing.rows("update audit.published_logs set size = 1000000000")
    await publishing.publish(3)
    await publishing.require_healthy()


async def test_foreign_object_in_the_bucket_stops_one_size_and_not_the_next(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    await publishing.publish(3)
    await publishing.seal(3)
    size = publishing.size()
    await publishing.storage.put_new(
        f"audit/{publishing.origin}/checkpoints/{size}", b"planted", "text/plain"
    )
    publishing.make_due()
    with pytest.raises(Conflict, match="audit_log_differs"):
        await publishing.publisher.run()
    assert "the bucket has another checkpoint" in caplog.text
    assert await publishing.publish(1) == size + 1


@pytest.mark.parametrize("path", ["tile/0/001.p/255", "tile/0/001", "tile/0/001.p/3"])
async def test_foreign_tile_never_replaces_leaves_that_a_checkpoint_covers(
    publishing: Publishing, path: str
) -> None:
    """Somebody with the worker's key to the bucket can add a wider tile, and cannot change the older one."""
    await publishing.publish(300)
    published = publishing.size()
    before = [
        row["leaf_hash"] for row in publishing.rows("select leaf_hash from audit.leaves order by index")
    ]
    tile = TileId.parse(path)
    foreign = b"".join(sha256(bytes([place])).digest() for place in range(tile.width))
    assert await publishing.storage.put_new(f"audit/{publishing.origin}/{path}", foreign, "text/plain")
    for _ in range(3):
        publishing.add(1)
        publishing.make_due()
        with suppress(Conflict):
            await publishing.publisher.run()
        await publishing.sealer.run()
    after = [row["leaf_hash"] for row in publishing.rows("select leaf_hash from audit.leaves order by index")]
    assert after[:published] == before[:published]
    await publishing.publish(300)
    assert (publishing.lost(), publishing.published()) == (0, publishing.size())
    note = SignedNote.parse(await publishing.latest())
    assert Checkpoint.parse(note.text).size == publishing.size()
    assert any(one.is_by(COSIGNER.verifier_key) for one in note.signatures)  # it saw no other tree


async def test_restored_database_adopts_no_foreign_tile(publishing: Publishing) -> None:
    await publishing.publish(300)
    publishing.back_up()
    await publishing.publish(30)
    foreign = sha256(b"foreign").digest() * 255
    key = f"audit/{publishing.origin}/tile/0/001.p/255"
    assert await publishing.storage.put_new(key, foreign, "text/plain")
    publishing.restore()
    await publishing.publish(3)
    assert publishing.lost() == 30
    note = SignedNote.parse(await publishing.latest())
    assert any(one.is_by(COSIGNER.verifier_key) for one in note.signatures)


async def test_witness_that_is_down_does_not_stop_the_publication(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publishing.server, "add_checkpoint", _fail)
    size = await publishing.publish(3)
    note = SignedNote.parse(await publishing.latest())
    assert [one.name for one in note.signatures] == [publishing.origin]
    assert "did not cosign" in caplog.text

    monkeypatch.undo()
    assert await publishing.publish(3) == size + 3
    assert COSIGNER.verifier_key.name in {
        one.name for one in SignedNote.parse(await publishing.latest()).signatures
    }


def _fail(_: bytes) -> bytes:
    raise httpx.ConnectError("down")


async def test_witness_that_is_behind_gets_the_proof_that_it_needs(publishing: Publishing) -> None:
    await publishing.publish(300)
    behind = publishing.server.record.notes[publishing.origin]
    await publishing.publish(300)
    publishing.server.record.notes[publishing.origin] = behind
    await publishing.publish(300)
    newest = publishing.server.record.newest(publishing.origin)
    assert newest is not None
    assert newest.size == publishing.size()
    publishing.server.record.notes.clear()
    await publishing.publish(1)
    assert publishing.server.record.newest(publishing.origin) is not None


async def test_witness_that_is_ahead_is_reported_and_cosigns_again_later(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    await publishing.publish(300)
    before = publishing.server.record.notes[publishing.origin]
    await publishing.publish(10)
    ahead = publishing.server.record.notes[publishing.origin]
    publishing.server.record.notes[publishing.origin] = before.replace(b"\n3", b"\n9", 1)
    size = await publishing.publish(10)
    assert publishing.published() == size
    assert "it cosigned a larger log" in caplog.text
    publishing.server.record.notes[publishing.origin] = ahead
    await publishing.publish(10)
    newest = publishing.server.record.newest(publishing.origin)
    assert newest is not None
    assert newest.size == publishing.size()


async def test_witness_that_saw_another_log_is_an_error(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    await publishing.publish(10)
    keys = publishing.keys(publishing.year)
    other = Checkpoint(publishing.origin, 5, bytes(32))
    note = SignedNote(other.format(), (keys.signer.sign(other.format()),))
    publishing.server.record.notes[publishing.origin] = note.format()
    await publishing.publish(10)
    alert = ("AUDIT_WITNESS_DIFFERS", f"{publishing.year}:{COSIGNER.verifier_key.name}")
    assert open_alerts(publishing.database) == [alert]
    await publishing.publish(10)
    assert sum("witness_inconsistent" in one.getMessage() for one in caplog.records) == 1
    assert open_alerts(publishing.database) == [alert]
    publishing.server.record.notes.clear()
    await publishing.publish(10)
    assert open_alerts(publishing.database) == []


async def test_second_bucket_gets_the_same(publishing: Publishing) -> None:
    await publishing.publish(300)
    await publishing.second_bucket.run()
    await publishing.publish(40)
    await publishing.second_bucket.run()
    assert await publishing.objects(publishing.second) == await publishing.objects()
    assert await publishing.latest(publishing.second) == await publishing.latest()


async def test_outage_of_the_second_bucket_delays_nothing_and_loses_no_checkpoint(
    publishing: Publishing,
) -> None:
    publishing.second.down = UpstreamFailed("storage_unreachable")
    for _ in range(3):
        await publishing.publish(100)
        with pytest.raises(UpstreamFailed):
            await publishing.second_bucket.run()
    await publishing.require_healthy()
    publishing.second.down = None
    publishing.restart()
    await publishing.second_bucket.run()
    assert await publishing.objects(publishing.second) == await publishing.objects()


async def test_death_at_every_call_to_the_second_bucket_is_made_up_for(publishing: Publishing) -> None:
    number = 0
    while True:
        number += 1
        await publishing.publish(100)
        publishing.second.calls, publishing.second.fails_at = 0, number
        try:
            await publishing.second_bucket.run()
        except UpstreamFailed:
            publishing.second.fails_at = None
            publishing.restart()
            await publishing.second_bucket.run()
            assert await publishing.objects(publishing.second) == await publishing.objects()
            continue
        break
    assert number > 5


async def test_second_bucket_that_was_changed_is_reported_and_gets_the_rest(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    await publishing.publish(300)
    size = publishing.size()
    await publishing.second.put_new(f"audit/{publishing.origin}/tile/0/000", b"other", "text/plain")
    await publishing.second_bucket.run()
    assert "the second bucket differs" in caplog.text
    assert f"checkpoints/{size}" in await publishing.objects(publishing.second)


async def test_second_bucket_of_another_deployment_is_refused(publishing: Publishing) -> None:
    await publishing.second.claim("another-practice")
    await publishing.publish(3)
    with pytest.raises(Conflict, match="storage_of_another_deployment"):
        await publishing.second_bucket.run()


async def test_check_names_a_log_that_is_not_published_and_a_second_bucket_that_is_behind(
    publishing: Publishing,
) -> None:
    async def check(**changes: Any) -> None:
        given = {"publish_seconds": 60, "has_second": True, "witnesses": [COSIGNER.verifier_key]}
        await require_published(publishing.pool, **{**given, **changes})

    await publishing.seal(3)
    await check()
    publishing.tamper("update audit.leaves set recorded_at = recorded_at - interval '1 hour'")
    with pytest.raises(Conflict, match="audit_log_unpublished"):
        await check()
    await publishing.publish()
    await check()
    publishing.tamper("update audit.publications set published_at = published_at - interval '1 hour'")
    with pytest.raises(Conflict, match="audit_log_second_bucket_behind"):
        await check()
    await check(has_second=False)
    await publishing.second_bucket.run()
    await check()
    other = Ed25519Cosigner.from_seed("witness.example/other", bytes(32)).verifier_key
    with pytest.raises(Conflict, match="audit_log_not_cosigned"):
        await check(witnesses=[COSIGNER.verifier_key, other])


async def test_two_publishers_at_once_publish_one_log(publishing: Publishing) -> None:
    await publishing.publish(300)
    await publishing.seal(300)
    publishing.make_due()
    first = publishing.publisher
    publishing.restart()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        tasks.start_soon(publishing.publisher.run)
    await publishing.require_healthy()


async def test_stated_number_of_locked_objects_is_not_exceeded(publishing: Publishing) -> None:
    publications = 12
    for _ in range(publications):
        await publishing.publish(100)
    objects = await publishing.objects()
    assert len(objects) <= count_objects_in_a_year(publications, publishing.size())
