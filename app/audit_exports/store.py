"""Reads and writes the database rows of exports of the audit log. The caller opens the transaction in which a function
runs.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from app.audit.model import AuditFilter
from app.audit_exports.model import (
    AuditExportFormat,
    AuditExportStatus,
    BegunExport,
    Place,
    WrittenContent,
)
from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_EXPORT: Final = EntityRead(
    entities=ENTITIES,
    entity="audit_export",
    where="r.id = %(id)s",
    action=permissions.EXPORT_AUDIT_EVENTS.action,
)
_EXPORTS: Final = EntityList(
    entities=ENTITIES,
    entity="audit_export",
    one_of={"statuses": "r.status = v.value"},
    action=permissions.LIST_AUDIT_EXPORTS.action,
    time="created_at",
)


async def list_page(
    tx: Transaction,
    request: PageRequest,
    statuses: Sequence[AuditExportStatus] | None,
    selection: Selection,
) -> Page[Row]:
    """Write the audit row and return a page of exports, newest first. Raises RateLimited (quota_pages)."""
    wanted = None if statuses is None else list(dict.fromkeys(statuses))
    return await _EXPORTS.page(tx, request, {"statuses": wanted}, selection)


async def show(
    tx: Transaction,
    export_id: UUID,
    selection: Selection,
    action: LiteralString,
    *,
    besides: Collection[str] = (),
) -> Row:
    """Return an export that the transaction has changed, and write the audit row of the change, which also names the
    fields `besides`.
    """
    shown = await _EXPORT.show(
        tx, selection, {"id": export_id}, action=action, is_counted=False, besides=besides
    )
    if shown is None:
        raise NotFound("audit_export_not_found")
    return shown


async def find(tx: Transaction, export_id: UUID, selection: Selection) -> Row:
    """Write the audit row and return an export that an earlier call has requested. Raises NotFound
    (audit_export_not_found), RateLimited (quota_pages).
    """
    found = await _EXPORT.show(tx, selection, {"id": export_id}, action=permissions.LIST_AUDIT_EXPORTS.action)
    if found is None:
        raise NotFound("audit_export_not_found")
    return found


async def request(
    tx: Transaction, wanted: AuditFilter, form: AuditExportFormat, totp_max_age_seconds: int
) -> UUID:
    """Ask for an export, and return its id. The transaction must then call `show`. Raises NotFound
    (audit_filter_not_found), and Forbidden, RateLimited or Conflict as `private.request_audit_export`.
    """
    requested: UUID | None = await tx.value(
        _sql["request_export"],
        {**wanted.parameters, "format": form.value, "totp_max_age_seconds": totp_max_age_seconds},
    )
    if requested is None:
        raise NotFound("audit_filter_not_found")
    return requested


async def release_key(tx: Transaction, export_id: UUID, totp_max_age_seconds: int) -> str:
    """Write the audit row and return the object key of an export. Raises NotFound, Forbidden, RateLimited, Conflict."""
    key = await tx.value(_sql["release_key"], {"id": export_id, "totp_max_age_seconds": totp_max_age_seconds})
    if key is None:
        raise NotFound("audit_export_not_found")
    return str(key)


async def reveal_secret(tx: Transaction, export_id: UUID, totp_max_age_seconds: int) -> str:
    """Return the secret of an export, once, and erase it. The transaction must then call `show`. Raises NotFound,
    Forbidden, Conflict.
    """
    secret = await tx.value(
        _sql["reveal_secret"], {"id": export_id, "totp_max_age_seconds": totp_max_age_seconds}
    )
    if secret is None:
        raise NotFound("audit_export_not_found")
    return str(secret)


async def begin(tx: Transaction, export_id: UUID, secret: str) -> BegunExport | None:
    """Begin an attempt to make an export. Return None if the export is not being made. Needs the worker's role, like
    all functions below.
    """
    row = await tx.one(_sql["begin_export"], {"id": export_id, "secret": secret})
    return None if row is None else BegunExport(**{**row, "format": AuditExportFormat(row["format"])})


async def report(tx: Transaction, export_id: UUID, run: int, percent: int, event_count: int) -> bool:
    """Store the progress of an attempt. Return False if the attempt must end."""
    values = {"id": export_id, "run": run, "percent": percent, "event_count": event_count}
    return bool(await tx.value(_sql["report_export"], values))


async def read_events(
    tx: Transaction, export_id: UUID, run: int, before: tuple[datetime, UUID], page_size: int
) -> list[DictRow]:
    """Return the next events of an export, newest first: those before the given time and id."""
    before_at, before_id = before
    values = {
        "id": export_id,
        "run": run,
        "before_at": before_at,
        "before_id": before_id,
        "page_size": page_size,
    }
    return await tx.all(_sql["read_events"], values)


async def find_places(tx: Transaction, events: Sequence[DictRow]) -> Mapping[UUID, Place]:
    """Return the place of each event in its log, by the event's id."""
    values = {
        "ids": [event["id"] for event in events],
        "recorded_ats": [event["recorded_at"] for event in events],
    }
    rows = await tx.all(_sql["find_places"], values)
    return {row["event_id"]: Place(row["origin"], row["index"]) for row in rows}


async def record_content(tx: Transaction, export_id: UUID, run: int, written: WrittenContent) -> UUID | None:
    """Record the file of events that an attempt has written, and return the id of the audit event with its digest.
    Return None if the attempt must end.
    """
    values = {
        "id": export_id,
        "run": run,
        "event_count": written.event_count,
        "size_bytes": written.size_bytes,
        "sha256": written.sha256,
    }
    event_id: UUID | None = await tx.value(_sql["record_content"], values)
    return event_id


async def finish(tx: Transaction, export_id: UUID, begun: BegunExport, size_bytes: int) -> bool:
    """Make an export READY. Return False if the attempt must end; the stored archive then belongs to nothing."""
    values = {"id": export_id, "run": begun.run, "object_key": begun.object_key, "size_bytes": size_bytes}
    return bool(await tx.value(_sql["finish_export"], values))


async def fail(tx: Transaction, export_id: UUID, reason: str) -> None:
    """Set an export to FAILED, unless it has ended."""
    await tx.run(_sql["fail_export"], {"id": export_id, "reason": reason})


async def list_ended(tx: Transaction) -> list[tuple[UUID, str]]:
    """Return at most 100 exports whose archive must be deleted, each with the object key of the archive."""
    return [(row["export_id"], row["object_key"]) for row in await tx.all(_sql["ended_exports"])]


async def expire(tx: Transaction, export_id: UUID) -> bool:
    """Mark an export as expired after its archive was deleted from the bucket."""
    return bool(await tx.value(_sql["expire_export"], {"id": export_id}))
