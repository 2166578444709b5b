"""Reads and writes the database rows of access requests."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from app.access_requests.exported_notes import ExportedNote
from app.access_requests.model import (
    AccessRequestStatus,
    DenialGround,
    ExportedFile,
    ExportPlan,
    ExtensionReason,
    ReviewOutcome,
    UncopiedText,
)
from app.consents.model import Representative
from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    consultation_parameters,
    patient_parameters,
)
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_ACCESS_REQUEST: Final = EntityRead(
    entities=ENTITIES,
    entity="access_request",
    where="r.id = %(id)s",
    action=permissions.LIST_ACCESS_REQUESTS.action,
)
_ACCESS_REQUESTS: Final = EntityList(
    entities=ENTITIES,
    entity="access_request",
    one_of={"statuses": "r.status = v.value"},
    action=permissions.LIST_ACCESS_REQUESTS.action,
    time="created_at",
)


async def list_page(
    tx: Transaction,
    request: PageRequest,
    statuses: Sequence[AccessRequestStatus] | None,
    selection: Selection,
) -> Page[Row]:
    """Write the audit row and return a page of access requests, newest first. Raises RateLimited (quota_pages)."""
    wanted = None if statuses is None else list(dict.fromkeys(statuses))
    return await _ACCESS_REQUESTS.page(tx, request, {"statuses": wanted}, selection)


async def show(
    tx: Transaction,
    request_id: UUID,
    selection: Selection,
    action: LiteralString,
    *,
    besides: Collection[str] = (),
) -> Row:
    """Return an access request that the transaction has changed, and write the audit row of the change, which also
    names everything that is shown, and the fields `besides`. Raises NotFound (access_request_not_found).
    """
    shown = await _ACCESS_REQUEST.show(
        tx, selection, {"id": request_id}, action=action, is_counted=False, besides=besides
    )
    if shown is None:
        raise NotFound("access_request_not_found")
    return shown


async def file(
    tx: Transaction,
    *,
    patient: PatientBy | None,
    consultation: ConsultationBy | None,
    received_on: date | None,
    representative: Representative | None,
) -> UUID | None:
    """File an access request and return its id, or return the id of the open request with the same scope. Return
    None if the caller may not see the patient or the consultation, or if one of them does not exist.
    """
    return await _change(
        tx,
        "file_access_request",
        **patient_parameters(patient),
        **consultation_parameters(consultation),
        received_on=received_on,
        relationship=representative.relationship if representative else None,
        name=representative.name if representative else None,
    )


async def withdraw(tx: Transaction, request_id: UUID) -> UUID | None:
    """Withdraw the request. Raises Conflict (access_request_closed, request_not_written), RateLimited
    (quota_pages).
    """
    return await _change(tx, "withdraw_access_request", id=request_id)


async def approve(tx: Transaction, request_id: UUID) -> UUID | None:
    """Approve the access request, and queue the job that makes its encrypted copy. Raises Conflict
    (access_request_closed, review_pending), RateLimited (quota_pages).
    """
    return await _change(tx, "approve_access_request", id=request_id)


async def deny(
    tx: Transaction, request_id: UUID, ground: DenialGround, determined_by: UUID | None
) -> UUID | None:
    """Deny the request. Raises Conflict: access_request_closed, review_pending, clinician_unknown,
    request_has_no_representative.
    """
    return await _change(tx, "deny_access_request", id=request_id, ground=ground, determined_by=determined_by)


async def extend(tx: Transaction, request_id: UUID, days: int, reason: ExtensionReason) -> UUID | None:
    """Extend the deadline. Raises Conflict: access_request_closed, review_pending, extended_already, past_due."""
    return await _change(tx, "extend_access_request", id=request_id, days=days, reason=reason)


async def ask_review(tx: Transaction, request_id: UUID) -> UUID | None:
    """Reopen a denied access request, so that the denial is reviewed. Raises Conflict: not_reviewable,
    reviewed_already, access_request_open_already, request_not_written. Raises RateLimited (quota_pages).
    """
    return await _change(tx, "ask_access_review", id=request_id)


async def record_review(
    tx: Transaction, request_id: UUID, reviewer_id: UUID, outcome: ReviewOutcome
) -> UUID | None:
    """Record a review. Raises Conflict: no_review_asked, clinician_unknown, reviewer_took_part."""
    return await _change(tx, "record_access_review", id=request_id, reviewer_id=reviewer_id, outcome=outcome)


async def release_export_key(tx: Transaction, request_id: UUID) -> str | None:
    """Write the audit row and return the object key of an encrypted copy. Return None if the caller may not see the
    access request or it does not exist, and '' if the request has no copy.
    """
    key = await tx.value(_sql["release_export_key"], {"id": request_id})
    return None if key is None else str(key)


async def reveal_export_secret(tx: Transaction, request_id: UUID) -> str | None:
    """Return the secret of an encrypted copy, once, and erase it. Return None if the access request is unknown.
    Raises Conflict (export_secret_gone).
    """
    secret = await tx.value(_sql["reveal_export_secret"], {"id": request_id})
    return None if secret is None else str(secret)


async def begin_export(tx: Transaction, request_id: UUID, secret: str) -> ExportPlan | None:
    """Begin an attempt to make an encrypted copy, and return the plan of the copy. Return None if the access
    request needs no copy, or if no requested recording exists. Needs the worker's role.

    Raises Conflict (recording_not_finished) if a requested recording is unfinished, and Conflict
    (recording_being_deleted) if one is being destroyed.
    """
    rows = await tx.all(_sql["begin_export"], {"id": request_id, "secret": secret})
    if not rows:
        return None
    keys = {row.pop("object_key") for row in rows}
    (key,) = keys
    has_notice = {row.pop("has_notice") for row in rows} == {True}
    files = tuple(ExportedFile(**row) for row in rows if row["recording_id"] is not None)
    uncopied = await tx.all(_sql["uncopied_texts"], {"id": request_id})
    return ExportPlan(
        str(key),
        await read_clock(tx),
        files,
        uncopied=tuple(UncopiedText(**row) for row in uncopied),
        has_notice=has_notice,
    )


async def read_exported_notes(tx: Transaction, request_id: UUID) -> list[ExportedNote]:
    """Return every version of the session notes that the copy must contain, which the transaction has begun. Needs
    the worker's role.
    """
    rows = await tx.all_in_binary(_sql["export_session_notes"], {"id": request_id})
    return [ExportedNote(**row) for row in rows]


async def read_signed_notes(tx: Transaction, request_id: UUID) -> list[DictRow]:
    """Return the versions of the signed notes that the copy must contain, which the transaction has begun, and write
    the audit row. Needs the worker's role.
    """
    return await tx.all(_sql["export_signed_notes"], {"id": request_id})


async def finish_export(tx: Transaction, request_id: UUID, plan: ExportPlan, size_bytes: int) -> bool:
    """Mark the access request as fulfilled. Return False if the request does not name the object of this attempt.
    Needs the worker's role.
    """
    parameters = {
        "id": request_id,
        "object_key": plan.object_key,
        "size_bytes": size_bytes,
        "contents": [file.recording_id for file in plan.files],
        "noted": [text.recording_id for text in plan.texts],
    }
    return bool(await tx.value(_sql["finish_export"], parameters))


async def fail_export(tx: Transaction, request_id: UUID, reason: str) -> None:
    """Mark the encrypted copy of an access request as failed. Needs the worker's role."""
    await tx.run(_sql["fail_export"], {"id": request_id, "reason": reason})


async def list_ended_exports(tx: Transaction) -> list[tuple[UUID, str]]:
    """Return at most 100 access requests whose encrypted copy must be deleted, each with the object key of the
    copy. Needs the worker's role.
    """
    return [(row["request_id"], row["object_key"]) for row in await tx.all(_sql["ended_exports"])]


async def expire_export(tx: Transaction, request_id: UUID, object_key: str) -> bool:
    """Mark an encrypted copy as expired after its object was deleted from the bucket. Needs the worker's role."""
    return bool(await tx.value(_sql["expire_export"], {"id": request_id, "object_key": object_key}))


async def read_clock(tx: Transaction) -> datetime:
    """Return the database's time. Needs the worker's role."""
    now: datetime = await tx.value(_sql["clock"])
    return now


async def _change(tx: Transaction, statement: LiteralString, **parameters: object) -> UUID | None:
    """Run a statement that changes an access request, and return the id of the request. Return None if the request
    does not exist or is hidden from the caller.
    """
    changed = await tx.value(_sql[statement], parameters)
    return None if changed is None else UUID(str(changed))
