"""Reads and writes the database rows of deletions and certificates. The caller opens the transaction in which a
function runs.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, LiteralString, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from app.deletions.model import (
    Claim,
    DeletionFilter,
    DeletionReason,
    DestroyedNote,
    FoundObject,
    GoneObject,
    KeptCertificate,
)
from app.errors import NotFound
from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_DELETION: Final = EntityRead(
    entities=ENTITIES,
    entity="deletion",
    where="r.id = %(id)s",
    action=permissions.DELETE_RECORDING.action,
    asked="%(id)s",
)
_DELETIONS: Final = EntityList(
    entities=ENTITIES,
    entity="deletion",
    narrow={"recording_id": "r.recording_id = %(recording_id)s::uuid"},
    one_of={"stages": "r.stage = v.value"},
    action=permissions.LIST_DELETIONS.action,
    time="requested_at",
    asked="%(recording_id)s::uuid",
    asked_type="recording",
    is_visible="private.shows_recording(%(recording_id)s::uuid)",
)
_CERTIFICATES: Final = AuditedRead(
    rows=_sql["read_certificates"],
    items=KeptCertificate,
    action=permissions.READ_CERTIFICATES.action,
    entity_type="recording",
    asked="%(recording_id)s",
    is_visible="private.shows_recording(%(recording_id)s)",
    ids="distinct p.recording_id",
    order="x.number",
    meter="pages",
)
_NOTE_CERTIFICATES: Final = AuditedRead(
    rows=_sql["read_note_certificates"],
    items=KeptCertificate,
    action=permissions.READ_CERTIFICATES.action,
    entity_type="recording",
    asked="%(recording_id)s",
    is_visible="private.shows_recording(%(recording_id)s)",
    ids="distinct p.recording_id",
    order="x.number",
    meter="pages",
)
_claims = TypeAdapter(list[Claim])
Found = TypeVar("Found")


async def request(tx: Transaction, recording_id: UUID, reason: DeletionReason) -> UUID:
    """Request a deletion with the database role of the person who calls the API, and return its id. The transaction
    must then call `show`, or its commit writes the audit row. Raises NotFound, Conflict (recording_held,
    recording_not_finished, recording_deleted).
    """
    parameters = {"recording_id": recording_id, "reason": reason}
    requested: UUID | None = await tx.value(_sql["request_deletion"], parameters)
    return _require_found(requested)


async def undo(tx: Transaction, recording_id: UUID) -> UUID:
    """Cancel a requested deletion with the database role of the person who calls the API, and return its id. The
    transaction must then call `show`, or its commit writes the audit row. Raises NotFound, Conflict
    (deletion_not_undoable).
    """
    undone: UUID | None = await tx.value(_sql["undo_deletion"], {"recording_id": recording_id})
    return _require_found(undone)


async def show(tx: Transaction, deletion_id: UUID, selection: Selection, action: LiteralString) -> Row:
    """Return the deletion that the transaction has requested or cancelled, with its recording if it is selected, and
    write the audit row of that change.
    """
    return _require_found(
        await _DELETION.show(tx, selection, {"id": deletion_id}, action=action, is_counted=False)
    )


def _require_found(found: Found | None) -> Found:
    if found is None:
        raise NotFound("recording_not_found")
    return found


async def list_page(
    tx: Transaction, request: PageRequest, wanted: DeletionFilter, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page of deletions, newest first."""
    return await _DELETIONS.page(tx, request, wanted.parameters, selection)


async def list_certificates(
    tx: Transaction, recording_id: UUID, request: PageRequest, fields: Sequence[str]
) -> Page[KeptCertificate] | None:
    """Return a page of the certificates of a recording in the order of their numbers, and write the audit row, which
    names `fields`. Return None if the caller may not see the recording or it does not exist.
    """
    return await _certificates(tx, _CERTIFICATES, recording_id, request, fields)


async def list_note_certificates(
    tx: Transaction, recording_id: UUID, request: PageRequest, fields: Sequence[str]
) -> Page[KeptCertificate] | None:
    """Return a page of the certificates of the signed note on a recording in the order of their numbers, and write the
    audit row, which names `fields`. Return None if the caller may not see the recording or it does not exist.
    """
    return await _certificates(tx, _NOTE_CERTIFICATES, recording_id, request, fields)


async def _certificates(
    tx: Transaction,
    read: AuditedRead[KeptCertificate],
    recording_id: UUID,
    request: PageRequest,
    fields: Sequence[str],
) -> Page[KeptCertificate] | None:
    parameters = {
        "recording_id": recording_id,
        "first": request.first,
        "after": request.after.number if request.after else None,
    }
    looked = await read.look(tx, parameters, fields=fields)
    if not looked.is_allowed:
        return None
    return Page(tuple(looked.found), any(each.has_next for each in looked.found))


async def claim(tx: Transaction, by_clock: datetime, most: int) -> list[Claim]:
    """Claim at most `most` due deletions. A claim lasts 15 minutes. Needs the worker's role."""
    rows = await tx.all(_sql["claim_deletions"], {"by_clock": by_clock, "most": most})
    return _claims.validate_python(rows)


async def read_database_time(tx: Transaction) -> datetime:
    """Return the database's time."""
    now: datetime = await tx.value(_sql["database_time"])
    return now


async def keep_inventory(
    tx: Transaction, claims: Sequence[Claim], objects: Sequence[FoundObject]
) -> set[UUID]:
    """Store the list of objects of the claimed deletions, before the objects are deleted. Return the ids of the
    claimed deletions that may continue. Needs the worker's role.
    """
    return set(
        await tx.value(
            _sql["keep_inventory"],
            {
                **_claimed(claims),
                "deletions": [one.deletion_id for one in objects],
                "keys": [one.key for one in objects],
                "sizes": [one.size_bytes for one in objects],
                "etags": [one.etag for one in objects],
            },
        )
    )


async def shred_keys(
    tx: Transaction, claims: Sequence[Claim], objects: Sequence[GoneObject]
) -> dict[UUID, dict[str, object]]:
    """Destroy the data keys of recordings whose objects are all gone from the bucket. Return the facts that the
    certificate of each deletion needs. Needs the worker's role.
    """
    rows = await tx.all(
        _sql["shred_keys"],
        {
            **_claimed(claims),
            "deletions": [one.deletion_id for one in objects],
            "keys": [one.key for one in objects],
            "deleted": [one.deleted_at for one in objects],
            "gone": [one.gone_at for one in objects],
        },
    )
    return {row["deletion_id"]: row["facts"] for row in rows}


def _claimed(claims: Sequence[Claim]) -> dict[str, object]:
    return {
        "claimed": [claim.deletion_id for claim in claims],
        "attempts": [claim.attempt for claim in claims],
    }


async def finish(tx: Transaction, documents: dict[UUID, str]) -> None:
    """Store the certificates. Their recordings become DELETED. Needs the worker's role."""
    await tx.run(
        _sql["finish_deletions"],
        {"deletions": list(documents), "documents": list(documents.values())},
    )


async def fail(tx: Transaction, claim: Claim, reason: str) -> int:
    """Store why an attempt to destroy a recording failed. Return the number of attempts to destroy the recording,
    or 0 if another attempt has taken over the claim. Needs the worker's role.
    """
    parameters = {"id": claim.deletion_id, "attempt": claim.attempt, "reason": reason}
    return int(await tx.value(_sql["fail_deletion"], parameters) or 0)


async def call_off_missing(tx: Transaction, deletion_id: UUID) -> None:
    """Cancel the deletion of a recording that was marked as missing although its object exists. Needs the worker's
    role.
    """
    await tx.run(_sql["call_off_missing"], {"id": deletion_id})


async def keep_earlier_certificates(tx: Transaction, deletion_id: UUID, documents: Sequence[str]) -> None:
    """Store the certificates of a recording's earlier destructions, in the order of their numbers. The recording's
    next certificate then gets the next free number. Needs the worker's role.
    """
    await tx.run(_sql["keep_earlier_certificates"], {"id": deletion_id, "documents": list(documents)})


async def find_restored(
    tx: Transaction, recordings: Sequence[UUID]
) -> dict[UUID, tuple[str | None, bool, bool]]:
    """Return those of the given recordings that are not DELETED in this database. For each recording, the values
    are the status (None if the recording does not exist), whether a legal hold covers it, and whether its
    destruction has begun again. Needs the worker's role.
    """
    rows = await tx.all(_sql["restored_recordings"], {"recordings": list(recordings)})
    return {row["recording_id"]: (row["status"], row["is_held"], row["is_begun"]) for row in rows}


async def repeat(tx: Transaction, recording_id: UUID, documents: Sequence[str]) -> bool:
    """Begin to destroy, once more, a recording that a restore brought back. Return False if the recording may not
    be destroyed now. Needs the worker's role.
    """
    return bool(
        await tx.value(_sql["repeat_deletion"], {"recording_id": recording_id, "documents": list(documents)})
    )


async def find_moved_object(tx: Transaction, key: str, size_bytes: int) -> bool:
    """Store the key of a moved object under keep/ as the object key of its recording. Return False if no recording
    matches the object. Needs the worker's role.
    """
    return bool(await tx.value(_sql["find_moved_object"], {"key": key, "size_bytes": size_bytes}))


async def find_unknown_object_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Return the given object keys that belong to no recording. Needs the worker's role."""
    return set(await tx.value(_sql["unknown_object_keys"], {"keys": list(keys)}))


async def destroy_due_notes(tx: Transaction, by_clock: datetime, most: int) -> list[DestroyedNote]:
    """Destroy at most `most` due signed notes. Return the destroyed notes that have no certificate yet. Needs the
    worker's role.
    """
    rows = await tx.all(_sql["destroy_due_notes"], {"by_clock": by_clock, "most": most})
    return [DestroyedNote(row["note_id"], row["attempt"], row["facts"]) for row in rows]


async def finish_note_destructions(tx: Transaction, documents: dict[UUID, str]) -> None:
    """Store the certificates of destroyed notes. The notes become DESTROYED. Needs the worker's role."""
    await tx.run(
        _sql["finish_note_destructions"], {"notes": list(documents), "documents": list(documents.values())}
    )


async def fail_note_destruction(tx: Transaction, note: DestroyedNote, reason: str) -> int:
    """Store why the certificate of a destroyed note could not be made. Return the number of attempts, or 0 if another
    attempt has taken over. Needs the worker's role.
    """
    parameters = {"id": note.note_id, "attempt": note.attempt, "reason": reason}
    return int(await tx.value(_sql["fail_note_destruction"], parameters) or 0)


async def keep_earlier_note_certificates(tx: Transaction, note_id: UUID, documents: Sequence[str]) -> None:
    """Store the certificates of a note's earlier destructions, in the order of their numbers. Needs the worker's
    role.
    """
    await tx.run(_sql["keep_earlier_note_certificates"], {"id": note_id, "documents": list(documents)})


async def find_restored_notes(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, tuple[bool, bool, bool]]:
    """Return those of the given ids that are signed notes. For each note, the values are whether it is DESTROYED,
    whether a legal hold covers it, and whether its destruction has begun again. Needs the worker's role.
    """
    rows = await tx.all(_sql["restored_notes"], {"ids": list(ids)})
    return {row["note_id"]: (row["is_destroyed"], row["is_held"], row["is_begun"]) for row in rows}


async def repeat_note(tx: Transaction, note_id: UUID, documents: Sequence[str]) -> bool:
    """Make a signed note that a restore brought back due now. Return False if it may not be destroyed now. Needs the
    worker's role.
    """
    return bool(
        await tx.value(_sql["repeat_note_destruction"], {"id": note_id, "documents": list(documents)})
    )
