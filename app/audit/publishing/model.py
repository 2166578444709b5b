"""The published state of a log, the tiles of a publication, and the leaves that a log adopts. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from app.audit.sealing.model import LogKeys
from app.transparency_log.checkpoints import Checkpoint, sign_checkpoint
from app.transparency_log.merkle import HASH_BYTES, Frontier, leaf_hash
from app.transparency_log.tiles import (
    ENTRY_LEVEL,
    TILE_WIDTH,
    TileId,
    format_entry_bundle,
    tiles_of_tree,
)

TILE_SHIFT: Final = 8


@dataclass(frozen=True)
class PublishedLog:
    """A log with its newest checkpoint in the database, in the bucket and in the second bucket."""

    log_year: int
    origin: str
    size: int
    checkpoint: str = field(repr=False)
    published_size: int
    published_checkpoint: str | None = field(repr=False)
    is_due: bool
    second_size: int


@dataclass(frozen=True)
class LogSizes:
    """The size of a log in the database, and of its newest checkpoint in the bucket."""

    log_year: int
    size: int
    published_size: int


@dataclass(frozen=True)
class SealedEvent:
    """The event of a leaf."""

    event_id: UUID
    recorded_at: datetime


@dataclass(frozen=True)
class BucketLeaf:
    """A leaf in the bucket. `entry` is None if the bucket has no entry bundle for it."""

    hash: bytes
    entry: bytes | None


def list_tiles_to_publish(size: int, published: int) -> tuple[list[TileId], list[TileId]]:
    """Return the entry bundles, and the tiles, that the bucket lacks for the tree of `size` leaves if it has those for
    `published` leaves. A partial tile of an upper level is left out if the bucket has it already.
    """
    missing = [tile for tile in tiles_of_tree(size, published) if not _is_published(tile, size, published)]
    bundles = [tile for tile in missing if tile.level == ENTRY_LEVEL]
    return bundles, [tile for tile in missing if tile.level != ENTRY_LEVEL]


def _is_published(tile: TileId, size: int, published: int) -> bool:
    shift = TILE_SHIFT * max(tile.level, 0)
    return not tile.is_full and size >> shift == published >> shift


def format_tile(tile: TileId, content: bytes | None) -> bytes | None:
    """Return the bytes of the object for the hashes or entries that the database has. Return None if the database lacks
    some of them.
    """
    if content is None or len(content) != tile.width * HASH_BYTES:
        return None
    if tile.level != ENTRY_LEVEL:
        return content
    return format_entry_bundle(
        content[place : place + HASH_BYTES] for place in range(0, len(content), HASH_BYTES)
    )


def find_difference(ours: bytes, theirs: bytes) -> int | None:
    """Return the position of the first hash that differs between two tiles. Return the number of our hashes if the
    bucket's tile begins with them and has more. Return None if our tile begins with the bucket's.
    """
    for place in range(0, min(len(ours), len(theirs)), HASH_BYTES):
        if ours[place : place + HASH_BYTES] != theirs[place : place + HASH_BYTES]:
            return place // HASH_BYTES
    return len(ours) // HASH_BYTES if len(theirs) > len(ours) else None


def join_leaves(hashes: Sequence[bytes], entries: Sequence[bytes] | None) -> list[BucketLeaf]:
    """Return the leaves of a tile with their entries. An entry that does not belong to its hash is left out."""
    if entries is None or len(entries) != len(hashes):
        return [BucketLeaf(one, None) for one in hashes]
    return [
        BucketLeaf(one, entry if leaf_hash(entry) == one else None)
        for one, entry in zip(hashes, entries, strict=True)
    ]


def compose_adoption(
    keys: LogKeys,
    tree: Frontier,
    known_size: int,
    leaves: Sequence[BucketLeaf],
    events: Mapping[bytes, SealedEvent],
) -> dict[str, object]:
    """Return the parameters of the statement that appends the bucket's leaves to the tree before them, and stores the
    signed checkpoint.
    """
    larger, roots = tree.extend_with_roots(leaf.hash for leaf in leaves)
    note = sign_checkpoint(Checkpoint(keys.origin, larger.size, larger.root), keys.signer)
    found = [events.get(leaf.hash) for leaf in leaves]
    return {
        "origin": keys.origin,
        "known_size": known_size,
        "first_index": tree.size,
        "event_ids": [None if one is None else one.event_id for one in found],
        "recorded_ats": [None if one is None else one.recorded_at for one in found],
        "entries": [leaf.entry for leaf in leaves],
        "leaf_hashes": [leaf.hash for leaf in leaves],
        "tile_levels": [root.level for root in roots],
        "tile_indexes": [root.index for root in roots],
        "tile_hashes": [root.hash for root in roots],
        "frontier": larger.to_bytes(),
        "note": note.format().decode(),
        "signer": keys.signer.verifier_key.format(),
    }


def count_objects_in_a_year(publications: int, events: int) -> int:
    """Return the maximum number of locked objects that one log adds in a year: for each publication a checkpoint, and a
    partial tile and a partial entry bundle; for each 256 events a full tile, a full entry bundle and a partial tile of
    level 1; and for each 65,536 events the same on the next levels.
    """
    objects = publications * 3 + 2 * (events // TILE_WIDTH)
    while events := events // TILE_WIDTH:
        objects += events + events // TILE_WIDTH
    return objects


def widest(tiles: Iterable[TileId]) -> TileId | None:
    """Return the tile with the most hashes, or None if there is none."""
    return max(tiles, key=lambda tile: tile.width, default=None)
