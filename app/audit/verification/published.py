"""Reads published logs: from a bucket, or from a folder with a copy of a bucket."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from app.audit.verification.rows import BLOCK, PublishedBlock
from app.bucket.object_keys import (
    compose_audit_prefix,
    compose_checkpoint_key,
    compose_latest_checkpoint_key,
    compose_tile_key,
    parse_checkpoint_key,
)
from app.errors import UpstreamFailed
from app.integrations.storage.client import Storage
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.merkle import HASH_BYTES, leaf_hash, split_hashes
from app.transparency_log.tiles import ENTRY_LEVEL, TileId, parse_entry_bundle

T = TypeVar("T")
_MOST_BYTES: Final = 1_000_000
_ENTRY_BYTES: Final = HASH_BYTES
CONCURRENT: Final = 8


class Published(Protocol):
    """The objects of published logs. `is_live` says whether the worker publishes there."""

    label: str
    is_live: bool

    async def checkpoint_sizes(self, origin: str) -> list[int]:
        """Return the sizes of the log's checkpoints, the smallest first."""

    async def read(self, key: str) -> bytes | None:
        """Return the content of an object, or None."""


class PublishedBucket:
    """The logs in a bucket."""

    is_live = True

    def __init__(self, storage: Storage, label: str = "the bucket") -> None:
        self.label = label
        self._storage = storage

    async def checkpoint_sizes(self, origin: str) -> list[int]:
        """Return the sizes of the log's checkpoints, the smallest first."""
        prefix = f"{compose_audit_prefix(origin)}checkpoints/"
        sizes = []
        async for page in self._storage.list_objects(prefix):
            parsed = (parse_checkpoint_key(one.key) for one in page.objects)
            sizes += [one[1] for one in parsed if one is not None and one[0] == origin]
        return sorted(sizes)

    async def read(self, key: str) -> bytes | None:
        """Return the content of an object, or None. An object that is too large is foreign, and its content is
        returned as empty.
        """
        try:
            return await self._storage.get_small(key, _MOST_BYTES)
        except UpstreamFailed as error:
            if error.reason != "storage_object_too_large":
                raise
            return b""


class PublishedFolder:
    """The logs in a folder that has the keys of a bucket as its paths."""

    is_live = False

    def __init__(self, folder: Path, label: str = "the folder") -> None:
        self.label = label
        self._folder = folder

    async def checkpoint_sizes(self, origin: str) -> list[int]:
        """Return the sizes of the log's checkpoints, the smallest first."""
        place = self._folder / compose_audit_prefix(origin) / "checkpoints"
        if not place.is_dir():
            return []
        parsed = (
            parse_checkpoint_key(compose_checkpoint_key(origin, 0)[:-1] + one.name) for one in place.iterdir()
        )
        return sorted(one[1] for one in parsed if one is not None)

    async def read(self, key: str) -> bytes | None:
        """Return the content of a file, or None."""
        try:
            with (self._folder / key).open("rb") as file:
                return file.read(_MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None


@dataclass(frozen=True)
class PublishedLog:
    """One log of a published copy."""

    source: Published
    origin: str

    async def checkpoint(self, size: int) -> bytes | None:
        """Return the checkpoint of a size."""
        return await self.source.read(compose_checkpoint_key(self.origin, size))

    async def latest(self) -> bytes | None:
        """Return the checkpoint that clients of tlog-tiles read. Nothing trusts it alone."""
        return await self.source.read(compose_latest_checkpoint_key(self.origin))

    async def blocks(self, first: int, end: int, size: int) -> list[PublishedBlock]:
        """Return the blocks from the number `first` to before `end` of a tree of `size` leaves."""
        numbers = range(first, min(end, (size + BLOCK - 1) // BLOCK))
        return await _gather([self._block(number, min(BLOCK, size - number * BLOCK)) for number in numbers])

    async def tile_hashes(self, size: int) -> dict[tuple[int, int], bytes]:
        """Return the hashes in the tiles above level 0, by level and index."""
        found: dict[tuple[int, int], bytes] = {}
        level, count = 1, size // BLOCK
        while count:
            numbers = range((count + BLOCK - 1) // BLOCK)
            for start in range(0, len(numbers), CONCURRENT):
                part = [
                    TileId(level, number, min(BLOCK, count - number * BLOCK))
                    for number in numbers[start : start + CONCURRENT]
                ]
                contents = await _gather([self.tile(tile) for tile in part])
                if all(content is None for content in contents):
                    break  # a forged checkpoint can have any size
                for tile, content in zip(part, contents, strict=True):
                    hashes = _split(content)[: tile.width]
                    found |= {(level, tile.index * BLOCK + place): one for place, one in enumerate(hashes)}
            level, count = level + 1, count // BLOCK
        return found

    async def tile(self, tile: TileId) -> bytes | None:
        """Return the content of a tile or an entry bundle. If a partial tile is missing, the full tile has its
        content.
        """
        content = await self.source.read(compose_tile_key(self.origin, tile.path))
        if content is None and not tile.is_full:
            content = await self.source.read(compose_tile_key(self.origin, tile.full.path))
            if content is not None and tile.level != ENTRY_LEVEL:
                return content[: tile.width * HASH_BYTES]
            return None if content is None else content[: tile.width * (_ENTRY_BYTES + 2)]
        return content

    async def _block(self, number: int, width: int) -> PublishedBlock:
        tile, bundle = await asyncio.gather(
            self.tile(TileId(0, number, width)), self.tile(TileId(ENTRY_LEVEL, number, width))
        )
        hashes = None if tile is None else _split(tile)
        return PublishedBlock(number, width, hashes, None if bundle is None else _leaves(bundle, width))


def _split(content: bytes | None) -> tuple[bytes, ...]:
    try:
        return split_hashes(content or b"")
    except TransparencyLogError:
        return ()


def _leaves(bundle: bytes, width: int) -> tuple[bytes, ...]:
    try:
        return tuple(leaf_hash(entry) for entry in parse_entry_bundle(bundle, width))
    except TransparencyLogError:
        return ()


async def _gather(tasks: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*tasks))
