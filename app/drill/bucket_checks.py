"""Compares the restored database with the bucket: the ledger of deletions, and the SHA-256 of recordings.

The module only reads.
"""

from collections.abc import Callable
from uuid import UUID

from app.bucket.object_keys import (
    compose_checkpoint_key,
    compose_kept_key,
    compose_latest_checkpoint_key,
)
from app.deletions.ledger import Ledger
from app.drill.database_checks import RestoredLog, SampledRecording
from app.drill.model import Notes
from app.errors import AppError
from app.integrations.storage.client import Storage
from app.integrations.storage.objects import StoredObject
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.notes import LARGEST_NOTE_BYTES, SignedNote


async def read_ledger(ledger: Ledger, notes: Notes) -> list[UUID]:
    """Return the recordings that the ledger lists as destroyed. Raises UpstreamFailed, Timeout."""
    recordings: set[UUID] = set()
    entries = foreign = 0
    async for page in ledger.pages():
        recordings |= {recording_id for recording_id, _ in page.entries}
        entries += len(page.entries)
        foreign += page.foreign_keys
    notes.found["entries"] = entries
    notes.require(foreign == 0, "ledger_keys_foreign", foreign)
    return sorted(recordings)


async def check_entries(ledger: Ledger, undone: list[UUID], notes: Notes) -> list[UUID]:
    """Return the undone deletions whose ledger entry was signed with one of our keys. The command `resguardo
    restore check --repeat` carries out undone deletions again.
    """
    signed = []
    for recording_id in undone:
        try:
            await ledger.entries_of(recording_id)
            signed.append(recording_id)
        except AppError as error:
            notes.require(False, error.reason, recording_id)
    notes.found["to_repeat"] = len(signed)
    return signed


async def check_audit_logs(storage: Storage, logs: list[RestoredLog], notes: Notes) -> None:
    """Check that the bucket has the newest published checkpoint of each audit log in the dump, with the same root.
    Count the leaves that were sealed after the dump. After a real restore, the worker adopts these leaves from the
    bucket.
    """
    notes.found |= {"logs": len(logs), "leaves": sum(one.size for one in logs), "leaves_after_the_dump": 0}
    for one in logs:
        if one.published_size and one.checkpoint is not None:
            kept = await storage.get_small(
                compose_checkpoint_key(one.origin, one.published_size), LARGEST_NOTE_BYTES
            )
            notes.require(kept is not None, "audit_checkpoint_missing", one.origin)
            is_same = kept is None or _body(kept) == _body(one.checkpoint.encode())
            notes.require(is_same, "audit_checkpoint_differs", one.origin)
        latest = await storage.get_small(compose_latest_checkpoint_key(one.origin), LARGEST_NOTE_BYTES)
        size = 0 if latest is None else _read_size(latest)
        notes.found["leaves_after_the_dump"] = int(notes.found["leaves_after_the_dump"]) + max(
            size - one.size, 0
        )


def _body(note: bytes) -> bytes:
    return note.partition(b"\n\n")[0]


def _read_size(note: bytes) -> int:
    try:
        return Checkpoint.parse(SignedNote.parse(note).text).size
    except TransparencyLogError:
        return 0


async def check_recordings(
    storage: Storage, recordings: list[SampledRecording], notes: Notes, on_checked: Callable[[int, int], None]
) -> None:
    """Check that the object of each recording exists, with the size and the hash that the database contains. After
    each recording, call `on_checked` with the number of recordings that were checked and the total number.
    """
    notes.found |= {"recordings": len(recordings), "bytes": 0, "moved": 0}
    for number, one in enumerate(recordings, start=1):
        notes.require(one.is_logged, "transition_not_logged", one.id)
        try:
            await _check(storage, one, notes)
        except AppError as error:
            notes.require(False, error.reason, one.id)
        on_checked(number, len(recordings))


async def _check(storage: Storage, one: SampledRecording, notes: Notes) -> None:
    if one.object_key is None:
        notes.require(False, "object_key_missing", one.id)
        return
    key, stored = await _find(storage, one.object_key)
    if stored is None:
        notes.require(False, "object_missing", one.id)
        return
    notes.found["moved"] = int(notes.found["moved"]) + (key != one.object_key)
    notes.require(stored.size_bytes == one.size_bytes, "object_size_differs", one.id)
    if stored.size_bytes == one.size_bytes:
        sha256 = await storage.sha256(key, stored)
        notes.found["bytes"] = int(notes.found["bytes"]) + stored.size_bytes
        notes.require(sha256 == one.sha256, "object_digest_differs", one.id)


async def _find(storage: Storage, key: str) -> tuple[str, StoredObject | None]:
    """Return the object with this key, or the object under keep/ if a legal hold has moved it there since the dump."""
    stored = await storage.head(key)
    kept = compose_kept_key(key)
    if stored is None and kept not in (None, key):
        return kept, await storage.head(kept)
    return key, stored
