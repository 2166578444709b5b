"""`make soak` runs thousands of sequences of the state machine on every processor core.

The sequences run in batches. Each batch has its own seed, and the seeds ascend from the first seed. A batch stops
at the first sequence that breaks a law. The soak test prints the shortest sequence that breaks the law, and the
command that repeats the batch.
"""

import argparse
import logging
import os
import secrets
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.databases import Cluster, shared_cluster
from tests.faults.machine import RecordingMachine
from tests.faults.machine_services import MachineServices, running_services

LOT = 125
STEPS = 30


def run_sequences(standing: MachineServices, first_seed: int, sequences: int, steps: int = STEPS) -> None:
    """Run this number of sequences with this seed. If a sequence breaks a law, raises the law's exception for the
    shortest sequence that breaks it.
    """

    @seed(first_seed)
    def machine() -> RuleBasedStateMachine:
        return RecordingMachine(standing)

    # No health check, because a sequence uses a real database, and most rules require an earlier event.
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type] # a function will do
        settings=settings(
            max_examples=sequences,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _lot(cluster: Cluster, lot_seed: int, sequences: int, steps: int) -> str | None:
    """Run one batch, and return the description of its failure, or None if it finds none. The soak test discards
    the application's log.
    """
    logging.disable(logging.CRITICAL)
    try:
        with cluster.clone("newer") as database, running_services(database) as standing:
            run_sequences(standing, lot_seed, sequences, steps)
    except Exception as error:  # noqa: BLE001 - whatever it was is what the soak was for
        return "".join(traceback.format_exception(error))
    return None


def main() -> int:
    """Run the soak test. Return 1 if a law was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 2)
    asked = parser.parse_args()
    began = time.monotonic()
    lots = {
        asked.seed + start // LOT: min(LOT, asked.sequences - start)
        for start in range(0, asked.sequences, LOT)
    }
    broken = done = 0
    with (
        tempfile.TemporaryDirectory(prefix="resguardo-soak-") as home,
        shared_cluster(Path(home) / "cluster") as cluster,
        ProcessPoolExecutor(asked.processes) as processes,
    ):
        cluster.template("newer")
        running = {processes.submit(_lot, cluster, *lot, asked.steps): lot for lot in lots.items()}
        for finished in as_completed(running):
            lot_seed, sequences = running[finished]
            wrong = finished.result()
            done += sequences
            if wrong is not None:
                broken += 1
                again = f"--seed {lot_seed} --sequences {sequences} --steps {asked.steps}"
                _say(f"{wrong}again: python -m tests.faults.soak {again}")
            took = time.monotonic() - began
            _say(
                f"{done} of {asked.sequences} sequences from seed {asked.seed}, {broken} broken, {took:.0f} s"
            )
    _say(f"soak: {done} sequences, {broken} broken")
    return 1 if broken else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
