"""Reads and writes the database rows of requests for an accounting. The caller opens the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from app.accountings.model import AccountingRequestStatus
from app.errors import NotFound
from app.identity import permissions
from app.keys.keyring import DataKey
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import PatientBy, patient_parameters
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_REQUEST: Final = EntityRead(
    entities=ENTITIES,
    entity="accounting_request",
    where="r.id = %(id)s",
    action=permissions.LIST_ACCOUNTING_REQUESTS.action,
)
_REQUESTS: Final = EntityList(
    entities=ENTITIES,
    entity="accounting_request",
    one_of={"statuses": "r.status = v.value"},
    action=permissions.LIST_ACCOUNTING_REQUESTS.action,
    time="created_at",
)


@dataclass(frozen=True)
class BegunAccounting:
    """An accounting that is being issued. `issued` is the ciphertext of the accounting that was issued before."""

    patient_id: UUID
    earliest_date: date
    latest_date: date
    issued: bytes | None = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key: str


async def list_page(
    tx: Transaction,
    request: PageRequest,
    statuses: Sequence[AccountingRequestStatus] | None,
    selection: Selection,
) -> Page[Row]:
    """Write the audit row and return a page of requests, newest first. Raises RateLimited (quota_pages)."""
    wanted = None if statuses is None else list(dict.fromkeys(statuses))
    return await _REQUESTS.page(tx, request, {"statuses": wanted}, selection)


async def show(tx: Transaction, request_id: UUID, selection: Selection, action: LiteralString) -> Row:
    """Return a request that the transaction has changed, and write the audit row of the change. Raises NotFound."""
    shown = await _REQUEST.show(tx, selection, {"id": request_id}, action=action, is_counted=False)
    if shown is None:
        raise NotFound("accounting_request_not_found")
    return shown


async def file(
    tx: Transaction,
    *,
    patient: PatientBy | None,
    received_on: date | None,
    earliest_date: date | None,
    latest_date: date | None,
) -> UUID | None:
    """File a request and return its id, or the id of the open request. Return None if the patient does not exist.
    Raises Conflict (bad_accounting_dates).
    """
    values = {"received_on": received_on, "earliest_date": earliest_date, "latest_date": latest_date}
    return await _change(tx, "file", **patient_parameters(patient), **values)


async def withdraw(tx: Transaction, request_id: UUID) -> UUID | None:
    """Withdraw a request. Raises Conflict (accounting_request_closed)."""
    return await _change(tx, "withdraw", id=request_id)


async def extend(tx: Transaction, request_id: UUID, days: int, reason: str) -> UUID | None:
    """Extend the deadline. Raises Conflict (accounting_request_closed, extended_already, past_due)."""
    return await _change(tx, "extend", id=request_id, days=days, reason=reason)


async def begin(tx: Transaction, request_id: UUID, offered: DataKey) -> BegunAccounting:
    """Begin to issue an accounting. Raises NotFound, Conflict (accounting_request_closed, root_key_unknown)."""
    values = {"id": request_id, "offered": offered.wrapped, "offered_root_key": offered.root_key_id}
    row = await tx.one(_sql["begin"], values)
    if row is None:
        raise NotFound("accounting_request_not_found")
    return BegunAccounting(**row)


async def read_entries(tx: Transaction, request_id: UUID) -> list[DictRow]:
    """Return the encrypted entries of the accounting that the transaction has begun, the latest day first."""
    return await tx.all_in_binary(_sql["read_entries"], {"id": request_id})


async def finish(tx: Transaction, request_id: UUID, ciphertext: bytes, sha256: str, entry_count: int) -> None:
    """Store the accounting that the transaction has begun, and mark its request as FULFILLED."""
    await tx.run(
        _sql["finish"],
        {"id": request_id, "ciphertext": ciphertext, "sha256": sha256, "entry_count": entry_count},
    )


async def list_overdue(tx: Transaction) -> list[UUID]:
    """Return the open requests whose due day has passed. Needs the worker's role."""
    return list(await tx.value(_sql["overdue"]))


async def _change(tx: Transaction, statement: LiteralString, **parameters: object) -> UUID | None:
    changed = await tx.value(_sql[statement], parameters)
    return None if changed is None else UUID(str(changed))
