"""The Merkle tree of RFC 6962: hashes of leaves and nodes, the frontier of a growing tree, and the verification of
inclusion and consistency proofs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from app.transparency_log.errors import ProofError, TransparencyLogError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of a tree without leaves."""

TILE_HEIGHT: Final = 8
"""A full tile spans a subtree of this height, so it has 256 hashes."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of the leaf that holds `entry`."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two hashes."""
    return sha256(b"\1" + left + right).digest()


@dataclass(frozen=True)
class SubtreeRoot:
    """The root of the full subtree of 256^level leaves with the number `index`. C2SP's tile (level, index // 256)
    has this hash in the place index % 256. `level` is at least 1.
    """

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True)
class Frontier:
    """The roots of the perfect subtrees of a tree of `size` leaves, the largest first: one for each bit that is 1 in
    `size`. A frontier is enough to append leaves and to compute the root.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raise TransparencyLogError unless the number and the length of the hashes fit the size."""
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise TransparencyLogError("the frontier does not have the hashes of its size")
        if any(len(one) != HASH_BYTES for one in self.hashes):
            raise TransparencyLogError("a hash of the frontier does not have 32 bytes")

    def append(self, leaf: bytes) -> Self:
        """Return the frontier after one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> Self:
        """Return the frontier after these leaf hashes."""
        return self.extend_with_roots(leaves)[0]

    def extend_with_roots(self, leaves: Iterable[bytes]) -> tuple[Self, list[SubtreeRoot]]:
        """Return the frontier after these leaf hashes, and the root of each subtree of 256^level leaves (level at
        least 1) that these leaves completed, in the order of their completion.
        """
        size, hashes, completed = self.size, list(self.hashes), list[SubtreeRoot]()
        for leaf in leaves:
            size += 1
            hashes.append(leaf)
            for height in range(1, (size & -size).bit_length()):
                right = hashes.pop()
                hashes[-1] = node_hash(hashes[-1], right)
                if height % TILE_HEIGHT == 0:
                    root = SubtreeRoot(height // TILE_HEIGHT, (size >> height) - 1, hashes[-1])
                    completed.append(root)
        return type(self)(size, tuple(hashes)), completed

    @property
    def root(self) -> bytes:
        """Return the root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Return the hashes, one after the other. The size is stored beside them."""
        return b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, size: int, content: bytes) -> Self:
        """Return the frontier of a tree of `size` leaves from `to_bytes`. Raises TransparencyLogError."""
        return cls(size, split_hashes(content))


def split_hashes(content: bytes) -> tuple[bytes, ...]:
    """Return the hashes of 32 bytes in `content`. Raises TransparencyLogError if the length does not fit."""
    if len(content) % HASH_BYTES:
        raise TransparencyLogError("the content is not a sequence of 32-byte hashes")
    return tuple(content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES))


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree with these leaf hashes."""
    return Frontier().extend(leaves).root


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Verify that the tree of `size` leaves with this root has the leaf hash `leaf` at `index` (RFC 9162, 2.1.3.2).
    Raises ProofError.
    """
    if not 0 <= index < size:
        raise ProofError("the index is outside the tree")
    _require_hashes((leaf, root, *proof))
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last or computed != root:
        raise ProofError("the inclusion proof does not lead to the root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify that the tree of `new_size` leaves extends the tree of `old_size` leaves (RFC 9162, 2.1.4.2). The proof
    is empty if the sizes are equal or the old tree is empty. Raises ProofError.
    """
    if not 0 <= old_size <= new_size:
        raise ProofError("the old tree is larger than the new tree")
    _require_hashes((old_root, new_root, *proof))
    if old_size in (0, new_size):
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if proof or old_root != expected:
            raise ProofError("the two roots are not consistent")
        return
    hashes = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not hashes:
        raise ProofError("the consistency proof is too short")
    if _fold_consistency(old_size - 1, new_size - 1, hashes) != (old_root, new_root):
        raise ProofError("the two roots are not consistent")


def _fold_consistency(position: int, last: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of the old and the new tree that the proof computes. Raises ProofError."""
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise ProofError("the consistency proof is too short")
    return old, new


def _require_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofError("a hash does not have 32 bytes")
