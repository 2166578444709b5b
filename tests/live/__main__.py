"""`make live` installs the real LiveKit server, its client, the real witness litewitness and a checker of proofs in Go,
and runs the tests against them.

If this machine cannot download one of them, the command prints the reason in one line and exits with 0, because no
other test needs them. The real Supabase Auth is built, too; if that is impossible, only its tests are skipped. If an
installation fails although the downloads are reachable, the command ends with an error.
"""

import subprocess
import sys
from pathlib import Path

from tests.live import auth_server, go_tlog, litewitness, server

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements-live.lock"
TESTS_SECONDS = 300
"""The tests take 47 s on two cores (2026-11-21)."""

_INSTALL = ("install", "--quiet", "--disable-pip-version-check", "--require-hashes")


def main() -> int:
    """Return the exit code."""
    try:
        server.install()
        litewitness.install()
        go_tlog.install()
        command = [sys.executable, "-m", "pip", *_INSTALL, "--requirement", str(LOCK)]
        server.fetch("LiveKit's client", command, server.CLIENT_SECONDS)
    except server.OutOfReach as error:
        print(f"make live: skipped: {error}")  # noqa: T201 - the command's one line
        return 0
    try:
        auth_server.install()
    except server.OutOfReach as error:
        print(f"make live: without Supabase Auth: {error}")  # noqa: T201 - the command's one line
    tests = [sys.executable, "-m", "pytest", "tests/live"]
    return subprocess.run(tests, cwd=ROOT, check=False, timeout=TESTS_SECONDS).returncode


if __name__ == "__main__":
    sys.exit(main())
