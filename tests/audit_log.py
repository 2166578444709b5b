"""Makes a sealed audit log for tests: events, leaves, signed checkpoints, and a folder of published objects."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from app.audit.sealing.sealer import Sealer
from app.audit.verification.checkpoints import compose_origin, make_policy
from app.audit.verification.model import Report
from app.audit.verification.published import Published, PublishedFolder
from app.audit.verification.service import VerificationOrder, verify
from app.audit.verification.store import SealedRows
from app.bucket.object_keys import compose_checkpoint_key, compose_latest_checkpoint_key, compose_tile_key
from app.deployment import mark_database
from app.postgres.database import Database as Pool
from app.transparency_log.checkpoints import Ed25519Signer
from app.transparency_log.events import compute_entry, format_canonical_event
from app.transparency_log.merkle import Frontier, leaf_hash
from app.transparency_log.policies import Policy
from app.transparency_log.tiles import ENTRY_LEVEL, format_entry_bundle, tiles_of_tree
from tests.databases import Database

SEED = b"the seed of a log that is a test"
DEPLOYMENT = "practice"
INSERT = """
insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis, actor_id, policy_version)
select
    coalesce(%(at)s::timestamptz, clock_timestamp()), 'resguardo_api', 'request.reject', 'E', 'DENIED', 'OPERATIONS',
    'count_rejections', gen_random_uuid(), 'test'
from generate_series(1, %(count)s)
returning id
"""

SEALED = """
select e.* from audit.leaves as l inner join audit.events as e on e.id = l.event_id
where l.log_year = %s order by l.index
"""


@asynccontextmanager
async def open_log(database: Database, folder: Path) -> AsyncIterator["AuditLog"]:
    """Yield an empty audit log of the current year, whose published objects are in the folder."""
    mark_database(database.owner_url, DEPLOYMENT)
    pool = Pool(database.worker_url, application="test")
    try:
        yield AuditLog(database, pool, folder, datetime.now(UTC).year)
    finally:
        await pool.close()


@dataclass
class AuditLog:
    """A database with a sealed audit log, and the folder with its published objects."""

    database: Database
    pool: Pool
    folder: Path
    year: int
    seed: bytes = field(default=SEED, repr=False)

    @property
    def origin(self) -> str:
        return compose_origin(DEPLOYMENT, self.year)

    @property
    def policy(self) -> Policy:
        return make_policy(DEPLOYMENT, range(self.year - 1, self.year + 2), SEED, (), ())

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Run a statement as a superuser who has turned the guards off. New events are still queued."""
        with psycopg.connect(self.database.superuser_url) as connection:
            for table, trigger in self._guards():
                connection.execute(f"alter table audit.{table} disable trigger {trigger}".encode())
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def _guards(self) -> list[tuple[str, str]]:
        names = ("leaves", "tile_hashes", "unsealed")
        return [
            *((name, f"{name}_{kind}") for name in names for kind in ("refuse_change", "guard")),
            (f"events_{self.year}", "events_refuse_change"),
            ("logs", "logs_refuse_delete"),
        ]

    def insert(self, count: int, at: object = None) -> list[UUID]:
        """Insert events, and return their ids."""
        with psycopg.connect(self.database.superuser_url) as connection:
            rows = connection.execute(INSERT.encode(), {"count": count, "at": at}).fetchall()
        return [row[0] for row in rows]

    async def seal(self, seed: bytes = SEED) -> None:
        """Seal all unsealed events."""
        sealer = Sealer(self.pool, seed, deployment=DEPLOYMENT, clock=lambda: 0.0)
        await sealer.run()
        await sealer.run()

    def publish(self, year: int | None = None) -> int:
        """Write the tiles and the checkpoint of the log into the folder, and return its size."""
        year = year or self.year
        origin = compose_origin(DEPLOYMENT, year)
        with psycopg.connect(self.database.superuser_url, row_factory=dict_row) as connection:
            rows = connection.execute(SEALED, [year]).fetchall()
            found = connection.execute(
                "select checkpoint from audit.logs where log_year = %s", [year]
            ).fetchone()
        entries = [compute_entry(row["salt"], format_canonical_event(row)) for row in rows]
        leaves = [leaf_hash(entry) for entry in entries]
        _, completed = Frontier().extend_with_roots(leaves)
        hashes = {(one.level, one.index): one.hash for one in completed}
        for tile in tiles_of_tree(len(leaves)):
            first, end = tile.index * 256, tile.index * 256 + tile.width
            content = {
                ENTRY_LEVEL: lambda first=first, end=end: format_entry_bundle(entries[first:end]),
                0: lambda first=first, end=end: b"".join(leaves[first:end]),
            }.get(
                tile.level,
                lambda first=first, end=end, level=tile.level: b"".join(
                    hashes[level, index] for index in range(first, end)
                ),
            )()
            self._write(compose_tile_key(origin, tile.path), content)
        note = str(found["checkpoint"] if found else "").encode()
        self._write(compose_checkpoint_key(origin, len(leaves)), note)
        self._write(compose_latest_checkpoint_key(origin), note)
        return len(leaves)

    def path(self, key: str) -> Path:
        """Return the file of an object key."""
        return self.folder / key

    async def verify(
        self,
        *,
        with_database: bool = True,
        published: Sequence[Published] | None = None,
        kept: Sequence[bytes] = (),
    ) -> Report:
        """Verify the database against the folder."""
        sources = [PublishedFolder(self.folder)] if published is None else published
        rows = SealedRows(self.pool) if with_database else None
        return await verify(VerificationOrder(self.policy, rows, sources, kept))

    def signer(self, seed: bytes = SEED) -> Ed25519Signer:
        """Return the key of the log."""
        return Ed25519Signer.from_seed(self.origin, seed)

    def _write(self, key: str, content: bytes) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(report: Report) -> set[str]:
    """Return the names of the findings."""
    return {finding.name.value for finding in report.findings}
