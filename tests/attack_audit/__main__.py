"""`python -m tests.attack_audit` runs all attacks. The exit code is 1 if an attack is undetected."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.attack_audit import suite
from tests.databases import in_memory

_LOG_WIDTH = 200

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.attack_audit", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME", help="those with this in their name")
    parser.add_argument("--short", action="store_true", help="one attack of each kind")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _LOG_WIDTH)
    with tempfile.TemporaryDirectory(prefix="resguardo-attacks-", dir=in_memory()) as home:
        Path(home).chmod(0o711)
        sys.exit(suite.run(console, Path(home), only=given.only, is_short=given.short))
