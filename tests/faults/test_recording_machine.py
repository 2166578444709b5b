"""Runs actions of users, events, crashes and passes in random order: 500 sequences in this file, and 10,000 in
`make soak` (tests/faults/soak.py).

The seeds are fixed, so every run has the same sequences. A failure prints the shortest failing sequence that
Hypothesis finds. `.venv/bin/python -m tests.faults.soak --seed SEED --sequences 125 --steps 15` runs the sequences
of one seed again, or new sequences if SEED is new.
"""

from pathlib import Path

import pytest

from app.media.probe import probe
from devstack.livekit.media import generate, generate_silence
from tests.databases import Database
from tests.faults.machine_services import running_services
from tests.faults.soak import LOT, run_sequences

STEPS = 15


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_recording_is_never_lost_doubled_or_stuck_in_any_sequence(database: Database, seed: int) -> None:
    with running_services(database) as standing:
        run_sequences(standing, seed, LOT, STEPS)


def test_recording_is_never_lost_doubled_or_stuck_with_a_real_probe(
    database: Database, tmp_path: Path
) -> None:
    video, sound = generate(tmp_path / "video.mp4"), generate_silence(tmp_path / "sound.ogg", 1)
    with running_services(database, probe) as standing:
        standing.media = {"mp4": video.path.read_bytes(), "ogg": sound.path.read_bytes()}
        run_sequences(standing, 5, 8, STEPS)
