"""`python -m tests.faults` runs the whole fault suite. The exit code is 1 if any fault leaves a recording lost,
doubled or stuck, or with an unexpected outcome.
"""

import argparse
import asyncio
import sys

from rich.console import Console

from tests.faults import suite

_LOG_WIDTH = 200

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--only", default="", metavar="NAME", help="those with this in their name")
    only = parser.parse_args().only
    width = None if sys.stdout.isatty() else _LOG_WIDTH
    console = Console(highlight=False, soft_wrap=True, width=width)
    sys.exit(asyncio.run(suite.run(console, only)))
