"""The service with which compliance officers record and list disclosures, and suspend the patient's right to see them.

Every list is for compliance officers only. The patient gets an accounting from the practice (`app/accountings`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from app.disclosures import store
from app.disclosures.model import (
    NO_TEXT,
    DisclosurePurpose,
    NewDisclosure,
    NewSuspension,
    parse_text,
    require_disclosure,
    require_text,
)
from app.disclosures.store import DISCLOSURE, SUSPENSION, FoundIds, StoredText
from app.errors import NotFound
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Cursor, Page, PageRequest
from app.postgres.references import ConsultationBy, PatientBy
from app.postgres.selection import Selection


@dataclass(frozen=True)
class Listed:
    """A row of a list, and its place in the list."""

    row: Row
    place: Cursor


class Disclosures:
    """The operations on disclosures that the API offers."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        selection: Selection,
        *,
        patient: PatientBy | None = None,
        since: date | None = None,
        until: date | None = None,
        purposes: Sequence[DisclosurePurpose] | None = None,
        only_accounted: bool = False,
    ) -> Page[Listed]:
        """Return a page of the recorded disclosures that the filters select, the latest day first. With
        `only_accounted`, the page has only those that an accounting would contain now. Raises RateLimited
        (quota_pages), Conflict (field_unreadable).
        """
        access = permissions.LIST_DISCLOSURES.on()
        async with self._database.as_user(asker, access) as tx:
            found = await store.find_disclosures(
                tx,
                request,
                patient,
                since=since,
                until=until,
                purposes=purposes,
                only_accounted=only_accounted,
            )
            read = await store.read_texts(
                tx, self._keyring, DISCLOSURE, found.ids, selection, action=access.action, asked=found.asked
            )
        return _page(found, read, _show_disclosure)

    async def record(
        self,
        asker: Asker,
        patient: PatientBy,
        consultation: ConsultationBy | None,
        given: NewDisclosure,
        selection: Selection,
        *,
        idempotency_key: str | None,
    ) -> Row:
        """Record a disclosure. A repeated call with the same `idempotency_key` returns the first call's disclosure.

        Raises InvalidInput (bad_disclosure, bad_idempotency_key), NotFound (patient_not_found,
        consultation_not_found), Conflict (disclosed_on_ahead, authorization_expired, idempotency_key_reused).
        """
        given = require_disclosure(given)
        named = consultation or ConsultationBy()
        permitted = given.authorization
        call = RepeatableCall(
            "recordDisclosure",
            idempotency_key,
            patient.id,
            patient.external_id,
            named.id,
            named.external_id,
            str(given.disclosed_on),
            str(given.last_disclosed_on),
            given.count,
            given.purpose,
            given.recipient_name,
            given.recipient_address,
            given.description,
            given.purpose_statement,
            *(
                (str(permitted.signed_on), str(permitted.expires_on), permitted.reference)
                if permitted
                else ()
            ),
        )
        access = permissions.RECORD_DISCLOSURE.on(patient.id, external_id=patient.external_id)
        action = access.action
        async with self._database.as_user(asker, access) as tx:
            recorded = await call.claim(tx)
            if recorded is not None:
                action = permissions.LIST_DISCLOSURES.action
            else:
                recorded = await store.record(tx, self._keyring, patient, consultation, given)
                if recorded is None:
                    raise NotFound("patient_not_found" if consultation is None else "consultation_not_found")
                await call.settle(tx, recorded)
            read = await store.read_texts(tx, self._keyring, DISCLOSURE, [recorded], selection, action=action)
        return _show_disclosure(read[recorded])

    async def suspensions(
        self, asker: Asker, request: PageRequest, patient: PatientBy | None, selection: Selection
    ) -> Page[Listed]:
        """Return a page of suspensions, newest first: of one patient, or all. Raises RateLimited (quota_pages)."""
        access = permissions.LIST_SUSPENSIONS.on()
        async with self._database.as_user(asker, access) as tx:
            found = await store.find_suspensions(tx, request, patient)
            read = await store.read_texts(
                tx, self._keyring, SUSPENSION, found.ids, selection, action=access.action, asked=found.asked
            )
        return _page(found, read, _show_suspension)

    async def suspend(
        self,
        asker: Asker,
        patient: PatientBy,
        given: NewSuspension,
        selection: Selection,
        *,
        idempotency_key: str | None,
    ) -> Row:
        """Suspend the patient's right to see the disclosures to an agency. A repeated call with the same
        `idempotency_key` returns the first call's suspension.

        Raises InvalidInput (bad_disclosure, bad_idempotency_key), NotFound (patient_not_found), Conflict
        (suspension_over, suspension_too_long, suspension_not_written, idempotency_key_reused).
        """
        official = require_text("name", given.official)
        given = NewSuspension(given.agency, given.is_written, given.ends_at, official)
        call = RepeatableCall(
            "suspendDisclosures",
            idempotency_key,
            patient.id,
            patient.external_id,
            given.agency,
            int(given.is_written),
            given.ends_at.isoformat(),
            given.official,
        )
        access = permissions.SUSPEND_DISCLOSURES.on(patient.id, external_id=patient.external_id)
        action = access.action
        async with self._database.as_user(asker, access) as tx:
            placed = await call.claim(tx)
            if placed is not None:
                action = permissions.LIST_SUSPENSIONS.action
            else:
                placed = await store.suspend(tx, self._keyring, patient, given)
                if placed is None:
                    raise NotFound("patient_not_found")
                await call.settle(tx, placed)
            read = await store.read_texts(tx, self._keyring, SUSPENSION, [placed], selection, action=action)
        return _show_suspension(read[placed])

    async def lift_suspension(self, asker: Asker, suspension_id: UUID, selection: Selection) -> Row:
        """Lift a suspension before its time. Safe to repeat. Raises NotFound (suspension_not_found)."""
        access = permissions.LIFT_SUSPENSION.on(suspension_id)
        async with self._database.as_user(asker, access) as tx:
            lifted = await store.lift_suspension(tx, suspension_id)
            if lifted is None:
                raise NotFound("suspension_not_found")
            read = await store.read_texts(
                tx, self._keyring, SUSPENSION, [lifted], selection, action=access.action
            )
        return _show_suspension(read[lifted])


def _page(found: FoundIds, read: dict[UUID, StoredText], show: Callable[[StoredText], Row]) -> Page[Listed]:
    rows = tuple(Listed(show(read[one]), found.places[one]) for one in found.ids)
    return Page(rows, found.has_next)


def _show_disclosure(stored: StoredText) -> Row:
    row = dict(stored.metadata)
    text = NO_TEXT if stored.text is None else parse_text(stored.text)
    has_text = stored.text is not None
    row["recipient"] = {"name": text["name"], "address": text["address"]} if has_text else None
    row["description"] = text["description"]
    row["purpose_statement"] = text["purpose"]
    if row.get("authorization") is not None:
        row["authorization"] = {**row["authorization"], "reference": text["authorization"]}
    return row


def _show_suspension(stored: StoredText) -> Row:
    return {**stored.metadata, "official": None if stored.text is None else stored.text.decode()}
