"""Tests of the Merkle tree and of the tiles against RFC 6962: its test vectors, and its recursive definitions."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.transparency_log.errors import ProofError, TileError, TransparencyLogError
from app.transparency_log.merkle import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from app.transparency_log.tiles import (
    ENTRY_LEVEL,
    TileId,
    consistency_proof,
    format_entry_bundle,
    inclusion_proof,
    parse_entry_bundle,
    root_from_tiles,
    tiles_for_consistency,
    tiles_for_inclusion,
    tiles_for_root,
    tiles_of_tree,
)

# The entries and roots of the tests of the Certificate Transparency reference implementation.
ENTRIES = [
    bytes.fromhex(one)
    for one in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAVES = [leaf_hash(b"%d" % number) for number in range(70_000)]
SIZES = st.one_of(st.integers(1, 600), st.sampled_from([256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000]))


def define_root(leaves: list[bytes]) -> bytes:
    """Return MTH(D) of RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(define_root(leaves[:split]), define_root(leaves[split:]))


def define_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]) of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*define_path(index, leaves[:split]), define_root(leaves[split:])]
    return [*define_path(index - split, leaves[split:]), define_root(leaves[:split])]


def define_consistency(old: int, leaves: list[bytes], *, is_whole: bool = True) -> list[bytes]:
    """Return SUBPROOF(m, D[n], b) of RFC 6962, section 2.1.2."""
    if old == len(leaves):
        return [] if is_whole else [define_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*define_consistency(old, leaves[:split], is_whole=is_whole), define_root(leaves[split:])]
    return [*define_consistency(old - split, leaves[split:], is_whole=False), define_root(leaves[:split])]


class Tiles(dict[TileId, bytes]):
    """The tiles of a tree with the first `size` leaves of LEAVES."""

    def __init__(self, size: int) -> None:
        super().__init__()
        _, completed = Frontier().extend_with_roots(LEAVES[:size])
        levels = {0: LEAVES[:size]}
        for one in completed:
            assert one.index == len(levels.setdefault(one.level, []))
            levels[one.level].append(one.hash)
        for tile in tiles_of_tree(size):
            if tile.level != ENTRY_LEVEL:
                hashes = levels[tile.level][tile.index * 256 :][: tile.width]
                assert len(hashes) == tile.width
                self[tile] = b"".join(hashes)


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_implementation(size: int) -> None:
    assert tree_root(leaf_hash(entry) for entry in ENTRIES[:size]).hex() == ROOTS[size]


def test_the_empty_tree_has_the_hash_of_nothing_as_its_root() -> None:
    assert Frontier().root == EMPTY_ROOT == sha256(b"").digest()


@given(size=st.integers(0, 600), cut=st.integers(0, 600))
@settings(max_examples=60, deadline=None)
def test_a_frontier_grows_to_the_root_of_all_leaves(size: int, cut: int) -> None:
    first = Frontier().extend(LEAVES[: min(cut, size)])
    stored = Frontier.from_bytes(first.size, first.to_bytes())
    assert stored.extend(LEAVES[min(cut, size) : size]).root == define_root(LEAVES[:size])
    assert first.append(LEAVES[0]) == first.extend(LEAVES[:1])


@pytest.mark.parametrize(("size", "content"), [(1, b""), (3, b"\0" * 32), (2, b"\0" * 31), (0, b"\0" * 32)])
def test_a_frontier_refuses_hashes_of_another_size(size: int, content: bytes) -> None:
    with pytest.raises(TransparencyLogError):
        Frontier.from_bytes(size, content)


@given(data=st.data(), size=SIZES)
@settings(max_examples=60, deadline=None)
def test_inclusion_proofs_from_tiles_are_those_of_the_definition(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    tiles = Tiles(size)
    root = define_root(LEAVES[:size])
    needed = {tile: tiles[tile] for tile in tiles_for_inclusion(index, size)}
    proof = inclusion_proof(index, size, needed)
    assert proof == define_path(index, LEAVES[:size])
    verify_inclusion(LEAVES[index], index, size, proof, root)
    assert root_from_tiles(size, {tile: tiles[tile] for tile in tiles_for_root(size)}) == root


@given(data=st.data(), size=SIZES)
@settings(max_examples=60, deadline=None)
def test_consistency_proofs_from_tiles_are_those_of_the_definition(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(1, size))
    tiles = Tiles(size)
    needed = {tile: tiles[tile] for tile in tiles_for_consistency(old, size)}
    proof = consistency_proof(old, size, needed)
    assert proof == define_consistency(old, LEAVES[:size])
    verify_consistency(old, define_root(LEAVES[:old]), size, define_root(LEAVES[:size]), proof)


@given(data=st.data(), size=st.integers(1, 70))
@settings(max_examples=200, deadline=None)
def test_a_changed_inclusion_proof_does_not_verify(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, root = define_path(index, LEAVES[:size]), define_root(LEAVES[:size])
    changes = [
        (index, size, [*proof, LEAVES[0]]),
        (data.draw(st.integers(-1, size).filter(lambda other: other != index)), size, proof),
        *((index, size, proof[:-1]) for _ in proof[:1]),
        *((index, size, [bytes(32), *proof[1:]]) for _ in proof[:1]),
    ]
    for other, of, hashes in changes:
        with pytest.raises(ProofError):
            verify_inclusion(LEAVES[index], other, of, hashes, root)
    with pytest.raises(ProofError):
        verify_inclusion(bytes(32), index, size, proof, root)


@given(data=st.data(), size=st.integers(2, 70))
@settings(max_examples=200, deadline=None)
def test_a_changed_consistency_proof_does_not_verify(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(1, size - 1))
    proof, old_root, root = (
        define_consistency(old, LEAVES[:size]),
        define_root(LEAVES[:old]),
        define_root(LEAVES[:size]),
    )
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = [*proof[:place], bytes(32), *proof[place + 1 :]]
    for first, second, hashes in (
        (old_root, root, changed),
        (old_root, root, proof[:-1]),
        (old_root, root, [*proof, bytes(32)]),
        (bytes(32), root, proof),
        (old_root, bytes(32), proof),
    ):
        with pytest.raises(ProofError):
            verify_consistency(old, first, size, second, hashes)


def test_the_consistency_with_an_empty_or_an_equal_tree_needs_no_proof() -> None:
    root = define_root(LEAVES[:5])
    verify_consistency(0, EMPTY_ROOT, 5, root, [])
    verify_consistency(5, root, 5, root, [])
    assert consistency_proof(0, 5, {}) == consistency_proof(5, 5, {}) == []
    for old, old_root, new, proof in (
        (0, root, 5, []),
        (5, EMPTY_ROOT, 5, []),
        (5, root, 5, [root]),
        (6, root, 5, []),
    ):
        with pytest.raises(ProofError):
            verify_consistency(old, old_root, new, root, proof)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (TileId(0, 0), "tile/0/000"),
        (TileId(1, 1_234_067, 8), "tile/1/x001/x234/067.p/8"),
        (TileId(63, 999, 255), "tile/63/999.p/255"),
        (TileId(ENTRY_LEVEL, 1000), "tile/entries/x001/000"),
    ],
)
def test_the_path_of_a_tile_is_that_of_tlog_tiles(tile: TileId, path: str) -> None:
    assert tile.path == path
    assert TileId.parse(path) == tile


@given(st.builds(TileId, st.integers(ENTRY_LEVEL, 63), st.integers(0, 2**55), st.integers(1, 256)))
def test_every_path_is_parsed_as_its_tile(tile: TileId) -> None:
    assert TileId.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/data/000",
        "tile/0/000/",
        "tile/0/\u0660\u0660\u0660",
        "checkpoint",
        "",
    ],
)
def test_another_path_is_refused(path: str) -> None:
    with pytest.raises(TileError):
        TileId.parse(path)


def test_the_tiles_of_a_tree_are_those_of_the_specification() -> None:
    """The example of tlog-tiles: 70,000 leaves."""
    tiles = [tile for tile in tiles_of_tree(70_000) if tile.level != ENTRY_LEVEL]
    assert sum(tile.is_full for tile in tiles if tile.level == 0) == 273
    assert [tile for tile in tiles if tile.level > 0 or not tile.is_full] == [
        TileId(1, 0),
        TileId(0, 273, 112),
        TileId(1, 1, 17),
        TileId(2, 0, 1),
    ]
    assert set(tiles_of_tree(256)) == {TileId(ENTRY_LEVEL, 0), TileId(0, 0), TileId(1, 0, 1)}
    assert list(tiles_of_tree(0)) == list(tiles_of_tree(700, 700)) == []


@given(old=st.integers(0, 70_000), more=st.integers(0, 700))
@settings(deadline=None)
def test_publishing_in_steps_gives_every_tile(old: int, more: int) -> None:
    new = {*tiles_of_tree(old), *tiles_of_tree(old + more, old)}
    assert new >= set(tiles_of_tree(old + more))


def test_a_missing_or_short_tile_is_named() -> None:
    tiles = Tiles(300)
    with pytest.raises(TileError):
        inclusion_proof(0, 300, {})
    short = {tile: content[:-32] for tile, content in tiles.items()}
    with pytest.raises(TileError):
        inclusion_proof(0, 300, short)
    with pytest.raises(ProofError):
        tiles_for_inclusion(300, 300)
    with pytest.raises(ProofError):
        tiles_for_consistency(301, 300)


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_an_entry_bundle_keeps_its_entries(entries: list[bytes]) -> None:
    content = format_entry_bundle(entries)
    assert parse_entry_bundle(content, len(entries)) == entries
    for changed in (content[:-1], content + b"\0"):
        if entries or changed:
            with pytest.raises(TileError):
                parse_entry_bundle(changed, len(entries))


def test_an_entry_of_more_than_65535_bytes_is_refused() -> None:
    assert parse_entry_bundle(format_entry_bundle([bytes(65_535)]), 1) == [bytes(65_535)]
    with pytest.raises(TileError):
        format_entry_bundle([bytes(65_536)])
