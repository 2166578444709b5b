"""The real LiveKit server, installed with Go and run on the loopback interface with our API key.

The server runs as a single node, without Redis and without an egress service. `install` downloads each version of
the server only once. Go downloads the server from the module sources that the machine's Go configuration names.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devstack import children
from devstack.children import free_port

VERSION = "v1.13.5"
MODULE = f"github.com/livekit/livekit-server/cmd/server@{VERSION}"
DIRECTORY = Path(__file__).parent.parent.parent / ".devstack" / "live"
INSTALL_SECONDS = 600
"""Measured 2026-11-21 on two cores: 143 s with empty caches, 510 s on busy cores, and 1 s with Go's caches filled."""

CLIENT_SECONDS = 120
"""The time for a download of 30 MB of wheels."""

DEPARTURE_TIMEOUT_SECONDS = 1
"""An empty room closes after this time. The server's default is 20 seconds."""

_AWAY = (
    "dial tcp",
    "no such host",
    "could not resolve host",
    "network is unreachable",
    "connection refused",
    "connection reset",
    "connection timed out",
    "failed to connect",
    "no route to host",
    "i/o timeout",
    "read timed out",
    "context deadline exceeded",
    "unexpected eof",
    "server misbehaving",
    "certificate signed by unknown authority",
    "certificate verify failed",
    "403 forbidden",
    "proxy authentication required",
    "too many requests",
    "tls handshake timeout",
    "proxyconnect",
    "bad gateway",
    "service unavailable",
    "gateway timeout",
    "module lookup disabled",
    "executable file not found",
    "newconnectionerror",
    "no matching distribution found",
    "requires go >=",
)
"""The messages of Go and pip for a package that is unreachable from this machine: no network, no git, no wheel for
the platform, or an old Go.
"""


class OutOfReach(Exception):  # noqa: N818 - it reads as what happened
    """A requirement of the live tests is unavailable on this machine. The exception's message is one line."""


@dataclass(frozen=True)
class LiveServer:
    """A running server and its log."""

    url: str
    api_key: str
    api_secret: str = field(repr=False)
    log: Path


def binary() -> Path:
    """Return the path of the LiveKit server's binary after `install`."""
    return DIRECTORY / VERSION / "server"


def install() -> Path:
    """Install the server if it is missing. Return its path. Raises OutOfReach, and CalledProcessError for any other
    failure.
    """
    if not binary().exists():
        go = shutil.which("go")
        if go is None:
            raise OutOfReach("Go is not installed, and it is what builds the LiveKit server")
        binary().parent.mkdir(parents=True, exist_ok=True)
        settings = {"GOBIN": str(binary().parent), "CGO_ENABLED": "0"}  # The build needs no C compiler
        fetch("the LiveKit server", [go, "install", MODULE], INSTALL_SECONDS, {**os.environ, **settings})
    return binary()


def fetch(what: str, command: list[str], seconds: float, environment: dict[str, str] | None = None) -> None:
    """Run an installation command. If it takes longer than this number of seconds, end it and all its child
    processes.

    Raises OutOfReach if the package is unavailable on this machine, and otherwise CalledProcessError with the
    output.
    """
    with subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=children.dying_with_parent(signal.SIGTERM),
    ) as installer:
        try:
            _, said = installer.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise OutOfReach(f"to install {what} took longer than {seconds:.0f} s") from error
        finally:
            if installer.poll() is None:
                os.killpg(installer.pid, signal.SIGKILL)  # The signal also ends its compilers
    if installer.returncode != 0:
        sign = next((sign for sign in _AWAY if sign in said.lower()), None)
        if sign is not None:
            raise OutOfReach(f"{what} could not be fetched ({sign})")
        failed = subprocess.CalledProcessError(installer.returncode, command)
        failed.add_note(said)
        raise failed


@contextmanager
def running(
    data_dir: Path, *, port: int, api_key: str, api_secret: str, webhook_urls: list[str]
) -> Iterator[LiveServer]:
    """Run the installed server until the end of the block. Raises ChildError if the server does not become ready."""
    config, log = data_dir / "livekit-server.json", data_dir / "livekit-server.log"
    config.touch(mode=0o600)
    config.write_text(json.dumps(_config(port, api_key, api_secret, webhook_urls)))  # JSON is valid YAML
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary(), "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={},
            cwd=data_dir,
            start_new_session=True,
            preexec_fn=children.dying_with_parent(signal.SIGTERM),
        )
    try:
        children.Starting(process, url, {}, log).wait_until_ready()
        yield LiveServer(url, api_key, api_secret, log)
    finally:
        children._stop(process)


def _config(port: int, api_key: str, api_secret: str, webhook_urls: list[str]) -> dict[str, object]:
    udp_port = free_port()
    return {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "rtc": {
            "tcp_port": free_port(),
            "udp_port": udp_port,
            "use_external_ip": False,
            "node_ip": "127.0.0.1",
            "enable_loopback_candidate": True,
            "ips": {"includes": ["127.0.0.0/8"]},
            # Without a STUN server in the configuration, clients use public ones (`pkg/service/roommanager.go`,
            # read 2026-11-21).
            "stun_servers": [f"127.0.0.1:{udp_port}"],
        },
        "room": {"departure_timeout": DEPARTURE_TIMEOUT_SECONDS},
        "keys": {api_key: api_secret},
        "webhook": {"api_key": api_key, "urls": webhook_urls},
    }
