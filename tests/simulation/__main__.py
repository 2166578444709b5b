"""`python -m tests.simulation` runs the simulation. The exit code is 1 if the oracle found a violation."""

import argparse
import asyncio
import logging
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.simulation.suite import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--consultations", type=int, default=5000, metavar="N")
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="repeats a run, but for its races"
    )
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    logging.disable(logging.CRITICAL)  # The oracle judges failures, and the simulation causes many on purpose
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="resguardo-simulation-") as home:
        sys.exit(asyncio.run(run(console, Path(home), given.consultations, seed)))
