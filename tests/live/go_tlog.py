"""An independent checker of proofs: `tests/live/go_checker`, a Go program with golang.org/x/mod/sumdb."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.live import server

SOURCE = Path(__file__).parent / "go_checker"
INSTALL_SECONDS = 300
"""Measured 2026-11-30 on two shared cores: 2 s, and 1 s for the download."""


@dataclass(frozen=True)
class Claim:
    """A proof of ours. `index` and `hash` are those of a leaf, or the size and the root of an older tree."""

    index: int
    hash: bytes
    hashes: Sequence[bytes]


@dataclass(frozen=True)
class Answer:
    """Go's own leaf hash and proofs. `errors` has a text for the checkpoint and for each of our proofs; an empty text
    means that Go accepts it.
    """

    leaf_hash: bytes
    errors: list[str]
    inclusions: list[list[bytes]]
    consistences: list[list[bytes]]


def binary() -> Path:
    """Return the path of the checker after `install`."""
    return server.DIRECTORY / "go_checker"


def install() -> None:
    """Build the checker, if it has changed. Raises OutOfReach, and CalledProcessError for any other failure."""
    go = shutil.which("go")
    if go is None:
        raise server.OutOfReach("Go is not installed, and it is what builds the checker of proofs")
    server.DIRECTORY.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-C", str(SOURCE), "-mod=readonly", "-o", str(binary()), "."]
    server.fetch("the checker of proofs", command, INSTALL_SECONDS, {**os.environ, "CGO_ENABLED": "0"})


def check(
    folder: Path,
    verifier_key: str,
    checkpoint: bytes,
    *,
    entry: bytes = b"",
    inclusions: Sequence[Claim] = (),
    consistences: Sequence[Claim] = (),
) -> Answer:
    """Let Go check the checkpoint and our proofs, and make its own proofs from the tiles of `folder`."""
    question = {
        "Folder": str(folder),
        "VerifierKey": verifier_key,
        "Checkpoint": _encode(checkpoint),
        "Entry": _encode(entry),
        "Inclusions": [_describe(one) for one in inclusions],
        "Consistences": [_describe(one) for one in consistences],
    }
    done = subprocess.run(
        [binary()], input=json.dumps(question), capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise ValueError(done.stderr)
    told = json.loads(done.stdout)
    return Answer(
        base64.b64decode(told["LeafHash"] or ""),
        told["Errors"],
        [[base64.b64decode(one) for one in proof] for proof in told["Inclusions"] or []],
        [[base64.b64decode(one) for one in proof] for proof in told["Consistences"] or []],
    )


def _describe(claim: Claim) -> dict[str, object]:
    return {
        "Index": claim.index,
        "Hash": _encode(claim.hash),
        "Hashes": [_encode(one) for one in claim.hashes],
    }


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
