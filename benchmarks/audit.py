"""Measures a page of the audit log for each filter and for pairs of filters: `make bench-audit` (docs/benchmarks.md).

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
from benchmarks.audit_log import FILTERS, fill, pairs
from devstack import postgres
from tests.databases import Cluster

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
    database: Database, filters: Mapping[str, AuditFilter], rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds that each page of the audit log took. The first round of reads only warms up and is
    not counted.
    """
    audit = Audit(database)
    taken: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for name, wanted in filters.items():
            began = time.perf_counter()
            await audit.page(_asker(), PageRequest(FIRST, None), wanted, ())
            if turn:
                taken[name].append((time.perf_counter() - began) * 1000)
    return taken


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


def _report(reads: Mapping[str, list[float]], writes: Mapping[str, list[float]]) -> bool:
    out = Console(highlight=False, width=100)
    unfiltered = _p95(reads[UNFILTERED])
    out.print(f"{'':36}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'p95 / no filter':>17}")
    for name, taken in [*reads.items(), *writes.items()]:
        ratio = "" if name in writes else f"{_p95(taken) / unfiltered:.1f}"
        out.print(f"{name:36}{statistics.median(taken):9.1f}{_p95(taken):9.1f}{max(taken):9.1f}{ratio:>17}")
    slow = [name for name in (UNFILTERED, *FILTERS) if _p95(reads[name]) > MOST_MILLISECONDS]
    slow += [name for name, taken in writes.items() if max(taken) > MOST_WRITER_MILLISECONDS]
    out.print(f"bench-audit: {'MISSED: ' + ', '.join(slow) if slow else 'held'}")
    return not slow


def _p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[18]


async def _measure(directory: Path, events: int, rounds: int, progress: Progress) -> bool:
    (directory / "meeting").mkdir()
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
            reads = await _read(database, filters, rounds)
        finally:
            await database.close()
        writes = _write(made.superuser_url, rounds * 100)
    return _report(reads, writes)


def main() -> int:
    """Run the benchmark. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20, help="pages of each filter")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Progress(console=Console(stderr=True)) as progress:
        Path(directory).chmod(0o711)
        return 0 if asyncio.run(_measure(Path(directory), given.events, given.rounds, progress)) else 1


if __name__ == "__main__":
    sys.exit(main())
