"""Compares the audio preparation of recordings of two minutes to four hours with a bare decode of the same files:
`make bench-media`.

`--longest 21600` adds recordings of six hours, the maximum. With the six-hour recordings, the benchmark takes a few
more minutes and half a gigabyte of disk.

Each recording repeats the streams of a fixture. The bare decode opens the file directly and resamples its sound to
16 kHz. Our code reads the file in ranges, plans the chunks in a confined child process, and cuts them as FLAC in a
second child. The benchmark cuts the sound into windows of many turns, with the pauses between them, which is more
work than cutting single turns. Each measurement runs in a process of its own. A measurement covers the processor
time of the process and its children, the bytes read, and the maximum memory of a child (for the bare decode: of the
process itself). The limits of the benchmark are 60 seconds of processor time for an hour of sound, in the planning
and the cutting together, and 300 MB of memory for any length.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import anyio
import av
from anyio.abc import Process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from app.media.probe import Container
from app.media.sound import cut_chunks, measure_sound
from app.media.sound_plans import Cut, plan_file

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
MOST_CPU_SECONDS_PER_HOUR = 60.0
MOST_MEGABYTES = 300.0
_GAP_SECONDS = 0.1


@dataclass(frozen=True)
class Recording:
    """A recording to measure: a file that repeats a fixture up to a length, written with the given muxer options."""

    name: str
    source: str
    seconds: int
    options: dict[str, str]


RECORDINGS = (
    Recording("2 min", "headache.mp4", 0, {}),
    Recording("1 h", "headache.mp4", 3_600, {}),
    Recording("1 h fragmented", "headache.mp4", 3_600, FRAGMENTED),
    Recording("1 h two channels", "headache.dual.ogg", 3_600, {}),
    Recording("4 h", "headache.mp4", 14_400, {}),
    Recording("6 h", "headache.mp4", 21_400, {}),
    Recording("6 h fragmented", "headache.mp4", 21_400, FRAGMENTED),
)


@dataclass(frozen=True)
class Measured:
    """The result of one measurement."""

    cpu_seconds: float
    megabytes: float
    read_bytes: int
    sound_seconds: float

    @property
    def cpu_seconds_per_hour(self) -> float:
        """Return the seconds of processor time for one hour of sound."""
        return self.cpu_seconds / self.sound_seconds * 3600


def _write(recording: Recording, target: Path) -> None:
    """Write the packets of the fixture repeatedly until the length is reached."""
    shift = 0.0
    with av.open(target, "w", options=recording.options) as file:
        streams = None
        while shift <= recording.seconds:
            last = 0.0
            with av.open(FIXTURES / recording.source) as source:
                streams = streams or {one.index: file.add_stream_from_template(one) for one in source.streams}
                for packet in source.demux():
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    last = max(last, float((packet.dts + (packet.duration or 0)) * packet.time_base))
                    moved = round(shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
                    packet.stream = streams[packet.stream.index]
                    file.mux(packet)
            shift += last + _GAP_SECONDS


def _cpu_seconds() -> float:
    """Return the processor time of this process and its children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _bare(path: Path) -> Measured:
    resampler = av.AudioResampler("s16", "mono", 16_000)
    samples = 0
    before = _cpu_seconds()
    with av.open(path) as file:
        for frame in file.decode(audio=0):
            samples += sum(new.samples for new in resampler.resample(frame))
    used = _cpu_seconds() - before
    return Measured(used, _peak_megabytes(os.getpid()), path.stat().st_size, samples / 16_000)


async def _ours(path: Path) -> Measured:
    children: list[Process] = []
    peak, read_bytes = 0.0, 0
    open_process = anyio.open_process
    container = cast("Container", path.suffix[1:])

    def look() -> None:
        nonlocal peak
        if children and children[-1].returncode is None:
            peak = max(peak, _peak_megabytes(children[-1].pid))

    async def remembered(*arguments: object, **options: object) -> Process:
        children.append(await open_process(*arguments, **options))  # type: ignore[arg-type]  # passed on
        return children[-1]

    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size

        async def read_range(start: int, length: int) -> bytes:
            nonlocal read_bytes
            look()
            read_bytes += length
            return os.pread(file.fileno(), length, start)

        anyio.open_process = remembered
        before = _cpu_seconds()
        found = plan_file(await measure_sound(read_range, size_bytes, container), Cut.WINDOWS)
        async for _ in cut_chunks(read_range, size_bytes, container, found.spans):
            look()
    return Measured(_cpu_seconds() - before, peak, read_bytes, found.duration_ms / 1000)


def _measured(how: Literal["bare", "ours"], path: Path) -> Measured:
    """Measure in a new process, so that its memory and processor time belong only to the measurement."""
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "benchmarks.media", "--only", how, str(path)],
        check=True,
        stdout=subprocess.PIPE,
    )
    return Measured(**json.loads(done.stdout))


def _is_held(measured: Measured) -> bool:
    within = measured.cpu_seconds_per_hour <= MOST_CPU_SECONDS_PER_HOUR
    return within and measured.megabytes <= MOST_MEGABYTES


def _tell(out: Console, recording: Recording, bare: Measured, ours: Measured) -> None:
    for how, one in (("bare decode", bare), ("plan and pieces", ours)):
        out.print(
            f"{recording.name:18}{how:16}{one.cpu_seconds_per_hour:8.1f} s CPU an hour"
            f"{one.megabytes:8.0f} MB held{one.read_bytes / 1e6:9.1f} MB read"
        )
    ratio = ours.cpu_seconds / bare.cpu_seconds
    out.print(f"{'':18}{'ratio':16}{ratio:8.2f}{ours.read_bytes / bare.read_bytes:42.2f}")


def _run(recordings: list[Recording], directory: Path, progress: Progress) -> bool:
    out = Console(highlight=False)
    task = progress.add_task("hearing", total=3 * len(recordings))
    held = True
    for number, recording in enumerate(recordings):
        path = directory / f"{number}{Path(recording.source).suffix}"
        progress.update(task, description=f"{recording.name}: writing")
        _write(recording, path)
        progress.update(task, description=f"{recording.name}: bare decode", advance=1)
        bare = _measured("bare", path)
        progress.update(task, description=f"{recording.name}: plan and pieces", advance=1)
        ours = _measured("ours", path)
        progress.advance(task)
        path.unlink()
        _tell(out, recording, bare, ours)
        held = held and _is_held(ours)
    out.print(
        f"bench-media: {'held' if held else 'MISSED'}: at most {MOST_CPU_SECONDS_PER_HOUR:.0f} s of CPU an hour,"
        f" at most {MOST_MEGABYTES:.0f} MB held"
    )
    return held


def main() -> int:
    """Run the benchmark. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--longest", type=int, default=14_400, help="leave out what is longer, in seconds")
    parser.add_argument("--only", nargs=2, metavar=("HOW", "PATH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only is not None:
        how, path = given.only
        measured = _bare(Path(path)) if how == "bare" else asyncio.run(_ours(Path(path)))
        Console().file.write(json.dumps(asdict(measured)))
        return 0
    recordings = [one for one in RECORDINGS if one.seconds <= given.longest]
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        return 0 if _run(recordings, Path(directory), progress) else 1


if __name__ == "__main__":
    sys.exit(main())
