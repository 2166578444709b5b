"""C2SP tlog-tiles: the paths of tiles and entry bundles, and proofs from the content of tiles.

A tile holds 256 consecutive hashes of one level, a partial tile of width W the first W of them. A proof needs only
the tiles that `tiles_for_inclusion` or `tiles_for_consistency` names. A full tile may replace a partial tile: the
caller then passes the first `width` hashes of the full tile as the content of the partial tile.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from app.transparency_log.errors import ProofError, TileError
from app.transparency_log.merkle import HASH_BYTES, TILE_HEIGHT, Frontier, node_hash, split_hashes

TILE_WIDTH: Final = 1 << TILE_HEIGHT
ENTRY_LEVEL: Final = -1
"""The `level` of an entry bundle."""

LARGEST_ENTRY_BYTES: Final = 0xFFFF
_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)
_LARGEST_LEVEL: Final = 63


@dataclass(frozen=True, order=True)
class TileId:
    """The name of a tile or, with the level ENTRY_LEVEL, of an entry bundle."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def is_full(self) -> bool:
        """Say whether the tile has all 256 hashes or entries."""
        return self.width == TILE_WIDTH

    @property
    def full(self) -> Self:
        """Return the name of the full tile with the same level and index."""
        return type(self)(self.level, self.index)

    @property
    def path(self) -> str:
        """Return the path below the log's prefix, such as `tile/0/x001/067.p/8`."""
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        level = "entries" if self.level == ENTRY_LEVEL else str(self.level)
        partial = "" if self.is_full else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Return the tile with this path. Raises TileError for every other text."""
        found = _PATH.fullmatch(path)
        if not found:
            raise TileError("the path is not the path of a tile")
        level, groups, width = found.groups()
        tile = cls(
            ENTRY_LEVEL if level == "entries" else int(level),
            int(groups.replace("x", "").replace("/", "")),
            int(width or TILE_WIDTH),
        )
        if tile.path != path or tile.level > _LARGEST_LEVEL:
            raise TileError("the path is not the path of a tile")
        return tile


def tiles_of_tree(size: int, published: int = 0) -> Iterator[TileId]:
    """Yield the tiles and entry bundles of a tree of `size` leaves that a publication of the tree of `published`
    leaves lacks: first all full tiles and bundles, then the partial ones.
    """
    levels = (ENTRY_LEVEL, *range((max(size, 1).bit_length() + TILE_HEIGHT - 1) // TILE_HEIGHT))
    for level in levels:
        shift = TILE_HEIGHT * (max(level, 0) + 1)
        yield from (TileId(level, index) for index in range(published >> shift, size >> shift))
    for level in levels:
        count = size >> TILE_HEIGHT * max(level, 0)
        if count % TILE_WIDTH and size != published:
            yield TileId(level, count // TILE_WIDTH, count % TILE_WIDTH)


def tiles_for_root(size: int) -> set[TileId]:
    """Return the tiles that `root_from_tiles` needs."""
    return _tiles_of(_split(0, size), size)


def root_from_tiles(size: int, tiles: Mapping[TileId, bytes]) -> bytes:
    """Return the root of the tree of `size` leaves. Raises TileError."""
    return frontier_from_tiles(size, tiles).root


def frontier_from_tiles(size: int, tiles: Mapping[TileId, bytes]) -> Frontier:
    """Return the frontier of the tree of `size` leaves, from the tiles of `tiles_for_root`. Raises TileError."""
    return Frontier(size, tuple(_subtree_hash(*one, size, tiles) for one in _split(0, size)))


def tiles_for_inclusion(index: int, size: int) -> set[TileId]:
    """Return the tiles that `inclusion_proof` needs. Raises ProofError if the index is outside the tree."""
    return {tile for part in _inclusion_parts(index, size) for tile in _tiles_of(part, size)}


def inclusion_proof(index: int, size: int, tiles: Mapping[TileId, bytes]) -> list[bytes]:
    """Return the inclusion proof of the leaf `index` in the tree of `size` leaves, from the leaf's sibling up. Raises
    ProofError for an index outside the tree, and TileError.
    """
    return [_range_hash(part, size, tiles) for part in _inclusion_parts(index, size)]


def tiles_for_consistency(old_size: int, new_size: int) -> set[TileId]:
    """Return the tiles that `consistency_proof` needs. Raises ProofError."""
    return {tile for part in _consistency_parts(old_size, new_size) for tile in _tiles_of(part, new_size)}


def consistency_proof(old_size: int, new_size: int, tiles: Mapping[TileId, bytes]) -> list[bytes]:
    """Return the proof that the tree of `new_size` leaves extends the tree of `old_size` leaves. It is empty if the
    sizes are equal or the old tree is empty. Raises ProofError if the old tree is larger, and TileError.
    """
    return [_range_hash(part, new_size, tiles) for part in _consistency_parts(old_size, new_size)]


def format_entry_bundle(entries: Iterable[bytes]) -> bytes:
    """Return the content of an entry bundle. Raises TileError for an entry of more than 65,535 bytes."""
    content = bytearray()
    for entry in entries:
        if len(entry) > LARGEST_ENTRY_BYTES:
            raise TileError("an entry is longer than 65,535 bytes")
        content += len(entry).to_bytes(2, "big") + entry
    return bytes(content)


def parse_entry_bundle(content: bytes, width: int = TILE_WIDTH) -> list[bytes]:
    """Return the `width` entries of an entry bundle. Raises TileError."""
    entries, place = list[bytes](), 0
    while place < len(content):
        end = place + 2 + int.from_bytes(content[place : place + 2], "big")
        if end > len(content) or place + 2 > len(content):
            raise TileError("the entry bundle ends inside an entry")
        entries.append(content[place + 2 : end])
        place = end
    if len(entries) != width:
        raise TileError("the entry bundle has another number of entries than its width")
    return entries


_Subtree = tuple[int, int]
"""The height of a perfect subtree, and its number among the subtrees of this height."""


def _split(start: int, end: int) -> list[_Subtree]:
    """Return the perfect subtrees of the leaves from `start` to `end`, the leftmost and largest first. `start` is a
    multiple of the largest subtree, as it is for each range in a proof.
    """
    subtrees = []
    while start < end:
        height = (end - start).bit_length() - 1
        subtrees.append((height, start >> height))
        start += 1 << height
    return subtrees


def _inclusion_parts(index: int, size: int) -> list[list[_Subtree]]:
    """Return the ranges of an inclusion proof, each as its perfect subtrees, from the leaf's sibling up."""
    if not 0 <= index < size:
        raise ProofError("the index is outside the tree")
    parts, start, end = [], 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if index < middle:
            parts.append(_split(middle, end))
            end = middle
        else:
            parts.append(_split(start, middle))
            start = middle
    return parts[::-1]


def _consistency_parts(old_size: int, new_size: int) -> list[list[_Subtree]]:
    """Return the ranges of a consistency proof (RFC 6962, 2.1.2), each as its perfect subtrees."""
    if not 0 <= old_size <= new_size:
        raise ProofError("the old tree is larger than the new tree")
    if old_size in (0, new_size):
        return []
    parts, start, end = [], 0, new_size
    while old_size != end:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if old_size <= middle:
            parts.append(_split(middle, end))
            end = middle
        else:
            parts.append(_split(start, middle))
            start = middle
    return ([] if start == 0 else [_split(start, end)]) + parts[::-1]


def _tile_of(height: int, number: int, size: int) -> tuple[TileId, int, int]:
    """Return the tile below a perfect subtree, and the range of the tile's hashes whose root is the subtree's."""
    level, inside = divmod(height, TILE_HEIGHT)
    first = number << inside
    index, place = divmod(first, TILE_WIDTH)
    width = min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH)
    return TileId(level, index, width), place, place + (1 << inside)


def _tiles_of(subtrees: Sequence[_Subtree], size: int) -> set[TileId]:
    return {_tile_of(height, number, size)[0] for height, number in subtrees}


def _subtree_hash(height: int, number: int, size: int, tiles: Mapping[TileId, bytes]) -> bytes:
    tile, start, end = _tile_of(height, number, size)
    content = tiles.get(tile)
    if content is None:
        raise TileError("a tile is missing")
    if len(content) != tile.width * HASH_BYTES:
        raise TileError("a tile has another number of hashes than its width")
    hashes = split_hashes(content[start * HASH_BYTES : end * HASH_BYTES])
    while len(hashes) > 1:
        hashes = tuple(node_hash(*pair) for pair in list(pairwise(hashes))[::2])
    return hashes[0]


def _range_hash(subtrees: Sequence[_Subtree], size: int, tiles: Mapping[TileId, bytes]) -> bytes:
    hashes = [_subtree_hash(height, number, size, tiles) for height, number in subtrees]
    root = hashes.pop()
    while hashes:
        root = node_hash(hashes.pop(), root)
    return root
