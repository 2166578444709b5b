"""Access requests as rows."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import LiteralString
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
from app.audited import read_audited
from app.consents.model import Representative
from app.db import Transaction
from app.paging import PageRequest
from app.sql import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))
_request = TypeAdapter(AccessRequest)
_requests = TypeAdapter(list[AccessRequest])


async def list_page(
    tx: Transaction,
    request: PageRequest,
    status: AccessRequestStatus | None,
    fields: Sequence[str],
    quota: int,
) -> list[AccessRequest]:
    """One row more than the page, with the audit row of the page. Raises RateLimited (quota_pages)."""
    parameters = {**request.parameters, "status": status, "fields": list(fields), "quota": quota}
    return await read_audited(tx, _sql["list_access_requests"], parameters, _requests)


async def file(
    tx: Transaction,
    *,
    patient_id: UUID | None,
    consultation_id: UUID | None,
    received_on: date | None,
    representative: Representative | None,
    quota: int,
) -> AccessRequest | None:
    """The new request, or the open one of the same scope; None where patient or consultation is hidden or unknown."""
    return await _one(
        tx,
        "file_access_request",
        patient_id=patient_id,
        consultation_id=consultation_id,
        received_on=received_on,
        relationship=representative.relationship if representative else None,
        name=representative.name if representative else None,
        quota=quota,
    )


async def withdraw(tx: Transaction, request_id: UUID, quota: int) -> AccessRequest | None:
    """Raises Conflict (access_request_closed, request_not_written), RateLimited (quota_pages)."""
    return await _one(tx, "withdraw_access_request", id=request_id, quota=quota)


async def approve(tx: Transaction, request_id: UUID, quota: int) -> AccessRequest | None:
    """Queues the copy too. Raises Conflict (access_request_closed, review_pending), RateLimited (quota_pages)."""
    return await _one(tx, "approve_access_request", id=request_id, quota=quota)


async def deny(
    tx: Transaction, request_id: UUID, ground: DenialGround, determined_by: UUID | None
) -> AccessRequest | None:
    """Raises Conflict: access_request_closed, review_pending, clinician_unknown, request_has_no_representative."""
    return await _one(tx, "deny_access_request", id=request_id, ground=ground, determined_by=determined_by)


async def extend(
    tx: Transaction, request_id: UUID, days: int, reason: ExtensionReason
) -> AccessRequest | None:
    """Raises Conflict: access_request_closed, review_pending, extended_already, past_due."""
    return await _one(tx, "extend_access_request", id=request_id, days=days, reason=reason)


async def ask_review(tx: Transaction, request_id: UUID, quota: int) -> AccessRequest | None:
    """Raises Conflict: not_reviewable, reviewed_already, access_request_open_already, request_not_written. Raises
    RateLimited (quota_pages).
    """
    return await _one(tx, "ask_access_review", id=request_id, quota=quota)


async def record_review(
    tx: Transaction, request_id: UUID, reviewer_id: UUID, outcome: ReviewOutcome
) -> AccessRequest | None:
    """Raises Conflict: no_review_asked, clinician_unknown, reviewer_took_part."""
    return await _one(tx, "record_access_review", id=request_id, reviewer_id=reviewer_id, outcome=outcome)


async def release_export_key(tx: Transaction, request_id: UUID, quota: int) -> str | None:
    """After the audit row; None where the request is hidden or unknown, '' where there is no copy."""
    key = await tx.value(_sql["release_export_key"], {"id": request_id, "quota": quota})
    return None if key is None else str(key)


async def reveal_export_secret(tx: Transaction, request_id: UUID) -> str | None:
    """After the audit row, and once; None where the request is unknown, '' where there is nothing to reveal."""
    secret = await tx.value(_sql["reveal_export_secret"], {"id": request_id})
    return None if secret is None else str(secret)


async def begin_export(tx: Transaction, request_id: UUID, secret: str) -> ExportPlan | None:
    """As the worker: a new attempt; None where no copy is to be made, or there is nothing to copy.

    Raises Conflict (recording_not_finished, recording_being_deleted): it is too early.
    """
    rows = await tx.all(_sql["begin_export"], {"id": request_id, "secret": secret})
    if not rows:
        return None
    keys = {row.pop("object_key") for row in rows}
    (key,) = keys
    return ExportPlan(str(key), await clock(tx), tuple(ExportedFile(**row) for row in rows))


async def finish_export(tx: Transaction, request_id: UUID, plan: ExportPlan, size_bytes: int) -> bool:
    """As the worker: the request is fulfilled; False where this attempt's object is nobody's."""
    parameters = {
        "id": request_id,
        "object_key": plan.object_key,
        "size_bytes": size_bytes,
        "contents": [file.recording_id for file in plan.files],
    }
    return bool(await tx.value(_sql["finish_export"], parameters))


async def fail_export(tx: Transaction, request_id: UUID, reason: str) -> None:
    """As the worker."""
    await tx.run(_sql["fail_export"], {"id": request_id, "reason": reason})


async def ended_exports(tx: Transaction) -> list[tuple[UUID, str]]:
    """As the worker: requests whose copy is to go, with its key; a hundred at most."""
    return [(row["request_id"], row["object_key"]) for row in await tx.all(_sql["ended_exports"])]


async def expire_export(tx: Transaction, request_id: UUID, object_key: str) -> bool:
    """As the worker, of a copy that is gone from the bucket."""
    return bool(await tx.value(_sql["expire_export"], {"id": request_id, "object_key": object_key}))


async def overdue(tx: Transaction) -> list[UUID]:
    """As the worker: open requests past their day, the longest overdue first."""
    return list(await tx.value(_sql["overdue_access_requests"]))


async def clock(tx: Transaction) -> datetime:
    """As the worker: the database's time."""
    now: datetime = await tx.value(_sql["clock"])
    return now


async def unknown_export_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """As the worker: which of these objects no copy has."""
    return set(await tx.value(_sql["unknown_export_keys"], {"keys": list(keys)}))


async def may_sweep(tx: Transaction, request_id: UUID, object_key: str) -> bool:
    """As the worker: asks once more and, where still no copy has the object, writes the audit row of its end."""
    return await tx.run(_sql["record_sweep"], {"id": request_id, "object_key": object_key}) == 1


async def _one(tx: Transaction, statement: LiteralString, **parameters: object) -> AccessRequest | None:
    row = await tx.one(_sql[statement], parameters)
    return None if row is None else _request.validate_python(row)
