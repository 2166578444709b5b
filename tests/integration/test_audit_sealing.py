"""Tests of the sealer of the audit log on a real Postgres: every event gets one leaf, the tree and the checkpoint are
those of RFC 6962 and C2SP, and neither a second sealer nor a death at any commit leaves an event behind.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, LiteralString
from uuid import UUID

import anyio
import psycopg
import pytest
from psycopg.rows import dict_row

from app.audit.sealing.model import BATCH, LogKeys, compute_leaf
from app.audit.sealing.sealer import LogCounts, Sealer
from app.deployment import mark_database
from app.errors import AppError, UpstreamFailed
from app.postgres.database import Database as Pool
from app.postgres.database import Transaction, required_lease
from app.transparency_log.checkpoints import Checkpoint, Ed25519Signer, verify_note
from app.transparency_log.merkle import leaf_hash, tree_root
from app.transparency_log.notes import SignedNote, VerifierKey
from tests.alerts import evaluated_alerts
from tests.databases import Database
from tests.policies.acting import refused

pytestmark = pytest.mark.anyio

SEED, OTHER_SEED = bytes(range(32)), bytes(range(32, 64))
DEPLOYMENT = "test-practice"
INSERT: LiteralString = (
    "insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis, policy_version)"
    " select %s::timestamptz + n * interval '1 millisecond', 'resguardo_api', 'viewer.read', 'R', 'ALLOWED',"
    " 'TREATMENT', 'check', '1' from generate_series(1, %s) as n returning id"
)


@dataclass
class Sealing:
    """A database with a sealer, and the superuser's view of the log."""

    database: Database
    pool: Pool
    now: float = 0.0
    reconciled: int = 0
    failure: AppError | None = None
    sealer: Sealer = field(init=False)

    def __post_init__(self) -> None:
        self.sealer = self.another()

    def another(self, seed: bytes = SEED, former: tuple[VerifierKey, ...] = (), **options: Any) -> Sealer:
        return Sealer(self.pool, seed, former, deployment=DEPLOYMENT, clock=lambda: self.now, **options)

    async def reconcile(self) -> bool:
        self.reconciled += 1
        if self.failure is not None:
            raise self.failure
        return False

    @property
    def year(self) -> int:
        return datetime.now(UTC).year

    def rows(self, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.superuser_url, row_factory=dict_row) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def tamper(self, *statements: LiteralString) -> None:
        """Run statements as the superuser, without the triggers that guard the log."""
        with psycopg.connect(self.database.superuser_url) as connection:
            for table in ("events", f"events_{self.year}", "unsealed", "leaves", "tile_hashes", "logs"):
                connection.execute(f"alter table audit.{table} disable trigger user".encode())
            for statement in statements:
                connection.execute(statement)
            for table in ("events", f"events_{self.year}", "unsealed", "leaves", "tile_hashes", "logs"):
                connection.execute(f"alter table audit.{table} enable trigger user".encode())

    def add(self, count: int, at: datetime | None = None) -> list[UUID]:
        found = self.rows(INSERT, at or datetime.now(UTC), count)
        return [row["id"] for row in found]

    def log(self, year: int | None = None) -> dict[str, Any]:
        return self.rows("select * from audit.logs where log_year = %s", year or self.year)[0]

    def leaves(self, year: int | None = None) -> list[dict[str, Any]]:
        return self.rows("select * from audit.leaves where log_year = %s order by index", year or self.year)

    def unsealed(self) -> int:
        return int(self.rows("select count(*) as n from audit.unsealed")[0]["n"])

    def actions(self) -> list[dict[str, Any]]:
        return self.rows(
            "select action, row_count, digest from audit.events where action like 'audit_log.%%'"
            " order by recorded_at, id"
        )

    def require_consistent(self, year: int | None = None, seed: bytes = SEED) -> Checkpoint:
        """Recompute the whole log from the events, and return its verified checkpoint."""
        leaves, stored = self.leaves(year), self.log(year)
        events = {row["id"]: row for row in self.rows("select * from audit.events")}
        assert [leaf["index"] for leaf in leaves] == list(range(stored["size"]))
        hashes = [compute_leaf(events[leaf["event_id"]]).leaf_hash for leaf in leaves]
        assert [leaf["leaf_hash"] for leaf in leaves] == hashes
        assert [leaf_hash(leaf["entry"]) for leaf in leaves] == hashes
        keys = LogKeys.derive(seed, (), deployment=DEPLOYMENT, year=year or self.year)
        checkpoint = keys.read_checkpoint(stored["checkpoint"].encode())
        assert checkpoint == Checkpoint(stored["origin"], len(leaves), tree_root(hashes))
        tiles = self.rows(
            "select level, index, hash from audit.tile_hashes where log_year = %s order by level, index",
            year or self.year,
        )
        assert [tuple(tile.values()) for tile in tiles] == [
            (level, index, tree_root(hashes[index * 256**level : (index + 1) * 256**level]))
            for level in range(1, 4)
            for index in range(len(hashes) // 256**level)
        ]
        return checkpoint


@pytest.fixture
async def sealing(database: Database) -> AsyncIterator[Sealing]:
    mark_database(database.owner_url, DEPLOYMENT)
    pool = Pool(database.worker_url, application="test-sealer", max_size=4)
    await pool.open()
    yield Sealing(database, pool)
    await pool.close()


async def test_every_event_gets_one_leaf_and_a_signed_checkpoint(sealing: Sealing) -> None:
    sealing.add(3)
    await sealing.sealer.run()
    await sealing.sealer.run()
    checkpoint = sealing.require_consistent()
    assert checkpoint.origin == f"resguardo/{DEPLOYMENT}/{sealing.year}"
    assert (sealing.unsealed(), checkpoint.size) == (0, 4)
    assert [leaf["recorded_at"] for leaf in sealing.leaves()] == sorted(
        leaf["recorded_at"] for leaf in sealing.leaves()
    )


async def test_checkpoint_verifies_with_the_key_of_its_log_and_no_other(sealing: Sealing) -> None:
    sealing.add(1)
    await sealing.sealer.run()
    note = SignedNote.parse(sealing.log()["checkpoint"].encode())
    key = VerifierKey.parse(sealing.log()["signer"])
    assert key == Ed25519Signer.from_seed(f"resguardo/{DEPLOYMENT}/{sealing.year}", SEED).verifier_key
    assert len(verify_note(note, [key])) == 1
    assert (
        Ed25519Signer.from_seed(f"resguardo/{DEPLOYMENT}/2046", SEED).verifier_key.public_key
        != key.public_key
    )


async def test_more_events_than_one_batch_are_sealed_in_one_run(sealing: Sealing) -> None:
    sealing.add(2 * BATCH + 300)
    await sealing.sealer.run()
    assert sealing.unsealed() == 1  # the mark of this hour
    assert sealing.require_consistent().size == 2 * BATCH + 300


async def test_log_grows_over_many_runs_to_the_same_tree(sealing: Sealing) -> None:
    for count in (1, 254, 2, 255, 513):
        sealing.add(count)
        await sealing.sealer.run()
    sealing.require_consistent()


async def test_events_of_each_year_are_sealed_in_the_log_of_their_year(sealing: Sealing) -> None:
    sealing.add(2, datetime(2027, 12, 31, 23, 59, 59, 998_500, UTC))
    await sealing.sealer.run()
    assert {year: sealing.log(year)["size"] for year in (2027, 2028)} == {2027: 1, 2028: 1}
    sealing.require_consistent(2027)
    sealing.require_consistent(2028)


async def test_two_sealers_seal_each_event_once(sealing: Sealing) -> None:
    sealing.add(3000)
    others = [sealing.another() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for sealer in (sealing.sealer, *others):
            tasks.start_soon(sealer.run)
    await sealing.sealer.run()
    assert sealing.unsealed() == 0
    sealing.require_consistent()


async def test_sealer_without_the_lease_seals_nothing(sealing: Sealing) -> None:
    sealing.add(1)
    token = required_lease.set(7)
    try:
        with pytest.raises(AppError, match="lead_lost"):
            await sealing.sealer.run()
    finally:
        required_lease.reset(token)  # The tests after this one may run in the same context
    assert sealing.unsealed() == 1


class Death(BaseException):
    """Stands for the end of the process."""


def _die_at(pool: Pool, monkeypatch: pytest.MonkeyPatch, boundary: int, *, before: bool) -> None:
    """Make the process die at a transaction: before its commit, or directly after it."""
    real, count = pool.as_service, 0

    @asynccontextmanager
    async def as_service(reason: LiteralString) -> AsyncIterator[Transaction]:
        nonlocal count
        count += 1
        mine = count
        async with real(reason) as tx:
            yield tx
            if before and mine == boundary:
                raise Death
        if not before and mine == boundary:
            raise Death

    monkeypatch.setattr(pool, "as_service", as_service)


@pytest.mark.parametrize("before", [True, False])
async def test_death_at_every_commit_leaves_no_event_behind(
    sealing: Sealing, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    boundary, deaths = 1, 0
    while True:
        ids = sealing.add(BATCH + 1)
        with monkeypatch.context() as patch:
            _die_at(sealing.pool, patch, boundary, before=before)
            try:
                await sealing.another().run()
            except Death:
                deaths += 1
            else:
                break
        await sealing.another().run()
        assert set(ids) <= {leaf["event_id"] for leaf in sealing.leaves()}
        boundary += 1
    assert deaths >= 8
    await sealing.another().run()
    sealing.require_consistent()
    assert sealing.unsealed() == 0


async def test_each_hour_is_marked_once(sealing: Sealing, at: Callable[[datetime], None]) -> None:
    noon = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    at(noon)
    await sealing.sealer.run()
    await sealing.sealer.run()
    at(noon + timedelta(minutes=59))
    sealing.add(5)
    await sealing.sealer.run()
    at(noon + timedelta(minutes=60))
    await sealing.sealer.run()
    marks = [row["row_count"] for row in sealing.actions() if row["action"] == "audit_log.mark_hour"]
    assert marks == [0, 6]
    await sealing.sealer.run()
    sealing.require_consistent()


@pytest.fixture
def at(sealing: Sealing) -> Callable[[datetime], None]:
    """Set the time that the sealing functions take for the database's clock."""

    def set_time(now: datetime) -> None:
        sealing.rows(
            "create or replace function private.now() returns timestamptz language plpgsql volatile"
            f" set search_path = pg_catalog, pg_temp as $$ begin return '{now.isoformat()}'; end $$"
        )

    return set_time


async def test_year_is_closed_in_the_log_of_the_new_year(
    sealing: Sealing, at: Callable[[datetime], None]
) -> None:
    sealing.rows(
        "create table audit.events_2025 partition of audit.events for values from ('2025-01-01Z') to ('2026-01-01Z')"
    )
    sealing.add(5, datetime(2025, 6, 1, tzinfo=UTC))
    at(datetime(2026, 1, 1, 0, 59, tzinfo=UTC))
    await sealing.sealer.run()
    assert sealing.log(2025)["closed_at"] is None
    at(datetime.now(UTC))
    await sealing.sealer.run()
    await sealing.sealer.run()
    body = SignedNote.parse(sealing.log(2025)["checkpoint"].encode()).text
    closings = [row for row in sealing.actions() if row["action"] == "audit_log.close_year"]
    assert closings == [
        {"action": "audit_log.close_year", "row_count": 5, "digest": sha256(body).hexdigest()}
    ]
    sealing.add(1, datetime(2025, 12, 31, tzinfo=UTC))
    await sealing.sealer.run()
    await sealing.sealer.run()
    sealing.require_consistent(2025)
    assert [row["row_count"] for row in sealing.actions() if row["action"] == "audit_log.close_year"] == [
        5,
        6,
    ]
    assert sealing.unsealed() == 0


async def test_leap_of_the_clock_is_noted_once(
    sealing: Sealing, at: Callable[[datetime], None], caplog: pytest.LogCaptureFixture
) -> None:
    real = datetime.now(UTC)
    at(real + timedelta(hours=2))
    sealing.add(3, real + timedelta(hours=2))
    await sealing.sealer.run()
    assert "audit_log.note_clock" not in {row["action"] for row in sealing.actions()}
    at(real)
    for _ in range(3):
        await sealing.sealer.run()
    notes = [row["row_count"] for row in sealing.actions() if row["action"] == "audit_log.note_clock"]
    assert len(notes) == 1
    assert abs(notes[0] - 7200) <= 1
    assert "clock went back" in caplog.text
    sealing.require_consistent()


async def test_row_without_its_event_does_not_stop_the_sealing(sealing: Sealing) -> None:
    old = datetime.now(UTC) - timedelta(minutes=2)
    (gone,) = sealing.add(1, old)
    sealing.tamper("delete from audit.events")
    sealing.add(2)
    await sealing.sealer.run()
    assert sealing.require_consistent().size == 2
    for _ in range(2):
        assert await evaluated_alerts(sealing.database, sealing.pool) == [("AUDIT_LOG_UNSEALED", "")]
    (row,) = sealing.rows("select entity_ids, entity_count from resguardo.alerts")
    assert (row["entity_ids"], row["entity_count"]) == ([gone], 1)


async def test_event_of_an_unknown_canonical_version_is_reported_and_left(
    sealing: Sealing, caplog: pytest.LogCaptureFixture
) -> None:
    (odd,) = sealing.add(1)
    sealing.tamper("update audit.events set canonical_version = 9")
    sealing.add(1)
    await sealing.sealer.run()
    assert odd not in {leaf["event_id"] for leaf in sealing.leaves()}
    assert f"no canonical form: {odd}" in caplog.text
    sealing.require_consistent()


@pytest.mark.parametrize("entities", ["1" * 5000, "[" * 5000 + "]" * 5000])
async def test_event_with_json_that_python_refuses_is_reported_and_left(
    sealing: Sealing, caplog: pytest.LogCaptureFixture, entities: str
) -> None:
    """A superuser can write any JSON. One such event must not stop the sealing of the others."""
    (row,) = sealing.rows(
        "insert into audit.events (actor_role, action, operation, outcome, purpose, basis, entities, policy_version)"
        " values ('resguardo_api', 'viewer.read', 'R', 'ALLOWED', 'TREATMENT', 'check', %s::jsonb, '1') returning id",
        entities,
    )
    others = sealing.add(3)
    await sealing.sealer.run()
    assert f"no canonical form: {row['id']}" in caplog.text
    sealed = {leaf["event_id"] for leaf in sealing.leaves()}
    assert row["id"] not in sealed
    assert sealed.issuperset(others)


@pytest.mark.parametrize(
    "change",
    [
        "insert into audit.unsealed values ('infinity', gen_random_uuid()), ('-infinity', gen_random_uuid())",
        "insert into audit.unsealed values ('99999-01-01', gen_random_uuid()), ('1-01-01 BC', gen_random_uuid())",
        "insert into audit.logs (log_year, origin, last_recorded_at) values (2030, 'x', 'infinity')",
        (
            "insert into audit.logs (log_year, origin, size) values (2002, 'x', 9223372036854775807),"
            " (2003, 'x', 9223372036854775807)"
        ),
    ],
)
async def test_rows_that_make_a_step_fail_do_not_stop_the_sealing(
    sealing: Sealing, change: LiteralString
) -> None:
    sealing.rows(change)
    ids = sealing.add(3)
    await sealing.sealer.run()
    assert set(ids) <= {leaf["event_id"] for leaf in sealing.leaves()}


@pytest.mark.parametrize("time", ["infinity", "-infinity", "99999-01-01", "4000-01-01 BC"])
async def test_event_with_a_time_that_python_refuses_is_reported_and_left(
    sealing: Sealing, time: str
) -> None:
    (row,) = sealing.rows(
        "insert into audit.events (recorded_at, occurred_at, actor_role, action, operation, outcome, purpose, basis,"
        " policy_version) values (now() - interval '61 seconds', %s, 'resguardo_api', 'viewer.read', 'R', 'ALLOWED',"
        " 'TREATMENT', 'check', '1') returning id",
        time,
    )
    others = sealing.add(3)
    await sealing.sealer.run()
    assert await evaluated_alerts(sealing.database, sealing.pool) == [("AUDIT_LOG_UNSEALED", "")]
    (alert,) = sealing.rows("select entity_ids from resguardo.alerts")
    assert alert["entity_ids"] == [row["id"]]
    assert sealing.unsealed() == 2  # the event, and the mark of this hour
    assert {leaf["event_id"] for leaf in sealing.leaves()} == set(others)


async def test_event_that_is_queued_again_keeps_its_one_leaf(sealing: Sealing) -> None:
    old = datetime.now(UTC) - timedelta(minutes=2)
    sealing.add(1, old)
    await sealing.sealer.run()
    sealing.rows("insert into audit.unsealed select recorded_at, event_id from audit.leaves where index = 0")
    await sealing.sealer.run()
    await sealing.sealer.run()
    sealing.require_consistent()
    assert sealing.unsealed() == 0


@pytest.mark.parametrize(
    "change",
    [
        "update audit.logs set frontier = sha256('x') where size = 1",
        "update audit.logs set size = 2",
        "update audit.logs set checkpoint = replace(checkpoint, E'\\n1\\n', E'\\n2\\n')",
        "update audit.logs set checkpoint = null",
        "update audit.logs set size = 0, frontier = '', checkpoint = null",
    ],
)
async def test_changed_log_is_not_signed(
    sealing: Sealing, change: LiteralString, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = sealing.add(1)
    sealer = sealing.another(reconcile=sealing.reconcile)
    await sealer.seal_year(sealing.year)
    sealing.tamper(change)
    before = sealing.log()
    sealing.add(1)
    await sealer.run()
    assert {**sealing.log(), "marked_hour": None, "marked_size": 0} == {
        **before,
        "marked_hour": None,
        "marked_size": 0,
    }
    assert f"the audit log of {sealing.year} is not sealed" in caplog.text
    asked = sealing.reconciled
    await sealer.run()
    assert sealing.reconciled == asked + 1
    assert [leaf["event_id"] for leaf in sealing.leaves()] == [first]


async def test_log_is_compared_with_the_bucket_before_the_first_seal(sealing: Sealing) -> None:
    sealer = sealing.another(reconcile=sealing.reconcile)
    sealing.failure = UpstreamFailed("storage_unreachable")
    sealing.add(1)
    await sealer.run()
    assert sealing.log()["size"] == 1  # an unreachable bucket delays nothing
    sealing.failure = None
    for _ in range(3):
        await sealer.run()
    assert sealing.reconciled == 2
    sealer.begin()
    await sealer.run()
    assert sealing.reconciled == 3


async def test_rotated_key_signs_the_next_checkpoint_and_is_recorded(sealing: Sealing) -> None:
    sealing.add(2)
    await sealing.sealer.run()
    await sealing.sealer.run()
    former = VerifierKey.parse(sealing.log()["signer"])
    rotated = sealing.another(OTHER_SEED, (former,))
    sealing.add(1)
    await rotated.run()
    await rotated.run()
    sealing.require_consistent(seed=OTHER_SEED)
    rotations = [row for row in sealing.actions() if row["action"] == "audit_log.rotate_key"]
    signer = sealing.log()["signer"]
    assert rotations == [
        {"action": "audit_log.rotate_key", "row_count": 3, "digest": sha256(signer.encode()).hexdigest()}
    ]


async def test_key_that_nobody_announced_is_refused(
    sealing: Sealing, caplog: pytest.LogCaptureFixture
) -> None:
    sealing.add(1)
    await sealing.sealer.run()
    sealing.add(1)
    await sealing.another(OTHER_SEED).run()
    assert "no known key has signed" in caplog.text
    assert sealing.log()["size"] == 1
    await sealing.sealer.run()
    sealing.require_consistent()


async def test_counts_agree_until_an_event_is_deleted(
    sealing: Sealing, caplog: pytest.LogCaptureFixture
) -> None:
    sealing.add(5)
    counts = LogCounts(sealing.pool)
    await counts.run()
    await sealing.sealer.run()
    await counts.run()
    assert "leaves" not in caplog.text
    sealing.tamper("delete from audit.events where id = (select event_id from audit.leaves where index = 0)")
    await counts.run()
    assert f"the audit log of {sealing.year} has 5 events, but 5 leaves and 1 unsealed events" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        "update audit.leaves set leaf_hash = sha256('x')",
        "delete from audit.leaves",
        "truncate audit.leaves",
        "update audit.tile_hashes set hash = sha256('x')",
        "delete from audit.tile_hashes",
        "truncate audit.tile_hashes",
        "delete from audit.logs",
        "truncate audit.logs",
        "update audit.unsealed set recorded_at = now()",
        "delete from audit.unsealed",
        "truncate audit.unsealed",
    ],
)
async def test_sealed_rows_cannot_be_changed_even_in_replica_mode(
    sealing: Sealing, change: LiteralString
) -> None:
    sealing.add(256)
    await sealing.sealer.run()
    for mode in ("origin", "replica"):
        with psycopg.connect(sealing.database.superuser_url) as connection:
            connection.execute(f"set session_replication_role = {mode}".encode())
            with refused("RG405"):
                connection.execute(change)
            connection.rollback()
