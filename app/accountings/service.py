"""The service with which patients ask for an accounting of disclosures, and compliance officers issue it.

An issued accounting never changes: a repeated call returns the bytes of the first, even if a suspension has ended or a
disclosure was recorded since. The patient can then ask for another accounting.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from uuid import UUID

import anyio.to_thread
from psycopg.rows import DictRow

from app.access_requests.model import ExtensionReason
from app.accountings import store
from app.accountings.model import (
    Accounting,
    AccountingRequestStatus,
    Entry,
    make_accounting,
    parse_accounting,
    require_days,
)
from app.accountings.store import BegunAccounting
from app.disclosures.model import NO_TEXT, parse_text, text_field
from app.errors import NotFound
from app.identity import permissions
from app.keys.keyring import FieldKey, Keyring
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database, Transaction
from app.postgres.paging import Page, PageRequest
from app.postgres.references import PatientBy
from app.postgres.selection import Selection

_KIND = "accounting"


class Accountings:
    """The operations on accountings that the API offers."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        statuses: Sequence[AccountingRequestStatus] | None,
        selection: Selection,
    ) -> Page[Row]:
        """Return a page of requests, newest first. A patient gets only their own, and a compliance officer all."""
        async with self._database.as_user(asker, permissions.LIST_ACCOUNTING_REQUESTS.on()) as tx:
            return await store.list_page(tx, request, statuses, selection)

    async def file(
        self, asker: Asker, earliest_date: date | None, latest_date: date | None, selection: Selection
    ) -> Row:
        """File a request of the patient who is logged in, or return the patient's open request. Raises Conflict
        (bad_accounting_dates), RateLimited (quota_pages).
        """
        return await self._change(
            asker,
            permissions.REQUEST_ACCOUNTING.on(),
            lambda tx: store.file(
                tx, patient=None, received_on=None, earliest_date=earliest_date, latest_date=latest_date
            ),
            selection,
            missing="patient_not_found",
        )

    async def file_written(
        self,
        asker: Asker,
        patient: PatientBy,
        received_on: date,
        earliest_date: date | None,
        latest_date: date | None,
        selection: Selection,
    ) -> Row:
        """File a request that a patient sent in writing within the last 90 days, or return the patient's open request.
        Raises NotFound (patient_not_found), Conflict (bad_accounting_dates), RateLimited (quota_pages).
        """
        return await self._change(
            asker,
            permissions.RECORD_ACCOUNTING_REQUEST.on(patient.id, external_id=patient.external_id),
            lambda tx: store.file(
                tx,
                patient=patient,
                received_on=received_on,
                earliest_date=earliest_date,
                latest_date=latest_date,
            ),
            selection,
            missing="patient_not_found",
        )

    async def withdraw(self, asker: Asker, request_id: UUID, selection: Selection) -> Row:
        """Withdraw a request. Safe to repeat. Raises NotFound, Conflict (accounting_request_closed)."""
        access = permissions.WITHDRAW_ACCOUNTING_REQUEST.on(request_id)
        return await self._change(asker, access, lambda tx: store.withdraw(tx, request_id), selection)

    async def extend(
        self, asker: Asker, request_id: UUID, days: int, reason: ExtensionReason, selection: Selection
    ) -> Row:
        """Extend the deadline of a request once. Raises NotFound, InvalidInput (bad_extension), Conflict
        (accounting_request_closed, extended_already, past_due).
        """
        longer = require_days(days)
        access = permissions.EXTEND_ACCOUNTING_REQUEST.on(request_id)
        return await self._change(
            asker, access, lambda tx: store.extend(tx, request_id, longer, reason), selection
        )

    async def issue(self, asker: Asker, request_id: UUID, selection: Selection) -> tuple[Row, Accounting]:
        """Issue the accounting of a request, and return the request and the accounting. A repeated call returns the
        accounting that was issued first.

        Raises NotFound, Conflict (accounting_request_closed, accounting_too_large, field_unreadable, root_key_unknown,
        data_key_wrong), RateLimited (quota_pages).
        """
        access = permissions.ISSUE_ACCOUNTING.on(request_id)
        async with self._database.as_user(asker, access) as tx:
            begun = await store.begin(tx, request_id, self._keyring.new_data_key())
            key = self._keyring.unwrap(begun.wrapped, begun.root_key)
            place = text_field(_KIND, request_id, begun.patient_id)
            if begun.issued is not None:
                accounting = parse_accounting(key.decrypt(place, begun.issued))
            else:
                rows = await store.read_entries(tx, request_id)
                accounting = await anyio.to_thread.run_sync(_make, request_id, begun, rows, key)
                ciphertext = key.encrypt(place, accounting.file)
                count = len(accounting.entries)
                await store.finish(tx, request_id, ciphertext, accounting.sha256, count)
            shown = await store.show(tx, request_id, selection, access.action)
        return shown, accounting

    async def _change(
        self,
        asker: Asker,
        access: Access,
        change: Callable[[Transaction], Awaitable[UUID | None]],
        selection: Selection,
        *,
        missing: str = "accounting_request_not_found",
    ) -> Row:
        async with self._database.as_user(asker, access) as tx:
            changed = await change(tx)
            if changed is None:
                raise NotFound(missing)
            return await store.show(tx, changed, selection, access.action)


def _make(request_id: UUID, begun: BegunAccounting, rows: Sequence[DictRow], key: FieldKey) -> Accounting:
    patient = str(begun.patient_id)
    entries = [_entry(row, patient, key) for row in rows]
    return make_accounting(request_id, begun.patient_id, begun.earliest_date, begun.latest_date, entries)


def _entry(row: DictRow, patient_id: str, key: FieldKey) -> Entry:
    text = NO_TEXT
    if row["ciphertext"] is not None:
        place = text_field("disclosure", row["id"], patient_id)
        text = parse_text(key.decrypt(place, row["ciphertext"]))
    return Entry(
        row["disclosed_on"],
        row["last_disclosed_on"],
        row["disclosure_count"],
        text["name"],
        text["address"],
        text["description"],
        row["purpose"],
        text["purpose"],
        row["is_substance_use"],
    )
