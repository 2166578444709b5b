"""Measures the audit log: `make bench-audit` (docs/benchmarks.md).

The benchmark measures a page for each filter and for pairs of filters, what sealing costs the reads, how far the sealer
is behind under load, a receipt, and the offline verification of the published log.

The reference is the time of a page without a filter, measured in the same run of the benchmark. Each read goes
through the application's service as a compliance officer, and includes the session check, the quota and the audit
row. The reads with different filters alternate. After the reads, the benchmark appends two kinds of audit rows. A
row of the first kind names one patient and one consultation. A row of the second kind names fifty of each, as a
read of the list of recordings writes it.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.progress import Progress

from app.audit.model import AuditFilter
from app.audit.service import Audit
from app.postgres.database import Asker, Database
from app.postgres.paging import PageRequest
from app.postgres.queries import Queries
from benchmarks import audit_sealing, audit_verification
from benchmarks.audit_log import FILTERS, fill, pairs
from devstack import postgres
from tests.databases import Cluster
from tests.databases import Database as TestDatabase

FIRST: Final = 50
MOST_MILLISECONDS: Final = 50.0
MOST_WRITER_MILLISECONDS: Final = 10.0
UNFILTERED: Final = "no filter"
WRITERS: Final = {"writer, 2 subjects": 1, "writer, 100 subjects": 50}
_OFFICER: Final = uuid4()
_sql = Queries(Path(__file__).with_name("audit.sql"))


def _asker() -> Asker:
    now = int(time.time())
    claims: dict[str, object] = {
        "sub": str(_OFFICER),
        "session_id": str(_OFFICER),
        "role": "authenticated",
        "aal": "aal2",
        "iat": now,
        "exp": now + 36_000,
    }
    return Asker(claims, uuid4(), None)


async def _read(
    database: Database, superuser_url: str, filters: Mapping[str, AuditFilter], rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds that each page of the audit log took. The first round of reads only warms up and is
    not counted. After each round, the audit rows of the reads are collected in blocks, as the worker does.
    """
    audit = Audit(database)
    taken: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for name, wanted in filters.items():
            began = time.perf_counter()
            await audit.page(_asker(), PageRequest(FIRST, None), wanted, ())
            if turn:
                taken[name].append((time.perf_counter() - began) * 1000)
        await asyncio.to_thread(_index, superuser_url)
    return taken


def _index(superuser_url: str) -> None:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        while connection.execute(_sql["index_events"]).fetchone() == (True,):
            pass


def _write(superuser_url: str, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each audit row that the database writes, without the commit."""
    taken: dict[str, list[float]] = defaultdict(list)
    with psycopg.connect(superuser_url) as connection:
        for _ in range(rounds):
            for name, subjects in WRITERS.items():
                patients, consultations = ([uuid4() for _ in range(subjects)] for _ in range(2))
                began = time.perf_counter()
                connection.execute(
                    _sql["write_event"], {"patients": patients, "consultations": consultations}
                )
                taken[name].append((time.perf_counter() - began) * 1000)
                connection.commit()
    return taken


def _report(out: Console, reads: Mapping[str, list[float]], writes: Mapping[str, list[float]]) -> list[str]:
    """Print the figures of the pages and writes. Return the names of those that were too slow."""
    unfiltered = _p95(reads[UNFILTERED])
    out.print(f"{'':36}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'p95 / no filter':>17}")
    for name, taken in [*reads.items(), *writes.items()]:
        ratio = "" if name in writes else f"{_p95(taken) / unfiltered:.1f}"
        out.print(f"{name:36}{statistics.median(taken):9.1f}{_p95(taken):9.1f}{max(taken):9.1f}{ratio:>17}")
    slow = [name for name in reads if _p95(reads[name]) > MOST_MILLISECONDS]
    slow += [name for name, taken in writes.items() if max(taken) > MOST_WRITER_MILLISECONDS]
    return slow


def _p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100, method="inclusive")[98]


def _p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[18]


@dataclass(frozen=True)
class _Sealing:
    """What sealing costs. `rounds` are the median milliseconds of reads with and without it, for each round."""

    rounds: list[tuple[float, float]]
    lags: list[float]
    receipts: list[float]

    @property
    def cost(self) -> float:
        """Return the share by which sealing slows a read down, in the median round."""
        return statistics.median(sealed / unsealed for sealed, unsealed in self.rounds) - 1

    def report(self, out: Console) -> list[str]:
        """Print the figures. Return the names of the missed targets."""
        lag = _p99(self.lags)
        out.print(f"sealing costs a read {self.cost:+.1%} (at most {audit_sealing.MOST_COST:.0%})")
        out.print(
            f"seal lag at {audit_sealing.WRITES_PER_SECOND} events a second: p50 {statistics.median(self.lags):.1f} s,"
            f" p99 {lag:.1f} s, max {max(self.lags):.1f} s (p99 at most {audit_sealing.MOST_LAG_SECONDS:.0f} s)"
        )
        out.print(
            f"a receipt: p50 {statistics.median(self.receipts):.1f} ms, p95 {_p95(self.receipts):.1f} ms"
            f" (p95 at most {audit_sealing.MOST_RECEIPT_MILLISECONDS:.0f} ms)"
        )
        missed = {
            "cost of sealing": self.cost > audit_sealing.MOST_COST,
            "seal lag": lag > audit_sealing.MOST_LAG_SECONDS,
            "receipt": _p95(self.receipts) > audit_sealing.MOST_RECEIPT_MILLISECONDS,
        }
        return [name for name, is_missed in missed.items() if is_missed]


async def _measure_sealing(made: TestDatabase, database: Database, rounds: int, seconds: float) -> _Sealing:
    audit_sealing.name_deployment(made.superuser_url)
    audit, page = Audit(database), PageRequest(FIRST, None)
    with audit_sealing.sealing(made.worker_url):
        reads = await audit_sealing.measure_reads(
            made.superuser_url, lambda: audit.page(_asker(), page, AuditFilter(), ()), rounds
        )
        lags = await asyncio.to_thread(audit_sealing.measure_lag, made.superuser_url, seconds)
    events = await asyncio.to_thread(audit_sealing.fill_leaves, made.superuser_url, rounds * 10)
    worker = Database(made.worker_url, application="bench-receipts")
    await worker.open()
    try:
        receipts = await audit_sealing.measure_receipts(worker, events)
    finally:
        await worker.close()
    return _Sealing(reads, lags, receipts)


def _verify(directory: Path, events: int, out: Console, progress: Progress) -> list[str]:
    """Measure the offline verification of a published log, and of an export of all its events. Return the names of the
    missed targets.
    """
    task = progress.add_task("publishing", total=events)
    log = audit_verification.publish(directory, events, lambda size: progress.update(task, completed=size))
    folder = (log.policy, "--tiles", log.folder)
    missed = []
    for name, arguments in {
        "tiles": folder,
        "tiles and export": (*folder, "--export", log.export),
    }.items():
        run = audit_verification.run_verifier(*arguments)
        out.print(
            f"offline verification of {events:,} events, {name}: {run.seconds:.1f} s of one core"
            f" ({run.wall_seconds:.1f} s), {run.megabytes:.0f} MB"
            f" (at most {audit_verification.most_seconds(events):.0f} s,"
            f" {audit_verification.MOST_MEGABYTES:.0f} MB)"
        )
        if not run.holds(events):
            missed.append(f"verification of {name}")
    return missed


async def _measure(directory: Path, events: int, rounds: int, progress: Progress) -> bool:
    out = Console(highlight=False, width=120)
    (directory / "meeting").mkdir()
    missed = _verify(directory, events, out, progress)
    with (
        postgres.running(directory / "postgres") as superuser_url,
        Cluster(superuser_url, directory / "meeting").clone("newer") as made,
    ):
        task = progress.add_task("filling", total=events)
        with psycopg.connect(made.superuser_url) as connection:
            connection.execute("update private.quotas set per_hour = 1000000000")
            connection.execute(_sql["officer"], {"officer": _OFFICER})
        await asyncio.to_thread(
            fill, made.superuser_url, events, lambda last: progress.update(task, completed=last)
        )
        database = Database(made.api_url, application="bench")
        await database.open()
        try:
            filters = {UNFILTERED: AuditFilter(), **FILTERS, **pairs()}
            reads = await _read(database, made.superuser_url, filters, rounds)
            writes = _write(made.superuser_url, rounds * 100)
            sealing = await _measure_sealing(made, database, rounds, rounds)
        finally:
            await database.close()
    missed = [*_report(out, reads, writes), *sealing.report(out), *missed]
    out.print(f"bench-audit: {'MISSED: ' + ', '.join(missed) if missed else 'held'}")
    return not missed


def parse_rows(text: str) -> int:
    """Return a number of rows, such as 5000000 or 5M."""
    units = {"K": 1000, "M": 1_000_000}
    return int(text[:-1]) * units[text[-1].upper()] if text[-1:].upper() in units else int(text)


def main() -> int:
    """Run the benchmark. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=parse_rows, default=1_000_000, help="events in the log, such as 5M")
    parser.add_argument("--rounds", type=int, default=20, help="pages of each filter")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Progress(console=Console(stderr=True)) as progress:
        Path(directory).chmod(0o711)
        return 0 if asyncio.run(_measure(Path(directory), given.rows, given.rounds, progress)) else 1


if __name__ == "__main__":
    sys.exit(main())
