"""The objects of one log in one bucket. An object under `audit/` is written once and never replaced."""

import logging
from typing import Final

from app.audit.publishing.model import BucketLeaf, join_leaves, widest
from app.bucket.object_keys import (
    compose_checkpoint_key,
    compose_latest_checkpoint_key,
    compose_tile_key,
)
from app.errors import UpstreamFailed
from app.integrations.storage.client import Storage
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.merkle import HASH_BYTES, split_hashes
from app.transparency_log.notes import LARGEST_NOTE_BYTES
from app.transparency_log.tiles import ENTRY_LEVEL, TILE_WIDTH, TileId, parse_entry_bundle

log = logging.getLogger(__name__)

_TILE_TYPE: Final = "application/octet-stream"
_NOTE_TYPE: Final = "text/plain; charset=utf-8"
_LARGEST_TILE_BYTES: Final = TILE_WIDTH * (HASH_BYTES + 2)


class BucketLog:
    """One log in one bucket. All methods raise UpstreamFailed and Timeout."""

    def __init__(self, storage: Storage, origin: str) -> None:
        self._storage = storage
        self._origin = origin

    async def put_tile(self, tile: TileId, content: bytes) -> bool:
        """Store a tile or an entry bundle, unless an earlier attempt stored it. Return False if the bucket has other
        bytes under this key.
        """
        key = compose_tile_key(self._origin, tile.path)
        if await self._storage.put_new(key, content, _TILE_TYPE):
            return True
        return await self._get(key, _LARGEST_TILE_BYTES) == content

    async def put_checkpoint(self, size: int, note: bytes) -> bytes:
        """Store a checkpoint, unless the bucket has one of this size. Return the checkpoint that the bucket has."""
        key = compose_checkpoint_key(self._origin, size)
        if await self._storage.put_new(key, note, _NOTE_TYPE):
            return note
        return await self._get(key, LARGEST_NOTE_BYTES) or b""

    async def put_latest(self, note: bytes) -> None:
        """Replace the copy of the newest checkpoint, which clients of tlog-tiles read."""
        await self._storage.put_replacing(compose_latest_checkpoint_key(self._origin), note, _NOTE_TYPE)

    async def get_checkpoint(self, size: int) -> bytes | None:
        """Return the checkpoint of this size, or None if the bucket has none."""
        return await self._get(compose_checkpoint_key(self._origin, size), LARGEST_NOTE_BYTES)

    async def confirm_published(self, size: int) -> int:
        """Return the size of the newest published checkpoint if the bucket has this checkpoint, and 0 if it does not,
        for example because the bucket is a new one.
        """
        if not size or await self.get_checkpoint(size) is not None:
            return size
        log.error("a bucket lacks the newest published checkpoint of the audit log %s", self._origin)
        return 0

    async def find_leaf_tile(self, index: int) -> TileId | None:
        """Return the widest tile of level 0 with this index, or None if the bucket has none."""
        prefix = compose_tile_key(self._origin, TileId(0, index).path)
        found = []
        async for page in self._storage.list_objects(prefix):
            for one in page.objects:
                try:
                    found.append(TileId.parse(one.key.removeprefix(compose_tile_key(self._origin, ""))))
                except TransparencyLogError:
                    continue
        return widest(found)

    async def get_hashes(self, tile: TileId) -> bytes | None:
        """Return the hashes of a tile. Return None if the object is gone, or is not a tile of this width."""
        content = await self._get(compose_tile_key(self._origin, tile.path), _LARGEST_TILE_BYTES)
        return content if content is not None and len(content) == tile.width * HASH_BYTES else None

    async def get_leaves(self, tile: TileId) -> list[BucketLeaf] | None:
        """Return the leaves of a tile of level 0 with their entries, or None as `get_hashes`."""
        hashes = await self.get_hashes(tile)
        if hashes is None:
            return None
        bundle = TileId(ENTRY_LEVEL, tile.index, tile.width)
        content = await self._get(compose_tile_key(self._origin, bundle.path), _LARGEST_TILE_BYTES)
        try:
            entries = None if content is None else parse_entry_bundle(content, tile.width)
        except TransparencyLogError:
            entries = None
        return join_leaves(split_hashes(hashes), entries)

    async def _get(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the object. An object that is too large is foreign, and its content is returned as empty."""
        try:
            return await self._storage.get_small(key, limit_bytes)
        except UpstreamFailed as error:
            if error.reason != "storage_object_too_large":
                raise
            return b""
