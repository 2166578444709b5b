"""The database rows of imports."""

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from pydantic import TypeAdapter

from app.identity import permissions
from app.postgres.audited import Meter
from app.postgres.composer import EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.recording_imports.model import ImportRequest, RecordingImport, WantedUpload

_sql = Queries(Path(__file__).with_name("queries.sql"))
_import = TypeAdapter(RecordingImport)
_IMPORT: Final = EntityRead(
    entities=ENTITIES,
    entity="recording_import",
    where="r.id = %(id)s",
    action=permissions.IMPORT_RECORDING.action,
    asked="%(id)s",
)


async def insert(tx: Transaction, wanted: ImportRequest, *, doctor_id: UUID, patient_id: UUID) -> UUID:
    """Insert an import, with its object key and without an upload URL, and return the import's id. Raises Conflict
    (consent_missing).
    """
    people = {"doctor_id": doctor_id, "patient_id": patient_id}
    return UUID(str(await tx.value(_sql["insert_import"], {**asdict(wanted), **people})))


async def find_pending(tx: Transaction, wanted: ImportRequest, at_least: timedelta) -> UUID | None:
    """Return the id of the newest pending import that has the same declaration and stays open for at least the
    given time.
    """
    found = await tx.value(_sql["pending_import"], {**asdict(wanted), "at_least": at_least})
    return None if found is None else UUID(str(found))


async def read(tx: Transaction, import_id: UUID) -> RecordingImport | None:
    """Return the import, or None if it does not exist or is hidden from the caller. Writes no audit row."""
    row = await tx.one(_sql["read_import"], {"id": import_id})
    return None if row is None else _import.validate_python(row)


async def show(
    tx: Transaction,
    import_id: UUID,
    selection: Selection,
    action: LiteralString,
    *,
    meter: Meter,
) -> Row | None:
    """Write the audit row and return the import without its upload URL, and with its recording if that is selected.
    Return None if the import does not exist or is hidden from the caller. The read counts against the quota that
    `meter` names. Raises RateLimited.
    """
    return await replace(_IMPORT, meter=meter).show(tx, selection, {"id": import_id}, action=action)


async def release_upload_url(tx: Transaction, import_id: UUID) -> tuple[str, int] | None:
    """Write the audit row, and return the upload URL and in how many seconds it expires. Return None if the worker
    has not signed the URL yet.
    """
    row = await tx.one(_sql["release_upload_url"], {"id": import_id})
    return None if row is None or row["url"] is None else (row["url"], row["expires_in_seconds"])


async def complete(tx: Transaction, import_id: UUID) -> UUID:
    """Create the recording of an import unless it exists already, and return the recording's id. Raises Conflict
    (import_expired, consent_missing).
    """
    return UUID(str(await tx.value(_sql["complete_import"], {"id": import_id})))


async def read_wanted_upload(tx: Transaction, import_id: UUID) -> WantedUpload | None:
    """Write the audit row and return the upload to sign. Return None if the import needs no URL. Needs the worker's
    role.
    """
    row = await tx.one(_sql["read_import_key"], {"id": import_id})
    return None if row is None else WantedUpload(**row)


async def store_upload_url(tx: Transaction, import_id: UUID, url: str) -> None:
    """Store the upload URL. Needs the worker's role."""
    await tx.run(_sql["store_upload_url"], {"id": import_id, "url": url})


async def expire(tx: Transaction) -> int:
    """End expired imports, and return how many ended. Needs the worker's role."""
    return int(await tx.value(_sql["expire_imports"]))
