"""Runs a whole simulation on its own Postgres and bucket, and prints lines or a progress bar."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import Progress

from devstack import object_store as stores
from tests.databases import shared_cluster
from tests.simulation.opening import opened
from tests.simulation.play import START, Play, Scale

FIRST = 20
"""The maximum number of printed violations."""


async def run(console: Console, home: Path, consultations: int, seed: int) -> int:
    """Run the simulation. Return 0 if the oracle found no violation."""
    console.print(f"{consultations} consultations in two simulated years, seed {seed}")
    begun_at = monotonic()
    with (
        shared_cluster(home / "cluster") as cluster,
        cluster.clone("newer") as database,
        stores.running(home / "store") as store,
        _progress(console) as bar,
    ):
        async with opened(database, store, seed, START) as harness:
            play = Play(harness, Scale.of(consultations))

            def told(part: float) -> None:
                bar.tell(part, f"{play.oracle.deletions} deletions, {harness.deaths.at.total()} deaths")

            await play.run(told)
    for violation in play.oracle.violations[:FIRST]:
        console.print(f"  {violation.wrong}: {violation.about}: {violation.what}")
    deaths, weather = harness.deaths, harness.weather
    console.print(
        f"{len(play.oracle.recordings)} recordings, {harness.passes} passes, {deaths.at.total()} deaths at"
        f" {len(deaths.at)} of {len(deaths.known)} steps, {weather.failures} failures of the bucket,"
        f" {monotonic() - begun_at:.0f} s, seed {seed}"
    )
    console.print(play.last_line())
    return 1 if play.oracle.violations else 0


class _Bar:
    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console = console
        self._progress = progress
        self._task = progress.add_task("two years", total=1.0) if progress else None
        self._said = 0

    def tell(self, part: float, what: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=part, description=what)
        elif int(part * 20) > self._said:
            self._said = int(part * 20)
            self._console.print(f"{part:4.0%}  {what}")


@contextmanager
def _progress(console: Console) -> Iterator[_Bar]:
    if not console.is_terminal:
        yield _Bar(console, None)
        return
    with Progress(console=console) as progress:
        yield _Bar(console, progress)
