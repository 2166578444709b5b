"""The ports that web pages know: those asked for, else those of the last start, else free ones."""

import errno
import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FILE = "ports.json"


class PortRefused(Exception):  # noqa: N818 - it reads as what happened
    """A port that was asked for cannot be had; the message names it, the option and why."""


@dataclass(frozen=True)
class Ports:
    """On 127.0.0.1."""

    api: int
    auth: int
    store: int
    livekit: int


OPTIONS = {"api": "--port", "auth": "--auth-port", "store": "--store-port", "livekit": "--livekit-port"}
"""The option of each."""


def choose(data_dir: Path, asked: Mapping[str, int]) -> Ports:
    """A port for each part. `asked` has those that are wanted, by the part's name; the others are chosen.

    A port of the last start that somebody else listens on by now is replaced. Raises PortRefused for one that was
    asked for twice or cannot be listened on.
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
    """Writes them down for the next start."""
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
    """Why nobody can listen there now; None where one can. As servers do, it passes over connections that linger."""
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
