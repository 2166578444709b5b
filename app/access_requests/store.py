"""Reads and writes the database rows of access requests."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from pydantic import TypeAdapter

from app.access_requests.model import (
    AccessRequest,
    AccessRequestStatus,
    DenialGround,
    ExportedFile,
    ExportPlan,
    ExtensionReason,
    ReviewOutcome,
)
from app.consents.model import Representative
from app.identity import permissions
from app.postgres.audited import AuditedList
from app.postgres.database import Transaction
from app.postgres.paging import PageRequest
from app.postgres.queries import Queries
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    consultation_parameters,
    patient_parameters,
)

_sql = Queries(Path(__file__).with_name("queries.sql"))
_request = TypeAdapter(AccessRequest)
_REQUESTS: Final = AuditedList(
    table="resguardo.access_requests",
    values={"statuses": "r.status = v.value"},
    columns={
        "representative": ("representative_relationship", "representative_name"),
        "extension": ("extension_reason", "extended_at"),
        "denial": (
            "denial_ground",
            "determined_by",
            "review_asked_at",
            "reviewed_by",
            "reviewed_at",
            "review_outcome",
        ),
        "export": (
            "export_status",
            "export_error",
            "export_size_bytes",
            "export_recordings",
            "export_missing",
            "export_expires_at",
            "secret_revealed_at",
        ),
    },
    details={"is_overdue": _sql["is_overdue"]},
    items=AccessRequest,
    action=permissions.LIST_ACCESS_REQUESTS.action,
    entity_type="access_request",
    time="created_at",
)


async def list_page(
    tx: Transaction,
    request: PageRequest,
    statuses: Sequence[AccessRequestStatus],
    fields: Sequence[str],
) -> list[AccessRequest]:
    """Return the access requests of a page and the one after them, and write the audit row of the page. Raises
    RateLimited (quota_pages).
    """
    return await _REQUESTS.page(
        tx, request, {"statuses": list(dict.fromkeys(statuses)) or None}, fields=fields
    )


async def file(
    tx: Transaction,
    *,
    patient: PatientBy | None,
    consultation: ConsultationBy | None,
    received_on: date | None,
    representative: Representative | None,
) -> AccessRequest | None:
    """File an access request and return it, or return the open request with the same scope. Return None if the
    caller may not see the patient or the consultation, or if one of them does not exist.
    """
    return await _run_one(
        tx,
        "file_access_request",
        **patient_parameters(patient),
        **consultation_parameters(consultation),
        received_on=received_on,
        relationship=representative.relationship if representative else None,
        name=representative.name if representative else None,
    )


async def withdraw(tx: Transaction, request_id: UUID) -> AccessRequest | None:
    """Withdraw the request. Raises Conflict (access_request_closed, request_not_written), RateLimited
    (quota_pages).
    """
    return await _run_one(tx, "withdraw_access_request", id=request_id)


async def approve(tx: Transaction, request_id: UUID) -> AccessRequest | None:
    """Approve the access request, and queue the job that makes its encrypted copy. Raises Conflict
    (access_request_closed, review_pending), RateLimited (quota_pages).
    """
    return await _run_one(tx, "approve_access_request", id=request_id)


async def deny(
    tx: Transaction, request_id: UUID, ground: DenialGround, determined_by: UUID | None
) -> AccessRequest | None:
    """Deny the request. Raises Conflict: access_request_closed, review_pending, clinician_unknown,
    request_has_no_representative.
    """
    return await _run_one(
        tx, "deny_access_request", id=request_id, ground=ground, determined_by=determined_by
    )


async def extend(
    tx: Transaction, request_id: UUID, days: int, reason: ExtensionReason
) -> AccessRequest | None:
    """Extend the deadline. Raises Conflict: access_request_closed, review_pending, extended_already, past_due."""
    return await _run_one(tx, "extend_access_request", id=request_id, days=days, reason=reason)


async def ask_review(tx: Transaction, request_id: UUID) -> AccessRequest | None:
    """Reopen a denied access request, so that the denial is reviewed. Raises Conflict: not_reviewable,
    reviewed_already, access_request_open_already, request_not_written. Raises RateLimited (quota_pages).
    """
    return await _run_one(tx, "ask_access_review", id=request_id)


async def record_review(
    tx: Transaction, request_id: UUID, reviewer_id: UUID, outcome: ReviewOutcome
) -> AccessRequest | None:
    """Record a review. Raises Conflict: no_review_asked, clinician_unknown, reviewer_took_part."""
    return await _run_one(tx, "record_access_review", id=request_id, reviewer_id=reviewer_id, outcome=outcome)


async def release_export_key(tx: Transaction, request_id: UUID) -> str | None:
    """Write the audit row and return the object key of an encrypted copy. Return None if the caller may not see the
    access request or it does not exist, and '' if the request has no copy.
    """
    key = await tx.value(_sql["release_export_key"], {"id": request_id})
    return None if key is None else str(key)


async def reveal_export_secret(tx: Transaction, request_id: UUID) -> str | None:
    """Write the audit row and return the secret of an encrypted copy, once. Return None if the access request is
    unknown, and '' if no secret is left.
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
    return ExportPlan(str(key), await read_clock(tx), tuple(ExportedFile(**row) for row in rows))


async def finish_export(tx: Transaction, request_id: UUID, plan: ExportPlan, size_bytes: int) -> bool:
    """Mark the access request as fulfilled. Return False if the request does not name the object of this attempt.
    Needs the worker's role.
    """
    parameters = {
        "id": request_id,
        "object_key": plan.object_key,
        "size_bytes": size_bytes,
        "contents": [file.recording_id for file in plan.files],
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


async def list_overdue(tx: Transaction) -> list[UUID]:
    """Return the access requests that are OPEN or APPROVED after their due day, the longest overdue first. Needs
    the worker's role.
    """
    return list(await tx.value(_sql["overdue_access_requests"]))


async def read_clock(tx: Transaction) -> datetime:
    """Return the database's time. Needs the worker's role."""
    now: datetime = await tx.value(_sql["clock"])
    return now


async def find_unknown_export_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Return the given object keys that belong to no encrypted copy. Needs the worker's role."""
    return set(await tx.value(_sql["unknown_export_keys"], {"keys": list(keys)}))


async def may_sweep(tx: Transaction, request_id: UUID, object_key: str) -> bool:
    """Return whether the object still belongs to no encrypted copy. If the object belongs to no patient's copy,
    write the audit row of the sweep that deletes the object. Needs the worker's role.
    """
    return await tx.run(_sql["record_sweep"], {"id": request_id, "object_key": object_key}) == 1


async def _run_one(tx: Transaction, statement: LiteralString, **parameters: object) -> AccessRequest | None:
    row = await tx.one(_sql[statement], parameters)
    return None if row is None else _request.validate_python(row)
