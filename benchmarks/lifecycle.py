"""Compares the destruction of due recordings with bare deletions in the same bucket: `make bench-lifecycle`
(docs/benchmarks.md).

A bare deletion is one DELETE of an object, with the same client and the same number of connections. A destruction
is the worker's whole work on a due recording: claim it if no legal hold covers it, list its objects, delete them,
verify that they are absent, destroy the data key, and add a certificate to the ledger. In each run of the
benchmark, destructions and bare deletions alternate, on one object store and one database. The benchmark compares
the memory of its process after a tenth of the work with its memory at the end.
"""

import argparse
import asyncio
import base64
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from app.certificates.signing import CertificateSigner
from app.deletions.destroyer import Destroyer
from app.deletions.ledger import Ledger
from app.deployment import mark_database
from app.integrations.storage.client import Storage
from app.postgres.database import Database
from devstack import object_store, postgres
from tests.databases import Cluster

DEPLOYMENT = "bench"
HANDS = 10
"""The number of concurrent operations, which equals the number of the storage client's connections."""

TURNS = 10
MOST_GROWTH_MEBIBYTES = 16.0

_PEOPLE = """
with person as (
    insert into resguardo.staff (user_id, role) values (gen_random_uuid(), 'clinician') returning user_id
), patient as (
    insert into resguardo.patients (external_id) values ('bench') returning id
), policy as (
    insert into resguardo.retention_policies (name, sha256, status, source, terms, shortens, activated_at)
    values (
        'bench', repeat('a', 64), 'ACTIVE', '',
        '{"grace_days": 7, "default": {"recording_days": 90, "signed_note_days": 2555}, "kinds": {}, "minors": null,
        "jurisdiction": null, "applies_to_existing": false}', false, now()
    ) returning id
), consultation as (
    insert into resguardo.consultations
    (id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name)
    select c.id, 'bench-' || c.id, person.user_id, patient.id, now(), 'follow_up', 'ORDINARY', 'bench_' || c.id
    from person, patient, (select gen_random_uuid() as id from generate_series(1, %(count)s)) as c
    returning id, doctor_id, patient_id, room_name
), recording as (
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, sha256, size_bytes,
        retention_class, due_at, retention_policy
    )
    select
        gen_random_uuid(), c.id, c.doctor_id, c.patient_id, c.doctor_id, 'READY', c.room_name,
        encode(sha256('recorded'), 'hex'), 8, 'd90', now() - interval '1 hour', policy.id
    from consultation as c, policy
    returning id, consultation_id
), secret as (
    insert into private.recording_secrets
    select r.id, 'r/d90/' || r.consultation_id || '/' || r.id || '/video.mp4' from recording as r
    returning object_key
), key as (
    insert into private.recording_keys select r.id, decode(repeat('00', 40), 'hex'), 'bench' from recording as r
)
select object_key from secret
"""


@dataclass(frozen=True)
class Ground:
    """The database, the bucket and the object keys that destructions and bare deletions use."""

    database: Database
    storage: Storage
    keys: Sequence[str]


@asynccontextmanager
async def _ground(directory: Path, recordings: int) -> AsyncIterator[Ground]:
    with (
        postgres.running(directory / "postgres") as superuser_url,
        object_store.running(directory / "store") as store,
    ):
        (directory / "meeting").mkdir()
        cluster = Cluster(superuser_url, directory / "meeting")
        with cluster.clone("newer") as made:
            mark_database(made.owner_url, DEPLOYMENT)
            with psycopg.connect(made.superuser_url) as connection:
                connection.execute("set session_replication_role = replica")  # Triggers off
                keys = [row[0] for row in connection.execute(_PEOPLE, {"count": recordings})]
            with psycopg.connect(made.superuser_url, autocommit=True) as connection:
                connection.execute("vacuum analyze")
            database = Database(made.worker_url, application="bench")
            storage = Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
            await database.open()
            await storage.claim(DEPLOYMENT)
            try:
                yield Ground(database, storage, keys)
            finally:
                await database.close()
                storage.close()


async def _by_hands(
    work: Sequence[str], one: Callable[[str], Awaitable[object]], told: Callable[[], None]
) -> None:
    left = iter(work)

    async def hand() -> None:
        for piece in left:
            await one(piece)
            told()

    await asyncio.gather(*(hand() for _ in range(HANDS)))


def _resident_mebibytes() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def _measure(directory: Path, recordings: int, bare: int, progress: Progress) -> bool:
    async with _ground(directory, recordings) as ground:
        others = [f"r/d90/bare/{number}/video.mp4" for number in range(bare)]

        async def put(key: str) -> None:
            await ground.storage.put_new(key, b"recorded", "video/mp4")

        filling = progress.add_task("filling the bucket", total=recordings + bare)
        await _by_hands([*ground.keys, *others], put, lambda: progress.advance(filling))
        return await _take_turns(ground, others, progress)


async def _take_turns(ground: Ground, others: Sequence[str], progress: Progress) -> bool:
    recordings, bare = len(ground.keys), len(others)
    signer = CertificateSigner.from_seed(base64.b64encode(secrets.token_bytes(32)).decode())
    destroyer = Destroyer(
        ground.database,
        ground.storage,
        signer,
        Ledger(ground.storage, (signer.public_key,), deployment=DEPLOYMENT),
        deployment=DEPLOYMENT,
        backup_retention_days=35,
    )
    working = progress.add_task("destroying", total=recordings)
    bare_seconds = destroyed_seconds = 0.0
    destroyed = 0
    memory: list[float] = []
    for turn in range(TURNS):
        began = time.perf_counter()
        await _by_hands(
            others[turn * bare // TURNS : (turn + 1) * bare // TURNS], ground.storage.delete, lambda: None
        )
        bare_seconds += time.perf_counter() - began
        began = time.perf_counter()
        while destroyed < (turn + 1) * recordings // TURNS:
            report = await destroyer.run_batch()
            if not report.destroyed:
                raise SystemExit(f"nothing is destroyed any more; {report.failed} failed")
            destroyed += report.destroyed
            progress.update(working, completed=destroyed)
        destroyed_seconds += time.perf_counter() - began
        memory.append(_resident_mebibytes())
    return _tell(bare / bare_seconds, destroyed / destroyed_seconds, destroyed, memory)


def _tell(bare_rate: float, rate: float, destroyed: int, memory: Sequence[float]) -> bool:
    out = Console(highlight=False)
    growth = memory[-1] - memory[0]
    out.print(f"bare deletions   {bare_rate:8.1f} a second")
    out.print(f"destructions     {rate:8.1f} a second, {destroyed} with their certificates")
    out.print(f"memory           {memory[0]:8.1f} MiB after a tenth, {memory[-1]:.1f} MiB at the end")
    is_flat = growth < MOST_GROWTH_MEBIBYTES
    out.print(
        f"bench-lifecycle: {'held' if is_flat else 'MISSED'}: ratio {rate / bare_rate:.2f},"
        f" memory grew by {growth:.1f} MiB (less than {MOST_GROWTH_MEBIBYTES:.0f})"
    )
    return is_flat


def main() -> int:
    """Run the benchmark. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--bare", type=int, default=10_000)
    given = parser.parse_args()
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        Path(directory).chmod(0o711)
        return 0 if asyncio.run(_measure(Path(directory), given.recordings, given.bare, progress)) else 1


if __name__ == "__main__":
    sys.exit(main())
