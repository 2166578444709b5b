"""Compares how long the first pages of lists take for a doctor who has 60,000 recordings and for a doctor who has
50.

`make bench-lists` runs this benchmark (docs/benchmarks.md). The benchmark runs the service's statement for each
page as a prepared statement, in the person's role and under row level security. The pages of the two doctors
alternate. A compliance officer sees all rows of a practice, so the benchmark compares the officer's pages in a
large practice with those in a small practice.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tests.databases import shared_cluster
from tests.large_practice import SMALL, fill
from tests.list_reads import CASES, Case, Reader, readers, statement
from tests.policies.actors import begin_as, claims_of

out = Console(highlight=False, soft_wrap=True)
WARM_UP = 6
"""How many runs come first. Postgres may choose a generic plan from the sixth run on."""


def main() -> int:
    """Print, for each page, the median times of the two readers and the ratio of these medians. Return 1 as exit
    code if the ratio of a page is above its target.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="resguardo-lists-") as home,
        shared_cluster(Path(home) / "cluster") as cluster,
        cluster.clone("newer") as large,
        cluster.clone("newer") as small,
    ):
        fill(large.superuser_url, given.recordings)
        fill(small.superuser_url, SMALL, others=0)
        out.print(f"{'page':44}{'many ms':>9}{'few ms':>9}{'ratio':>7}{'target':>8}")
        with readers(large, small) as readers_of:
            missed = [case.name for case in CASES if not _holds(case, *readers_of(case), given.runs)]
    out.print("MISSED: " + "; ".join(missed) if missed else "held")
    return 1 if missed else 0


def _holds(case: Case, many: Reader, few: Reader, runs: int) -> bool:
    pages = (_runs(case, many), _runs(case, few))
    times = [[next(page) for page in pages] for _ in range(WARM_UP + runs)][WARM_UP:]
    of_many = statistics.median(of_many for of_many, _ in times)
    of_few = statistics.median(of_few for _, of_few in times)
    ratio = of_many / of_few
    out.print(f"{case.name:44}{of_many:9.2f}{of_few:9.2f}{ratio:7.2f}{case.most:8.1f}")
    return ratio <= case.most


def _runs(case: Case, reader: Reader) -> Iterator[float]:
    """Yield the milliseconds of planning and execution of each run."""
    page = statement(case, reader.facts)
    name = f"page_{reader.user.replace(' ', '_')}"
    is_prepared = False
    while True:
        with reader.connection.transaction(force_rollback=True):
            begin_as(reader.connection, claims_of(reader.user))
            if not is_prepared:
                page.prepare(reader.connection, name)
                is_prepared = True
            plan = page.explain(reader.connection, name)
        yield plan["Planning Time"] + plan["Execution Time"]


if __name__ == "__main__":
    sys.exit(main())
