"""Builds the files of a transparency log, as the publisher uploads them, for tests of the verifiers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from app.transparency_log.checkpoints import Checkpoint, Ed25519Cosigner, Ed25519Signer, sign_checkpoint
from app.transparency_log.events import compute_entry
from app.transparency_log.merkle import Frontier, leaf_hash
from app.transparency_log.notes import SignedNote
from app.transparency_log.policies import Group, Policy, Witness
from app.transparency_log.proofs import TransparencyProof
from app.transparency_log.tiles import (
    ENTRY_LEVEL,
    TileId,
    format_entry_bundle,
    inclusion_proof,
    tiles_for_inclusion,
    tiles_of_tree,
)

DEPLOYMENT = "resguardo/test"
START = 1_772_323_200
"""2026-03-01T00:00:00Z. The event with the index n is recorded n seconds later."""

SEED = bytes(range(32))


@dataclass(frozen=True)
class Event:
    """An event in its canonical form, with its salt."""

    salt: bytes
    canonical: bytes

    @property
    def entry(self) -> bytes:
        """Return the log entry."""
        return compute_entry(self.salt, self.canonical)


def make_event(number: int, *, second: int | None = None, digest: str | None = None) -> Event:
    """Return an event that happened `second` seconds after START, by default `number` seconds."""
    seconds = START + (number if second is None else second)
    day, rest = divmod(seconds - START, 86_400)
    time = f"2026-03-{day + 1:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}.000000Z"
    event = {"action": "recording.read", "digest": digest, "id": str(UUID(int=number)), "recorded_at": time}
    salt = sha256(b"salt %d" % number).digest()[:16]
    return Event(salt, json.dumps(event, separators=(",", ":"), sort_keys=True).encode())


@dataclass
class PublishedLog:
    """A log of one year with its signer and two witnesses. `folder` gets what the publisher uploads."""

    folder: Path
    year: int = 2026
    seed: bytes = SEED
    entries: list[bytes] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)
    hashes: dict[int, list[bytes]] = field(default_factory=lambda: {0: []})
    published: int = 0

    @property
    def origin(self) -> str:
        """Return the log's origin."""
        return f"{DEPLOYMENT}/{self.year}"

    @property
    def home(self) -> Path:
        """Return the folder of the log's objects."""
        return self.folder / self.origin

    @property
    def signer(self) -> Ed25519Signer:
        """Return the log's key."""
        return Ed25519Signer.from_seed(self.origin, self.seed)

    @property
    def witnesses(self) -> tuple[Ed25519Cosigner, Ed25519Cosigner]:
        """Return the keys of two witnesses."""
        return (
            Ed25519Cosigner.from_seed("witness.example/1", b"1" * 32),
            Ed25519Cosigner.from_seed("witness.example/2", b"2" * 32),
        )

    @property
    def policy(self) -> Policy:
        """Return a policy that trusts this log and needs both witnesses."""
        one, two = (each.verifier_key for each in self.witnesses)
        witnesses = {"one": Witness(one), "two": Witness(two)}
        return Policy((self.signer.verifier_key,), witnesses, {"both": Group(2, ("one", "two"))}, "both")

    def append(self, entries: Sequence[bytes]) -> None:
        """Add entries to the tree. Nothing is written."""
        leaves = [leaf_hash(entry) for entry in entries]
        self.entries.extend(entries)
        self.hashes[0].extend(leaves)
        self.frontier, completed = self.frontier.extend_with_roots(leaves)
        for one in completed:
            self.hashes.setdefault(one.level, []).append(one.hash)

    def content(self, tile: TileId) -> bytes:
        """Return the content of a tile or an entry bundle."""
        start = tile.index * 256
        if tile.level == ENTRY_LEVEL:
            return format_entry_bundle(self.entries[start : start + tile.width])
        return b"".join(self.hashes[tile.level][start : start + tile.width])

    def checkpoint(self, time: int, *, witnesses: int = 2) -> SignedNote:
        """Return the signed and cosigned checkpoint of the tree."""
        note = sign_checkpoint(Checkpoint(self.origin, self.frontier.size, self.frontier.root), self.signer)
        return note.with_signatures(one.cosign(note.text, time) for one in self.witnesses[:witnesses])

    def publish(self, time: int, *, witnesses: int = 2) -> Path:
        """Write the new tiles and the checkpoint. Return the path of the checkpoint."""
        for tile in tiles_of_tree(self.frontier.size, self.published):
            path = self.home / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content(tile))
        self.published = self.frontier.size
        path = self.home / "checkpoints" / str(self.published)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.checkpoint(time, witnesses=witnesses).format())
        return path

    def receipt(self, index: int, salt: bytes, time: int = START) -> TransparencyProof:
        """Return the receipt of an event under the checkpoint of the whole tree."""
        tiles = {tile: self.content(tile) for tile in tiles_for_inclusion(index, self.frontier.size)}
        hashes = tuple(inclusion_proof(index, self.frontier.size, tiles))
        return TransparencyProof(index, hashes, self.checkpoint(time), salt)
