"""Grows the tree of one copy of a log, and compares its roots with the signed roots. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Self, TypeVar

from app.transparency_log.merkle import Frontier, SubtreeRoot

MAX_DIFFERING: Final = 1000
_EMPTY: Final = Frontier()


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """A root that the log's key signed. `source` says where the checkpoint was found."""

    size: int
    root: bytes
    source: str


_Tree = TypeVar("_Tree", bound="TreeCheck")


@dataclass(frozen=True)
class TreeCheck:
    """The tree of one copy of a log, compared with the signed roots, which are in the order of their sizes.

    `frontier` is None after a leaf hash that nobody knows: then no later root can be computed. `agreed_size` is the
    largest size whose root is signed. `differing` lists at most MAX_DIFFERING of the `differing_count` signed roots
    that the tree does not have.
    """

    signed: Sequence[SignedRoot]
    frontier: Frontier | None = _EMPTY
    next_signed: int = 0
    agreed_size: int = 0
    differing: tuple[SignedRoot, ...] = ()
    differing_count: int = 0

    @property
    def size(self) -> int:
        """Return the number of leaves, up to the first unknown leaf hash."""
        return 0 if self.frontier is None else self.frontier.size

    def extend(self, leaves: Sequence[bytes]) -> tuple[Self, list[SubtreeRoot]]:
        """Return the tree after these leaf hashes, and the full subtrees that they completed."""
        if self.frontier is None:
            return self, []
        tree, completed, place = self, list[SubtreeRoot](), 0
        end = self.frontier.size + len(leaves)
        while place < len(leaves):
            tree = _compare_signed(tree)
            frontier = tree.frontier or Frontier()
            ahead = tree.signed[tree.next_signed].size if tree.next_signed < len(tree.signed) else end
            taken = min(end, max(ahead, frontier.size + 1)) - frontier.size
            grown, roots = frontier.extend_with_roots(leaves[place : place + taken])
            tree, place = replace(tree, frontier=grown), place + taken
            completed += roots
        return _compare_signed(tree), completed

    def lose(self) -> Self:
        """Return the tree after a leaf hash that nobody knows."""
        return replace(self, frontier=None)

    def agrees(self, leaves: Sequence[bytes]) -> bool | None:
        """Return whether the signed roots of the sizes up to the end of these leaves are the tree's. Return None if
        no root is signed there.
        """
        grown = self.extend(leaves)[0]
        if grown.next_signed == self.next_signed:
            return None
        return grown.differing_count == self.differing_count


def _compare_signed(tree: _Tree) -> _Tree:
    """Compare the root with every signed root of this size."""
    while (
        tree.frontier is not None
        and tree.next_signed < len(tree.signed)
        and tree.signed[tree.next_signed].size <= tree.frontier.size
    ):
        tree = _compare_one(tree, tree.signed[tree.next_signed], tree.frontier)
    return tree


def _compare_one(tree: _Tree, signed: SignedRoot, frontier: Frontier) -> _Tree:
    following = tree.next_signed + 1
    if signed.size == frontier.size and signed.root == frontier.root:
        return replace(tree, next_signed=following, agreed_size=max(signed.size, tree.agreed_size))
    return replace(
        tree,
        next_signed=following,
        differing=(*tree.differing, signed)[:MAX_DIFFERING],
        differing_count=tree.differing_count + 1,
    )


def subtree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree with these leaf hashes."""
    return Frontier().extend(leaves).root


def sort_signed(roots: Iterable[SignedRoot]) -> list[SignedRoot]:
    """Return the signed roots in the order of their sizes, without repetitions."""
    return sorted(set(roots), key=lambda one: (one.size, one.source, one.root))


def contradictions(roots: Sequence[SignedRoot]) -> list[SignedRoot]:
    """Return the signed roots that differ from another signed root of the same size."""
    return [
        later
        for earlier, later in pairwise(roots)
        if earlier.size == later.size and earlier.root != later.root
    ]


TileHashes = Mapping[tuple[int, int], bytes]
"""The roots of full subtrees, as stored in tiles of level 1 and above, by (level, index)."""
