"""The coordinates of a running dev stack for other commands on this machine: a file of mode 0600 while the stack
runs.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "stack.json"


@dataclass(frozen=True)
class Coordinates:
    """The data that `resguardo demo join` needs about a running stack."""

    graphql_url: str
    supabase_url: str
    livekit_url: str
    livekit_api_key: str
    livekit_api_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)
    superuser_url: str = field(repr=False)


@contextmanager
def published(data_dir: Path, coordinates: Coordinates) -> Iterator[None]:
    """Write the coordinates to their file, and remove the file when the block ends. If the stack is killed with
    `kill -9`, an outdated file remains.
    """
    write_private(data_dir / FILE, json.dumps(asdict(coordinates)))
    try:
        yield
    finally:
        (data_dir / FILE).unlink(missing_ok=True)


def read(data_dir: Path) -> Coordinates | None:
    """Return the coordinates that the last start of the stack stored, or None if there are none in the current
    format.
    """
    try:
        return Coordinates(**json.loads((data_dir / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_private(path: Path, text: str) -> None:
    """Replace the file atomically. Only the file's owner can read it."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with open(draft, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    draft.rename(path)
