"""Where a running dev stack is, for other commands on this machine: a file of mode 0600 while it runs."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "stack.json"


@dataclass(frozen=True)
class Coordinates:
    """What `resguardo demo join` needs of a running stack."""

    graphql_url: str
    supabase_url: str
    livekit_url: str
    livekit_api_key: str
    livekit_api_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)
    superuser_url: str = field(repr=False)


@contextmanager
def published(data_dir: Path, coordinates: Coordinates) -> Iterator[None]:
    """The file is there until the block ends; after a `kill -9` it stays and is out of date."""
    write_private(data_dir / FILE, json.dumps(asdict(coordinates)))
    try:
        yield
    finally:
        (data_dir / FILE).unlink(missing_ok=True)


def read(data_dir: Path) -> Coordinates | None:
    """What the last start published; None where nothing did, or not in this form."""
    try:
        return Coordinates(**json.loads((data_dir / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step; its owner alone may read it."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with open(draft, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    draft.rename(path)
