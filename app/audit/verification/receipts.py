"""Makes the receipt of a sealed event: the proof that the log contains the event, as a C2SP tlog-proof."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.audit.verification import store
from app.errors import Conflict, NotFound
from app.postgres.database import Transaction
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.events import SALT_COLUMN, compute_entry, format_canonical_event
from app.transparency_log.merkle import leaf_hash, verify_inclusion
from app.transparency_log.notes import SignedNote
from app.transparency_log.proofs import FILE_EXTENSION, TransparencyProof
from app.transparency_log.tiles import inclusion_proof, tiles_for_inclusion

PROOF_EXTENSION: Final = FILE_EXTENSION
EVENT_EXTENSION: Final = ".json"


@dataclass(frozen=True)
class Receipt:
    """The receipt of an event. `event` is the canonical JSON of the event's row, byte for byte as it was hashed, and
    `proof` is the content of the `.tlog-proof` file, which contains the salt. `is_published` says whether its
    checkpoint is in the bucket, with the cosignatures of the witnesses. A published checkpoint covers each event
    within an hour.
    """

    event_id: UUID
    origin: str
    index: int
    size: int
    event: bytes = field(repr=False)
    proof: bytes = field(repr=False)
    is_published: bool


async def make_receipt(tx: Transaction, event_id: UUID) -> Receipt:
    """Return the receipt of an event under the newest published checkpoint, or under the newest checkpoint in the
    database if no published one covers the event yet. Raises NotFound
    (audit_event_not_found), and Conflict: audit_event_not_sealed (ask again after 10 seconds), audit_event_redacted,
    or audit_event_differs (the row, its leaf and the checkpoint contradict each other).
    """
    found = await store.find_leaf(tx, event_id)
    row = await store.find_event_row(tx, event_id, found)
    if row is None:
        raise NotFound("audit_event_not_found")
    if found is None:
        raise Conflict("audit_event_not_sealed")
    salt = bytes(row[SALT_COLUMN])
    if not salt:
        raise Conflict("audit_event_redacted")
    try:
        event = format_canonical_event(row)
        leaf = leaf_hash(compute_entry(salt, event))
        note = SignedNote.parse(found.checkpoint.encode())
        checkpoint = Checkpoint.parse(note.text)
        wanted = tiles_for_inclusion(found.index, checkpoint.size)
        tiles = await store.read_tiles(tx, found.log_year, wanted)
        hashes = tuple(inclusion_proof(found.index, checkpoint.size, tiles))
        verify_inclusion(leaf, found.index, checkpoint.size, hashes, checkpoint.root)
    except TransparencyLogError as error:
        raise Conflict("audit_event_differs") from error
    proof = TransparencyProof(found.index, hashes, note, salt)
    return Receipt(
        event_id=event_id,
        origin=checkpoint.origin,
        index=found.index,
        size=checkpoint.size,
        event=event,
        proof=proof.format(),
        is_published=found.is_published,
    )
