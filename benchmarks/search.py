"""Compares a search in encrypted transcripts with Postgres's full-text search in clear text: `make bench-search`
(docs/benchmarks.md).

The practice has 10,000 transcripts of half an hour. The searching doctor owns a fifth of the transcripts. The
reference searches the same texts in clear in the same database, with the same filters and limit. The reference uses
tsvector, a GIN index, phrase queries, ts_rank and ts_headline. The reference runs in the product's transactions,
with their session check, quota and audit row. Resguardo's search and the reference answer the same queries, in
alternating order. The benchmark also prints the time of the reference without snippets, which is not part of the
promise.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from app.keys.keyring import Keyring
from app.postgres.database import Access, Asker, Database
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.transcripts.model import SearchFilter
from app.transcripts.search.service import TranscriptSearch
from benchmarks.search_practice import fill
from benchmarks.search_words import queries
from devstack import postgres
from tests.databases import Cluster

FIRST: Final = 20
MOST_RATIO: Final = 2.0
SHOWN: Final = Selection.of(
    "turnNumber", "snippet.text", "recording.id", "recording.consultation.scheduledAt"
)
"""What our search shows of each hit."""
OURS, PEER, UNSHOWN = "ours", "peer", "no snippets"
_sql = Queries(Path(__file__).with_name("search.sql"))

Found = frozenset[UUID]
Search = Callable[[str], Awaitable[Found]]


@dataclass(frozen=True)
class Timed:
    """The seconds that each search took for a query, and whether ours and the reference found the same recordings.
    `is_same` is None if the limit on the number of hits cut one of the two results.
    """

    kind: str
    seconds: Mapping[str, float]
    is_same: bool | None


def _asker(doctor: UUID) -> Asker:
    now = int(time.time())
    claims: dict[str, object] = {
        "sub": str(doctor),
        "session_id": str(doctor),
        "role": "authenticated",
        "aal": "aal2",
        "iat": now,
        "exp": now + 36_000,
    }
    return Asker(claims, uuid4(), None)


def _searches(database: Database, keyring: Keyring, doctor: UUID) -> dict[str, Search]:
    """Return, for each of the compared searches, a function that runs a query as this doctor."""
    transcripts = TranscriptSearch(database, keyring)

    async def ours(text: str) -> Found:
        found = await transcripts.search(_asker(doctor), text, SearchFilter(), SHOWN, first=FIRST)
        return frozenset(hit.recording_id for hit in found.hits)

    def peer(*, with_snippets: bool) -> Search:
        async def search(text: str) -> Found:
            access = Access("transcript.search", {"clinician"}, "recording")
            given = {"wanted": text, "with_snippets": with_snippets, "most": FIRST}
            async with database.as_user(_asker(doctor), access) as tx:
                rows = await tx.all(_sql["peer_search"], given)
            return frozenset(row["recording_id"] for row in rows)

        return search

    return {OURS: ours, PEER: peer(with_snippets=True), UNSHOWN: peer(with_snippets=False)}


async def _take_turns(
    searches: Mapping[str, Search], asked: Sequence[tuple[str, str]], progress: Progress
) -> list[Timed]:
    """Run each query with each of the compared searches, in rotating order. Before the measurement, each search
    runs one query that is not counted.
    """
    for search in searches.values():
        await search(asked[0][1])
    measured = []
    names = list(searches)
    for number, (kind, text) in enumerate(progress.track(asked, description="searching")):
        seconds: dict[str, float] = {}
        found: dict[str, Found] = {}
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            began = time.perf_counter()
            found[name] = await searches[name](text)
            seconds[name] = time.perf_counter() - began
        is_cut = max(len(found[OURS]), len(found[PEER])) == FIRST
        measured.append(Timed(kind, seconds, None if is_cut else found[OURS] == found[PEER]))
    return measured


def _milliseconds(measured: Sequence[Timed], name: str) -> tuple[float, float]:
    """Return the median and the 95th percentile of the measured times."""
    cuts = statistics.quantiles((one.seconds[name] for one in measured), n=20, method="inclusive")
    return cuts[9] * 1000, cuts[18] * 1000


def _tell(measured: Sequence[Timed]) -> bool:
    out = Console(highlight=False, width=120)
    kinds: dict[str, list[Timed]] = defaultdict(list)
    for one in measured:
        kinds[one.kind].append(one)
    titles = "".join(f"{name + ' p50':>18}{'p95 ms':>10}" for name in (OURS, PEER, UNSHOWN))
    out.print(f"{'':12}{titles}   found the same")
    for kind, of_kind in [*kinds.items(), ("all", list(measured))]:
        times = (_milliseconds(of_kind, name) for name in (OURS, PEER, UNSHOWN))
        same = [one.is_same for one in of_kind if one.is_same is not None]
        figures = "".join(f"{p50:18.1f}{p95:10.1f}" for p50, p95 in times)
        out.print(f"{kind:12}{figures}   {f'{sum(same)} of {len(same)}' if same else 'more than are shown'}")
    ratio = _milliseconds(measured, OURS)[1] / _milliseconds(measured, PEER)[1]
    is_held = ratio <= MOST_RATIO
    out.print(
        f"bench-search: {'held' if is_held else 'MISSED'}: ratio {ratio:.2f} (at most {MOST_RATIO:.0f})"
    )
    return is_held


async def _measure(directory: Path, transcripts: int, count: int, progress: Progress) -> bool:
    (directory / "meeting").mkdir()
    with (
        postgres.running(directory / "postgres") as superuser_url,
        Cluster(superuser_url, directory / "meeting").clone("newer") as made,
    ):
        doctor, keyring = await asyncio.to_thread(fill, made.superuser_url, transcripts, progress)
        database = Database(made.api_url, application="bench")
        await database.open()
        try:
            asked = queries(count, transcripts)
            measured = await _take_turns(_searches(database, keyring, doctor), asked, progress)
        finally:
            await database.close()
    return _tell(measured)


def main() -> int:
    """Run the benchmark. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transcripts", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=50, help="of each kind")
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
        return 0 if asyncio.run(_measure(Path(directory), given.transcripts, given.queries, progress)) else 1


if __name__ == "__main__":
    sys.exit(main())
