"""Measures what sealing costs an audited read, how far the sealer is behind under load, and a receipt from a large log:
`make bench-audit` (docs/benchmarks.md).
"""

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, cast
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from app.audit.sealing.model import LogKeys
from app.audit.sealing.sealer import Sealer
from app.audit.verification.receipts import make_receipt
from app.audit.verification.rows import compute_leaf
from app.postgres.database import Database
from app.postgres.queries import Queries
from app.transparency_log.checkpoints import Checkpoint, sign_checkpoint
from app.transparency_log.merkle import Frontier

MOST_COST: Final = 0.05
MOST_LAG_SECONDS: Final = 10.0
MOST_RECEIPT_MILLISECONDS: Final = 10.0
DEPLOYMENT: Final = "benchmark"
SEED: Final = bytes(32)
SEAL_SECONDS: Final = 2
WRITES_PER_SECOND: Final = 500

_YEAR: Final = 2026
_READS: Final = 25
_WARMUP_READS: Final = 5
_POLL_SECONDS: Final = 0.05
_TRIGGER: Final = "events_queue_for_sealing"
_TABLES: Final = (
    "select 'audit.events' union all select i.inhrelid::regclass::text from pg_catalog.pg_inherits as i"
    " where i.inhparent = 'audit.events'::regclass"
)
_sql = Queries(Path(__file__).with_name("audit_sealing.sql"))


def name_deployment(superuser_url: str) -> None:
    """Name the deployment, whose name is a part of the logs' origins."""
    with psycopg.connect(superuser_url) as connection:
        connection.execute("update private.deployment set name = %s", [DEPLOYMENT])


@contextmanager
def sealing(worker_url: str) -> Iterator[None]:
    """Seal new events in a process of its own, every two seconds, as the leading worker does."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.audit_sealing"], stdin=subprocess.PIPE, text=True
    ) as child:
        stdin = cast("IO[str]", child.stdin)
        stdin.write(f"{worker_url}\n")
        stdin.flush()
        try:
            yield
        finally:
            stdin.close()  # ends the loop
            child.wait(timeout=60)


async def measure_reads(
    superuser_url: str, read: Callable[[], Awaitable[object]], rounds: int
) -> list[tuple[float, float]]:
    """Return, for each round, the median milliseconds of reads with the trigger that queues events for sealing, and
    without it. The two halves of a round follow each other, and each round changes their order, so the load of other
    programs concerns both alike. The caller runs the sealer meanwhile.
    """
    medians = []
    for turn in range(rounds):
        taken = {}
        for is_queueing in (True, False) if turn % 2 else (False, True):
            set_trigger(superuser_url, is_on=is_queueing)
            taken[is_queueing] = await _median(read)
        medians.append((taken[True], taken[False]))
    set_trigger(superuser_url, is_on=True)
    return medians


async def _median(read: Callable[[], Awaitable[object]]) -> float:
    taken = []
    for number in range(_WARMUP_READS + _READS):
        began = time.perf_counter()
        await read()
        if number >= _WARMUP_READS:
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def set_trigger(superuser_url: str, *, is_on: bool) -> None:
    """Turn the trigger that queues events for sealing on or off, in all partitions."""
    with psycopg.connect(superuser_url) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            state = "enable always" if is_on else "disable"
            connection.execute(f"alter table {table} {state} trigger {_TRIGGER}".encode())


def measure_lag(superuser_url: str, seconds: float) -> list[float]:
    """Write audit rows at a steady rate. Return, for each of them, the seconds until it had a leaf. The caller runs the
    sealer meanwhile.
    """
    lags: list[float] = []
    with (
        psycopg.connect(superuser_url, autocommit=True) as writer,
        psycopg.connect(superuser_url, autocommit=True) as watcher,
    ):
        seen, written = _last_leaf(watcher), 0
        began = polled = time.perf_counter()
        deadline = began + seconds
        while (now := time.perf_counter()) < deadline + MOST_LAG_SECONDS * 2:
            is_due = now < deadline and written < (now - began) * WRITES_PER_SECOND
            if is_due:
                writer.execute(_sql["write_read"])
                written += 1
            if now - polled >= _POLL_SECONDS:
                polled = now
                rows = watcher.execute(_sql["lags_since"], {"year": _YEAR, "after": seen}).fetchall()
                seen = max((row[0] for row in rows), default=seen)
                lags += [float(row[1]) for row in rows]
                if now >= deadline and len(lags) >= written:
                    break
            if not is_due:
                time.sleep(0.0005)
    if len(lags) < written:
        lags += [MOST_LAG_SECONDS * 2] * (written - len(lags))
    return lags


def _last_leaf(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "select coalesce(max(index), -1) from audit.leaves where log_year = %s", [_YEAR]
    ).fetchone()
    return int(row[0]) if row else -1


def fill_leaves(superuser_url: str, samples: int) -> list[UUID]:
    """Give every event a leaf in one log, and sign its checkpoint. The leaf hashes are correct for the events that the
    function returns; the others are random, because a receipt reads only their hashes.
    """
    keys = LogKeys.derive(SEED, (), deployment=DEPLOYMENT, year=_YEAR)
    with psycopg.connect(superuser_url, row_factory=dict_row) as connection:
        for table in ("audit.leaves", "audit.tile_hashes", "audit.logs", "audit.unsealed"):
            connection.execute(f"alter table {table} disable trigger all".encode())
        connection.execute("delete from audit.leaves")
        connection.execute("delete from audit.tile_hashes")
        rows = connection.execute(
            "select id, recorded_at from audit.events order by recorded_at, id"
        ).fetchall()
        chosen = {
            row["id"]
            for row in random.Random(17).sample(rows, samples)  # noqa: S311 - which events, not a secret
        }
        events = connection.execute(
            "select * from audit.events where id = any(%s)", [list(chosen)]
        ).fetchall()
        known = {row["id"]: compute_leaf(row) for row in events}
        hashes = [known.get(row["id"]) or sha256(row["id"].bytes).digest() for row in rows]
        tree, roots = Frontier().extend_with_roots(hashes)
        note = sign_checkpoint(Checkpoint(keys.origin, tree.size, tree.root), keys.signer)
        connection.execute(
            "insert into audit.logs (log_year, origin, size, frontier, checkpoint) values (%s, %s, %s, %s, %s)"
            " on conflict (log_year) do update set size = excluded.size, frontier = excluded.frontier,"
            " checkpoint = excluded.checkpoint",
            [_YEAR, keys.origin, tree.size, tree.to_bytes(), note.format().decode()],
        )
        with connection.cursor().copy(
            "copy audit.leaves (log_year, index, event_id, recorded_at, leaf_hash) from stdin"
        ) as copy:
            for index, (row, one) in enumerate(zip(rows, hashes, strict=True)):
                copy.write_row((_YEAR, index, row["id"], row["recorded_at"], one))
        with connection.cursor().copy(
            "copy audit.tile_hashes (log_year, level, index, hash) from stdin"
        ) as copy:
            for root in roots:
                copy.write_row((_YEAR, root.level, root.index, root.hash))
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("vacuum analyze audit.leaves, audit.tile_hashes")
    return sorted(chosen)


async def measure_receipts(database: Database, events: Iterable[UUID]) -> list[float]:
    """Return the milliseconds of each receipt."""
    taken = []
    for event in events:
        began = time.perf_counter()
        async with database.as_service("verify_audit_log") as tx:
            await make_receipt(tx, event)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def _seal(worker_url: str) -> None:
    database = Database(worker_url, application="bench-sealer")
    await database.open()
    sealer = Sealer(database, SEED, deployment=DEPLOYMENT, clock=time.monotonic)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    try:
        while not ended.done():
            await sealer.run()
            await asyncio.wait({ended}, timeout=SEAL_SECONDS)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(_seal(sys.stdin.readline().strip()))
