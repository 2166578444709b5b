"""The real witness litewitness (filippo.io/torchwood), installed with Go and run on the loopback interface.

litewitness signs with a key of an SSH agent, so a private `ssh-agent` runs beside it. `witnessctl`, which adds logs to
its SQLite database, needs a module that the Go proxy refuses here (sigsum.org, 403), so this module adds them as
`witnessctl add-log` and `add-key` do.
"""

import base64
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.transparency_log.merkle import EMPTY_ROOT
from app.transparency_log.notes import SignatureType, VerifierKey
from devstack import children
from devstack.children import free_port
from tests.live import server

VERSION = "v0.6.1"
MODULE = f"filippo.io/torchwood/cmd/litewitness@{VERSION}"
NAME = "witness.example/litewitness"
INSTALL_SECONDS = 300
"""Measured 2026-11-30 on two shared cores: 12 s, and 5 s for the downloads."""

_AGENT_SECONDS = 10


@dataclass(frozen=True)
class LiteWitness:
    """A running litewitness, its verifier key, and the file of its database."""

    url: str
    key: VerifierKey
    database: Path

    def add_logs(self, keys: Sequence[VerifierKey]) -> None:
        """Add logs with the size 0, as `witnessctl add-log` and `add-key` do."""
        with sqlite3.connect(self.database) as connection:
            for key in keys:
                connection.execute(
                    "insert into log (origin, tree_size, tree_hash) values (?, 0, ?)",
                    (key.name, base64.b64encode(EMPTY_ROOT).decode()),
                )
                connection.execute("insert into key (origin, key) values (?, ?)", (key.name, key.format()))
        connection.close()


def binary() -> Path:
    """Return the path of litewitness after `install`."""
    return server.DIRECTORY / f"torchwood-{VERSION}" / "litewitness"


def install() -> None:
    """Install litewitness if it is missing. Raises OutOfReach, and CalledProcessError for any other failure."""
    if shutil.which("ssh-agent") is None:
        raise server.OutOfReach("ssh-agent is not installed, and litewitness signs with its keys")
    if not binary().exists():
        go = shutil.which("go")
        if go is None:
            raise server.OutOfReach("Go is not installed, and it is what builds litewitness")
        binary().parent.mkdir(parents=True, exist_ok=True)
        settings = {"GOBIN": str(binary().parent), "CGO_ENABLED": "0"}
        server.fetch("litewitness", [go, "install", MODULE], INSTALL_SECONDS, {**os.environ, **settings})


@contextmanager
def running(data_dir: Path) -> Iterator[LiteWitness]:
    """Run litewitness with a new key and an empty database until the end of the block."""
    private = Ed25519PrivateKey.generate()
    key = VerifierKey(NAME, SignatureType.ED25519_COSIGNATURE, private.public_key().public_bytes_raw())
    database, port = data_dir / "litewitness.db", free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        _agent(data_dir, private) as (socket, fingerprint),
        _process(
            [
                str(binary()),
                *("-name", NAME, "-db", str(database), "-key", fingerprint),
                *("-ssh-agent", str(socket), "-listen", f"127.0.0.1:{port}"),
            ],
            data_dir / "litewitness.log",
        ) as process,
    ):
        children.Starting(process, url, {}, data_dir / "litewitness.log").wait_until_ready()
        yield LiteWitness(url, key, database)


@contextmanager
def _agent(data_dir: Path, private: Ed25519PrivateKey) -> Iterator[tuple[Path, str]]:
    """Run an SSH agent with the key, and yield its socket and the fingerprint of the key."""
    socket, file = data_dir / "agent.sock", data_dir / "witness.pem"
    file.touch(mode=0o600)
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    environment = {"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": str(socket)}
    with _process(["ssh-agent", "-D", "-a", str(socket)], data_dir / "agent.log"):
        deadline = time.monotonic() + _AGENT_SECONDS
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        subprocess.run(["ssh-add", str(file)], env=environment, check=True, capture_output=True)
        listed = subprocess.run(
            ["ssh-add", "-l"], env=environment, check=True, capture_output=True, text=True
        )
        yield socket, listed.stdout.split()[1]


@contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"]},
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=children.dying_with_parent(signal.SIGTERM),
        )
    try:
        yield process
    finally:
        children._stop(process)
