"""Writes the files of an evidence pack, and reads the published audit log that the pack contains."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from app.errors import InvalidInput
from app.integrations.storage.client import Storage

_MOST_BYTES: Final = 1_000_000
_AUDIT: Final = "audit/"


class PublishedLog(Protocol):
    """The objects of a published audit log."""

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys of the objects whose keys have a prefix."""

    async def read(self, key: str) -> bytes:
        """Return the content of an object."""


class LogInBucket:
    """The log in a bucket."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys of the objects whose keys have a prefix."""
        async for page in self._storage.list_objects(prefix):
            for one in page.objects:
                yield one.key

    async def read(self, key: str) -> bytes:
        """Return the content of an object. Raises UpstreamFailed, Timeout."""
        return await self._storage.get_small(key, _MOST_BYTES) or b""


class LogInFolder:
    """The log in a folder that has the keys of a bucket as its paths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys of the objects whose keys have a prefix."""
        for path in sorted((self._folder / prefix).glob("**/*")):
            if path.is_file():
                yield path.relative_to(self._folder).as_posix()

    async def read(self, key: str) -> bytes:
        """Return the content of a file."""
        return (self._folder / key).read_bytes()


def is_plain_key(key: str) -> bool:
    """Return whether an object of the log can be written below the pack's folder under its own key. A person with write
    access to the bucket could give an object a key that leads out of the folder.
    """
    parts = PurePosixPath(key).parts
    return (
        key.startswith(_AUDIT)
        and str(PurePosixPath(key)) == key
        and ".." not in parts
        and key.isascii()
        and key.isprintable()
        and "\\" not in key
    )


class PackWriter:
    """Writes the files of a pack below a folder, and keeps the SHA-256 of each for the manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, str] = {}
        self.size_bytes = 0

    @property
    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its path, in the order of the paths."""
        return dict(sorted(self._digests.items()))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which must be new."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
        self._digests[name] = hashlib.sha256(content).hexdigest()
        self.size_bytes += len(content)

    def write_json(self, name: str, value: object) -> None:
        """Write a value as JSON that a person can read."""
        self.write(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def require_new_folder(folder: Path) -> Path:
    """Return the temporary folder in which the pack is made. The folder is renamed when the pack is finished. Raises
    InvalidInput (evidence_folder_exists) if the temporary or the final folder exists.
    """
    making = folder.with_name(f"{folder.name}.partial")
    if folder.exists() or making.exists():
        raise InvalidInput("evidence_folder_exists")
    making.mkdir(parents=True)
    return making
