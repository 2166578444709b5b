"""Go's sumdb/note and sumdb/tlog accept our checkpoints, tiles, receipts and consistency proofs, and make the same
proofs from our tiles.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app.transparency_log.merkle import leaf_hash, tree_root
from app.transparency_log.proofs import TransparencyProof
from app.transparency_log.tiles import (
    consistency_proof,
    inclusion_proof,
    tiles_for_consistency,
    tiles_for_inclusion,
)
from tests.live import go_tlog
from tests.live.go_tlog import Claim
from tests.transparency_logs import START, PublishedLog, make_event

SIZES = (1, 2, 255, 256, 257, 4_095, 65_535, 65_536, 65_537, 66_049)
ENTRIES = [make_event(number).entry for number in range(SIZES[-1])]


def published(folder: Path, size: int) -> PublishedLog:
    """Return a published log with the first `size` events."""
    log = PublishedLog(folder)
    log.append(ENTRIES[:size])
    log.publish(START)
    return log


def inclusion(log: PublishedLog, index: int) -> Claim:
    """Return our proof of an event."""
    tiles = {tile: log.content(tile) for tile in tiles_for_inclusion(index, log.frontier.size)}
    return Claim(index, leaf_hash(ENTRIES[index]), inclusion_proof(index, log.frontier.size, tiles))


def consistency(log: PublishedLog, old_size: int) -> Claim:
    """Return our proof that the log extends an older tree."""
    tiles = {tile: log.content(tile) for tile in tiles_for_consistency(old_size, log.frontier.size)}
    old_root = tree_root(leaf_hash(entry) for entry in ENTRIES[:old_size])
    return Claim(old_size, old_root, consistency_proof(old_size, log.frontier.size, tiles))


def some(count: int, limit: int) -> list[int]:
    """Return the numbers below the limit that matter most, and some others."""
    edges = [one for one in (0, 1, 255, 256, 65_535, 65_536, limit - 1) if one < limit]
    chosen = random.Random(limit)  # noqa: S311 - the same numbers in each run
    return sorted({*edges, *(chosen.randrange(limit) for _ in range(count))})


@pytest.mark.parametrize("size", SIZES)
def test_go_makes_the_same_proofs_of_our_tiles(tmp_path: Path, size: int) -> None:
    log = published(tmp_path, size)
    inclusions = [inclusion(log, index) for index in some(12, size)]
    consistences = [consistency(log, old_size + 1) for old_size in some(6, size)]
    answer = go_tlog.check(
        log.home,
        log.signer.verifier_key.format(),
        log.checkpoint(START).format(),
        entry=ENTRIES[0],
        inclusions=inclusions,
        consistences=consistences,
    )
    assert answer.leaf_hash == leaf_hash(ENTRIES[0])
    assert answer.errors == [""] * (1 + len(inclusions) + len(consistences))
    assert answer.inclusions == proofs(inclusions)
    assert answer.consistences == proofs(consistences)


def proofs(claims: Sequence[Claim]) -> list[list[bytes]]:
    """Return the proofs of the claims."""
    return [list(claim.hashes) for claim in claims]


def test_go_accepts_the_proof_and_the_checkpoint_of_a_receipt(tmp_path: Path) -> None:
    log = published(tmp_path, 300)
    event = make_event(77)
    receipt = TransparencyProof.parse(log.receipt(77, event.salt).format())
    claim = Claim(receipt.index, leaf_hash(event.entry), receipt.hashes)
    vkey = log.signer.verifier_key.format()
    assert go_tlog.check(log.home, vkey, receipt.note.format(), inclusions=[claim]).errors == ["", ""]


def test_go_refuses_what_we_refuse(tmp_path: Path) -> None:
    log = published(tmp_path, 300)
    vkey, checkpoint = log.signer.verifier_key.format(), log.checkpoint(START).format()
    right, old = inclusion(log, 77), consistency(log, 200)
    answer = go_tlog.check(
        log.home,
        vkey,
        checkpoint,
        inclusions=[
            replace(right, index=78),
            replace(right, hash=bytes(32)),
            replace(right, hashes=right.hashes[1:]),
        ],
        consistences=[replace(old, hash=bytes(32)), replace(old, hashes=old.hashes[:-1])],
    )
    assert answer.errors[0] == ""
    assert all(answer.errors[1:])
    (forged,) = go_tlog.check(log.home, vkey, checkpoint.replace(b"\n300\n", b"\n301\n")).errors
    assert "invalid signature" in forged
    (unsigned,) = go_tlog.check(
        log.home, PublishedLog(tmp_path, seed=bytes(32)).signer.verifier_key.format(), checkpoint
    ).errors
    assert "no verifiable signatures" in unsigned


def test_go_refuses_a_changed_tile(tmp_path: Path) -> None:
    log = published(tmp_path, 300)
    path = log.home / "tile/0/000"
    path.write_bytes(bytes(32) + path.read_bytes()[32:])
    with pytest.raises(ValueError, match="downloaded inconsistent tile"):
        go_tlog.check(
            log.home,
            log.signer.verifier_key.format(),
            log.checkpoint(START).format(),
            inclusions=[inclusion(log, 7)],
        )
