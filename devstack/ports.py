"""Chooses the ports that web pages use: the requested ones, otherwise those of the last start, otherwise free ones."""

import errno
import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FILE = "ports.json"


class PortRefused(Exception):  # noqa: N818 - it reads as what happened
    """A requested port is not available. The exception's message names the port, the command-line option and the
    reason.
    """


@dataclass(frozen=True)
class Ports:
    """The ports on 127.0.0.1."""

    api: int
    auth: int
    store: int
    livekit: int


OPTIONS = {"api": "--port", "auth": "--auth-port", "store": "--store-port", "livekit": "--livekit-port"}
"""The command-line option of each port."""


def choose(data_dir: Path, asked: Mapping[str, int]) -> Ports:
    """Return a port for each part of the dev stack. `asked` contains the requested ports by the part's name; the
    function chooses the ports of all other parts.

    If another process now listens on a port of the last start, the function chooses a new port. Raises PortRefused
    for a requested port that appears twice or is not available.
    """
    taken: set[int] = set()
    for name, port in asked.items():
        if port in taken:
            raise PortRefused(f"port {port} ({OPTIONS[name]}) is asked for twice")
        if why := _why_not(port):
            raise PortRefused(f"port {port} ({OPTIONS[name]}) {why}")
        taken.add(port)
    kept, chosen = _kept(data_dir / FILE), dict(asked)
    for part in fields(Ports):
        if part.name not in chosen:
            port = kept.get(part.name, 0)
            chosen[part.name] = port if port and port not in taken and not _why_not(port) else _free(taken)
            taken.add(chosen[part.name])
    return Ports(**chosen)


def keep(data_dir: Path, ports: Ports) -> None:
    """Store the ports for the next start."""
    (data_dir / FILE).write_text(json.dumps(asdict(ports)))


def _kept(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    ports = found.items() if isinstance(found, dict) else ()
    return {str(name): port for name, port in ports if isinstance(port, int) and 0 < port < 65_536}


def _free(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _why_not(port: int) -> str | None:
    """Return why a server cannot listen on the port, or None. Like a server that starts, the check ignores old
    connections in the state TIME_WAIT.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: "is in use by another program",
                errno.EACCES: "needs more rights than you have; choose one above 1023",
            }
            return reasons.get(error.errno or 0, "cannot be listened on")
    return None
