"""Measures `tools/verify_audit.py` on the published objects of one year: `make bench-audit` (docs/benchmarks.md).

The benchmark publishes a log of a million events in a folder as the worker does, with one checkpoint an hour, each with
its partial tiles and the cosignature of a witness, and an export of all events. The verifier runs as a process of its
own on one core.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from app.bucket.object_keys import compose_checkpoint_key, compose_tile_key
from app.transparency_log.checkpoints import Checkpoint, Ed25519Cosigner, Ed25519Signer, sign_checkpoint
from app.transparency_log.events import SALT_BYTES, compute_entry, format_canonical_event
from app.transparency_log.merkle import TILE_HEIGHT, Frontier, leaf_hash
from app.transparency_log.policies import Policy, Witness
from app.transparency_log.tiles import TILE_WIDTH, TileId, format_entry_bundle, tiles_of_tree

VERIFIER: Final = Path(__file__).parent.parent / "tools" / "verify_audit.py"
MOST_SECONDS: Final = 30.0
MOST_MEGABYTES: Final = 200.0
PUBLICATIONS: Final = 8760
"""One checkpoint an hour for a year, which is the fewest that the worker publishes."""

_ORIGIN: Final = "resguardo/benchmark/2026"
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SECONDS: Final = 364 * 86_400
_ROW: Final = {
    "id": UUID(int=0),
    "recorded_at": _BEGIN,
    "actor_id": UUID(int=1),
    "actor_role": "clinician",
    "session_fingerprint": "0" * 64,
    "aal": "aal2",
    "action": "recording.read",
    "operation": "R",
    "outcome": "ALLOWED",
    "reason": None,
    "purpose": "TREATMENT",
    "basis": "treating_clinician",
    "entities": [{"ids": [str(UUID(int=2))], "type": "recording"}],
    "patient_ids": [UUID(int=3)],
    "consultation_ids": [UUID(int=4)],
    "fields": ["recording.status", "recording.startedAt"],
    "row_count": 1,
    "byte_count": None,
    "digest": None,
    "request_id": UUID(int=5),
    "address": "192.0.2.1",
    "policy_version": "2026-11-01",
}


@dataclass(frozen=True)
class Run:
    """One run of the verifier. `seconds` is the processor time, which on one idle core is the duration."""

    seconds: float
    wall_seconds: float
    megabytes: float

    def holds(self, events: int) -> bool:
        """Return whether the run of so many events stayed within the limits."""
        return self.seconds <= most_seconds(events) and self.megabytes <= MOST_MEGABYTES


@dataclass(frozen=True)
class PublishedLog:
    """The folder of a download of `audit/`, an export of all its events, and the policy file."""

    folder: Path
    export: Path
    policy: Path


def publish(
    directory: Path, events: int, on_progress: Callable[[int], None] = lambda _: None
) -> PublishedLog:
    """Write a log of `events` events as the worker publishes it."""
    log = PublishedLog(directory / "download", directory / "export.ndjson", directory / "policy")
    signer, witness = (
        Ed25519Signer.from_seed(_ORIGIN, bytes(32)),
        Ed25519Cosigner.from_seed("witness", bytes(32)),
    )
    policy = Policy((signer.verifier_key,), {"witness": Witness(witness.verifier_key)}, quorum="witness")
    log.policy.write_text(policy.format())
    publications = min(PUBLICATIONS, events)
    sizes = [events * number // publications for number in range(1, publications + 1)]
    tree, published, lines = _Tree(), 0, _lines(events)
    with log.export.open("wb") as export:
        for size in sizes:
            for _ in range(size - published):
                entry, line = next(lines)
                export.write(line)
                tree.append(entry)
            for tile in tiles_of_tree(size, published):
                _write(log.folder / compose_tile_key(_ORIGIN, tile.path), tree.content(tile))
            tree.forget()
            note = sign_checkpoint(Checkpoint(_ORIGIN, size, tree.frontier.root), signer)
            sealed_at = _BEGIN + timedelta(seconds=_SECONDS * size / events)
            note = note.with_signatures([witness.cosign(note.text, int(sealed_at.timestamp()) + 5)])
            _write(log.folder / compose_checkpoint_key(_ORIGIN, size), note.format())
            published = size
            on_progress(size)
    return log


def most_seconds(events: int) -> float:
    """Return the limit of the processor time: 30 s for each million events."""
    return MOST_SECONDS * max(1.0, events / 1_000_000)


def run_verifier(*arguments: str | Path) -> Run:
    """Run the verifier on one core. Raises RuntimeError unless it finds nothing."""
    core = min(os.sched_getaffinity(0))
    began = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", str(VERIFIER), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
    )
    os.sched_setaffinity(child.pid, {core})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"the verifier ended with {child.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1024)


class _Tree:
    """The hashes that the next publication needs: of each level those of the last, incomplete tile and of the tiles
    that were completed since the last publication.
    """

    def __init__(self) -> None:
        self.frontier = Frontier()
        self._entries: list[bytes] = []
        self._levels: list[list[bytes]] = [[]]
        self._first = [0]

    def append(self, entry: bytes) -> None:
        leaf = leaf_hash(entry)
        self.frontier, roots = self.frontier.extend_with_roots((leaf,))
        self._entries.append(entry)
        self._levels[0].append(leaf)
        for root in roots:
            if root.level == len(self._levels):
                self._levels.append([])
                self._first.append(0)
            self._levels[root.level].append(root.hash)

    def content(self, tile: TileId) -> bytes:
        level = max(tile.level, 0)
        start = (tile.index - self._first[level]) * TILE_WIDTH
        if tile.level < 0:
            return format_entry_bundle(self._entries[start : start + tile.width])
        return b"".join(self._levels[level][start : start + tile.width])

    def forget(self) -> None:
        """Forget the full tiles, which no later publication repeats."""
        for level, hashes in enumerate(self._levels):
            full = len(hashes) >> TILE_HEIGHT
            del hashes[: full * TILE_WIDTH]
            if level == 0:
                del self._entries[: full * TILE_WIDTH]
            self._first[level] += full


def _lines(events: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entry and the line of the export of each event. All events equal each other except for their times,
    ids and salts.
    """
    canonical = format_canonical_event(_ROW)
    start, middle, end = (part for part in _split_template(canonical))
    for number in range(events):
        at = _BEGIN + timedelta(seconds=_SECONDS * number / events)
        stated = f"{at.replace(tzinfo=None).isoformat(timespec='microseconds')}Z".encode()
        event = b"".join((start, str(UUID(int=number)).encode(), middle, stated, end))
        salt = number.to_bytes(SALT_BYTES, "big")
        head = f'{{"log":"{_ORIGIN}","index":{number},"salt":"{salt.hex()}","event":'.encode()
        yield compute_entry(salt, event), b"".join((head, event, b"}\n"))


def _split_template(canonical: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the parts of the canonical form around the id and the time, which stand in this order."""
    start, rest = canonical.split(b'"id":"' + str(_ROW["id"]).encode(), 1)
    middle, end = rest.split(b'"recorded_at":"2026-01-01T00:00:00.000000Z', 1)
    return start + b'"id":"', middle + b'"recorded_at":"', end


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
