"""The objects of one log in one bucket. An object under `audit/` is written once and never replaced."""

import logging
from typing import Final

from app.audit.publishing.model import BucketLeaf, join_leaves, widest
from app.audit.sealing.model import LogKeys
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
from app.transparency_log.merkle import HASH_BYTES, split_hashes
from app.transparency_log.notes import LARGEST_NOTE_BYTES
from app.transparency_log.tiles import ENTRY_LEVEL, TILE_WIDTH, TileId, parse_entry_bundle

log = logging.getLogger(__name__)

_TILE_TYPE: Final = "application/octet-stream"
_NOTE_TYPE: Final = "text/plain; charset=utf-8"
_LARGEST_TILE_BYTES: Final = TILE_WIDTH * (HASH_BYTES + 2)


class BucketLog:
    """One log in one bucket. All methods raise UpstreamFailed and Timeout.

    `covered` is the size of a checkpoint that our key signed. The publisher stored the tiles of that checkpoint before
    the checkpoint itself, and the bucket locks them. If a wider tile has other hashes, somebody else stored it. The
    methods ignore such a tile. `is_different` is true once the bucket was found to contradict the log.
    """

    def __init__(self, storage: Storage, origin: str) -> None:
        self._storage = storage
        self._origin = origin
        self.covered = 0
        self.is_different = False

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
        self.is_different = True
        log.warning("a bucket lacks the newest published checkpoint of the audit log %s", self._origin)
        return 0

    async def find_covered_size(self, keys: LogKeys) -> int:
        """Return the size of the largest checkpoint that one of the keys signed and whose last tile is in the bucket,
        or 0. Lists all checkpoints of the log.
        """
        sizes = []
        async for page in self._storage.list_objects(f"{compose_audit_prefix(self._origin)}checkpoints/"):
            parsed = (parse_checkpoint_key(one.key) for one in page.objects)
            sizes += [one[1] for one in parsed if one is not None and one[0] == self._origin and one[1]]
        for size in sorted(sizes, reverse=True):
            note = await self.get_checkpoint(size) or b""
            try:
                is_signed = keys.read_checkpoint(note).size == size
            except TransparencyLogError:
                continue
            if is_signed and await self.get_hashes(_last_tile(size)) is not None:
                return size
        return 0

    async def find_leaf_tile(self, index: int) -> TileId | None:
        """Return the widest tile of level 0 with this index, or None if the bucket has none. The tile does not
        contradict the tiles of the checkpoint of `covered` leaves.
        """
        prefix = compose_tile_key(self._origin, TileId(0, index).path)
        found = []
        async for page in self._storage.list_objects(prefix):
            for one in page.objects:
                try:
                    found.append(TileId.parse(one.key.removeprefix(compose_tile_key(self._origin, ""))))
                except TransparencyLogError:
                    continue
        last = _last_tile(self.covered) if self.covered else None
        if last is None or index > last.index:
            return widest(found)
        if index < last.index:
            return TileId(0, index) if TileId(0, index) in found else None
        right = await self.get_hashes(last)
        for tile in sorted(found, key=lambda one: one.width, reverse=True):
            if right is not None and (await self.get_hashes(tile) or b"").startswith(right):
                return tile
            self.is_different = True
            log.warning("the bucket has a foreign tile of the audit log %s: %s", self._origin, tile.path)
        return None

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


def _last_tile(size: int) -> TileId:
    """Return the tile of level 0 in which the tree of `size` leaves ends."""
    index = (size - 1) // TILE_WIDTH
    return TileId(0, index, size - index * TILE_WIDTH)
