"""Child processes that end with their parent: on a normal exit, on Ctrl-C, and, on Linux, on kill -9 of the parent."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_SECONDS = 60
STOP_SECONDS = 10
_LOG_TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")


class ChildError(Exception):
    """A child process did not become ready. The exception's message ends with the last lines of the child process's
    log.
    """


@dataclass(frozen=True)
class Starting:
    """A child process that may not be ready yet."""

    process: subprocess.Popen[bytes]
    ready_url: str | None
    headers: Mapping[str, str]
    log: Path

    def wait_until_ready(self) -> None:
        """Wait until `ready_url` answers with a status below 400. If there is no `ready_url`, return at once.
        Raises ChildError.
        """
        if self.ready_url is None:
            return
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(self.ready_url, headers=self.headers, timeout=2).status_code < 400:
                    return
            time.sleep(0.05)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
        raise ChildError(f"{self.log.stem} did not get ready; its log ends:\n{tail}")


@contextmanager
def starting(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    ready_url: str | None,
    headers: Mapping[str, str] | None = None,
    python: Path = Path(sys.executable),
) -> Iterator[Starting]:
    """Run `python -m module` until the block ends. The block begins at once, before the child is ready.

    The child runs in the directory of its log, with the given environment variables and a few harmless ones (such
    as PATH) of the parent.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**inherited, **environment},
            cwd=log.parent,  # not our own directory, whose `.env` belongs to another deployment
            start_new_session=True,  # Ctrl-C goes to the parent, which stops its children in order
            preexec_fn=dying_with_parent(signal.SIGTERM),
        )
    try:
        yield Starting(process, ready_url, headers or {}, log)
    finally:
        _stop(process)


@contextmanager
def child(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    ready_url: str | None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child process as `starting` does, but begin the block only when the child is ready. Raises ChildError."""
    with starting(
        module, arguments, log=log, environment=environment, ready_url=ready_url, headers=headers
    ) as begun:
        begun.wait_until_ready()
        yield begun.process


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Delay, until the block ends, each signal whose handler would raise an exception. An exception inside Popen
    would leave behind a running child process.

    Python runs signal handlers only in the main thread, so other threads need no delay.
    """
    came: list[int] = []
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread()
        and callable(handler := signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for to_restore, handler in before.items():
            signal.signal(to_restore, handler)
        for one in came:
            signal.raise_signal(one)


def dying_with_parent(by: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` for Popen. On Linux, this `preexec_fn` makes the kernel send the given signal to the
    child when the thread that started the child ends.

    The function prepares everything before the fork, because code between fork and exec may not import modules or
    allocate much memory. Python calls the `preexec_fn` after it has changed the user, which is necessary because a
    change of credentials clears the parent-death signal (prctl(2)).
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask
