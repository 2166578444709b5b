"""Rows of deletions and certificates. Named SQL in `queries.sql`; transactions are the caller's."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from uuid import UUID

from pydantic import TypeAdapter

from app.audited import look, read_audited
from app.db import Transaction
from app.deletions.model import (
    Claim,
    Deletion,
    DeletionFilter,
    DeletionReason,
    FoundObject,
    GoneObject,
    KeptCertificate,
)
from app.errors import NotFound
from app.paging import PageRequest
from app.sql import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))
_deletion = TypeAdapter(Deletion)
_deletions = TypeAdapter(list[Deletion])
_certificates = TypeAdapter(list[KeptCertificate])
_claims = TypeAdapter(list[Claim])


async def request(tx: Transaction, recording_id: UUID, reason: DeletionReason) -> Deletion:
    """As whoever asks. Raises NotFound, Conflict (recording_held, recording_not_finished, recording_deleted)."""
    parameters = {"recording_id": recording_id, "reason": reason}
    return await _read(tx, await tx.value(_sql["request_deletion"], parameters))


async def undo(tx: Transaction, recording_id: UUID) -> Deletion:
    """As whoever asks. Raises NotFound, Conflict (deletion_not_undoable)."""
    return await _read(tx, await tx.value(_sql["undo_deletion"], {"recording_id": recording_id}))


async def _read(tx: Transaction, deletion_id: UUID | None) -> Deletion:
    if deletion_id is None:
        raise NotFound("recording_not_found")
    return _deletion.validate_python(await tx.one(_sql["read_deletion"], {"id": deletion_id}))


async def list_page(
    tx: Transaction, request: PageRequest, wanted: DeletionFilter, quota: int | None
) -> list[Deletion]:
    """Newest first, one more than a page, after the audit row."""
    parameters = {**request.parameters, **asdict(wanted), "quota": quota}
    return await read_audited(tx, _sql["list_deletions"], parameters, _deletions)


async def certificates(
    tx: Transaction, recording_id: UUID, quota: int | None
) -> list[KeptCertificate] | None:
    """Those of a recording by their numbers, with the audit row; None if it is hidden or does not exist."""
    parameters = {"recording_id": recording_id, "quota": quota}
    looked = await look(tx, _sql["read_certificates"], parameters, _certificates)
    return looked.found if looked.is_allowed else None


async def claim(tx: Transaction, by_clock: datetime, most: int) -> list[Claim]:
    """As the worker: begins what is due, at most so much; each is this worker's for 15 minutes."""
    rows = await tx.all(_sql["claim_deletions"], {"by_clock": by_clock, "most": most})
    return _claims.validate_python(rows)


async def database_time(tx: Transaction) -> datetime:
    """Now, by the database's clock."""
    now: datetime = await tx.value(_sql["database_time"])
    return now


async def keep_inventory(
    tx: Transaction, claims: Sequence[Claim], objects: Sequence[FoundObject]
) -> set[UUID]:
    """As the worker: what was found, before it goes. The deletions of these claims that may go on."""
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
    """As the worker: destroys the keys of those whose objects are all gone; the facts for each one's certificate."""
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
    """As the worker: keeps the certificates; their recordings are DELETED."""
    await tx.run(
        _sql["finish_deletions"],
        {"deletions": list(documents), "documents": list(documents.values())},
    )


async def fail(tx: Transaction, claim: Claim, reason: str) -> int:
    """As the worker: why an attempt failed. How many attempts there were; 0 where another has taken it up."""
    parameters = {"id": claim.deletion_id, "attempt": claim.attempt, "reason": reason}
    return int(await tx.value(_sql["fail_deletion"], parameters) or 0)


async def call_off_missing(tx: Transaction, deletion_id: UUID) -> None:
    """As the worker: the object of what was taken for missing is there, and the recording stays."""
    await tx.run(_sql["call_off_missing"], {"id": deletion_id})


async def keep_earlier_certificates(tx: Transaction, deletion_id: UUID, documents: Sequence[str]) -> None:
    """As the worker: the certificates of earlier destructions, the first one first; the deletion's number follows."""
    await tx.run(_sql["keep_earlier_certificates"], {"id": deletion_id, "documents": list(documents)})


async def restored(tx: Transaction, recordings: Sequence[UUID]) -> dict[UUID, tuple[str | None, bool, bool]]:
    """As the worker: status (None: unknown), whether held, whether begun again, of those that are not DELETED."""
    rows = await tx.all(_sql["restored_recordings"], {"recordings": list(recordings)})
    return {row["recording_id"]: (row["status"], row["is_held"], row["is_begun"]) for row in rows}


async def repeat(tx: Transaction, recording_id: UUID, documents: Sequence[str]) -> bool:
    """As the worker: begins to destroy again what a restore brought back; False where that cannot be."""
    return bool(
        await tx.value(_sql["repeat_deletion"], {"recording_id": recording_id, "documents": list(documents)})
    )


async def find_moved_object(tx: Transaction, key: str, size_bytes: int) -> bool:
    """As the worker: the recording whose object lies there looks for it there; False where it is nobody's."""
    return bool(await tx.value(_sql["find_moved_object"], {"key": key, "size_bytes": size_bytes}))


async def unknown_object_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """As the worker: which of these no recording has."""
    return set(await tx.value(_sql["unknown_object_keys"], {"keys": list(keys)}))
