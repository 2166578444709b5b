"""The stored state of a log, and the computation of its next batch. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self
from uuid import UUID

from app.errors import Conflict
from app.transparency_log.checkpoints import (
    Checkpoint,
    Ed25519Signer,
    Signer,
    sign_checkpoint,
    verify_note,
)
from app.transparency_log.errors import EventError, TransparencyLogError
from app.transparency_log.events import (
    CANONICAL_VERSION,
    SALT_COLUMN,
    VERSION_COLUMN,
    compute_entry,
    format_canonical_event,
)
from app.transparency_log.merkle import Frontier, SubtreeRoot, leaf_hash
from app.transparency_log.notes import SignedNote, VerifierKey

BATCH: Final = 1000
"""How many events one transaction seals at most."""


def log_origin(deployment: str, year: int) -> str:
    """Return the origin of the log of a year, which is also the name of the log's key."""
    return f"resguardo/{deployment}/{year}"


@dataclass(frozen=True)
class LogKeys:
    """The key that signs the checkpoints of one log, and the keys that signed its earlier checkpoints."""

    signer: Signer = field(repr=False)
    former: tuple[VerifierKey, ...] = ()

    @classmethod
    def derive(cls, seed: bytes, former: Iterable[VerifierKey], *, deployment: str, year: int) -> Self:
        """Derive the key of the log of a year from AUDIT_SIGNING_KEY. `former` may also contain keys of other logs."""
        origin = log_origin(deployment, year)
        return cls(Ed25519Signer.from_seed(origin, seed), tuple(key for key in former if key.name == origin))

    @property
    def origin(self) -> str:
        """Return the origin of the log."""
        return self.signer.verifier_key.name

    def read_checkpoint(self, note: bytes) -> Checkpoint:
        """Return the checkpoint in a signed note. Raises TransparencyLogError unless the current key or a former key
        signed the checkpoint, and it is a checkpoint of this log.
        """
        signed = SignedNote.parse(note)
        verify_note(signed, (self.signer.verifier_key, *self.former))
        checkpoint = Checkpoint.parse(signed.text)
        if checkpoint.origin != self.origin:
            raise TransparencyLogError("the checkpoint belongs to another log")
        return checkpoint


@dataclass(frozen=True)
class StoredLog:
    """A row of audit.logs: the log of one year. `checkpoint` is None before the first seal."""

    log_year: int
    size: int
    frontier: bytes
    checkpoint: str | None

    def open(self, keys: LogKeys, last_known: Checkpoint | None) -> Frontier:
        """Return the stored tree, which the checkpoint must confirm. `last_known` is the newest checkpoint that this
        process signed, which the log must not fall behind.

        Raises Conflict (audit_log_differs).
        """
        try:
            tree = Frontier.from_bytes(self.size, self.frontier)
            signed = (
                Checkpoint(keys.origin, 0, Frontier().root)
                if self.checkpoint is None
                else keys.read_checkpoint(self.checkpoint.encode())
            )
        except TransparencyLogError as error:
            raise Conflict("audit_log_differs", year=self.log_year, what=str(error)) from None
        if (signed.size, signed.root) != (tree.size, tree.root):
            raise Conflict(
                "audit_log_differs", year=self.log_year, what="the tree is not that of its checkpoint"
            )
        if last_known is not None and (
            tree.size < last_known.size or (tree.size == last_known.size and tree.root != last_known.root)
        ):
            raise Conflict(
                "audit_log_differs", year=self.log_year, what="the log is an older or another state"
            )
        return tree


@dataclass(frozen=True)
class NewLeaf:
    """An event with its log entry and its leaf hash."""

    event_id: UUID
    recorded_at: datetime
    entry: bytes
    leaf_hash: bytes


@dataclass(frozen=True)
class SealedBatch:
    """The leaves that one transaction appends to a log, the roots of subtrees that they complete, and the signed
    checkpoint of the larger log.
    """

    first_index: int
    leaves: tuple[NewLeaf, ...]
    roots: tuple[SubtreeRoot, ...]
    tree: Frontier
    checkpoint: Checkpoint
    note: SignedNote
    signer: VerifierKey

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statement that stores the seal."""
        return {
            "origin": self.checkpoint.origin,
            "first_index": self.first_index,
            "event_ids": [leaf.event_id for leaf in self.leaves],
            "recorded_ats": [leaf.recorded_at for leaf in self.leaves],
            "entries": [leaf.entry for leaf in self.leaves],
            "leaf_hashes": [leaf.leaf_hash for leaf in self.leaves],
            "tile_levels": [root.level for root in self.roots],
            "tile_indexes": [root.index for root in self.roots],
            "tile_hashes": [root.hash for root in self.roots],
            "frontier": self.tree.to_bytes(),
            "note": self.note.format().decode(),
            "signer": self.signer.format(),
        }


def compute_leaf(row: Mapping[str, object]) -> NewLeaf:
    """Return the leaf of a row of audit.events. Raises EventError if the row has no canonical form."""
    event_id, recorded_at, salt = row["id"], row["recorded_at"], row[SALT_COLUMN]
    if (
        not isinstance(event_id, UUID)
        or not isinstance(recorded_at, datetime)
        or not isinstance(salt, bytes)
        or row[VERSION_COLUMN] != CANONICAL_VERSION
    ):
        raise EventError("the canonical form cannot represent the row")
    entry = compute_entry(salt, format_canonical_event(row))
    return NewLeaf(event_id, recorded_at, entry, leaf_hash(entry))


def seal(tree: Frontier, leaves: Sequence[NewLeaf], keys: LogKeys) -> SealedBatch:
    """Append the leaves to the tree, and sign the checkpoint of the larger tree."""
    larger, roots = tree.extend_with_roots(leaf.leaf_hash for leaf in leaves)
    checkpoint = Checkpoint(keys.origin, larger.size, larger.root)
    return SealedBatch(
        first_index=tree.size,
        leaves=tuple(leaves),
        roots=tuple(roots),
        tree=larger,
        checkpoint=checkpoint,
        note=sign_checkpoint(checkpoint, keys.signer),
        signer=keys.signer.verifier_key,
    )
