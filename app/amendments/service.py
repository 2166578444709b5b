"""The service with which patients ask for an amendment of their record, and compliance officers decide on it.

Every text is added as a statement of its own. Nothing changes the transcript, the insights or the signed note.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from app.access_requests.model import ExtensionReason
from app.amendments import store
from app.amendments.model import (
    MAX_PERSONS_LENGTH,
    AmendmentDenialGround,
    AmendmentStatementKind,
    NewAmendment,
    format_statement,
    require_days,
    require_request,
    require_text,
)
from app.errors import NotFound
from app.idempotency.service import Mutation, RepeatableCall
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database, Transaction
from app.postgres.paging import Cursor, Page, PageRequest
from app.postgres.references import ConsultationBy
from app.postgres.selection import Selection


@dataclass(frozen=True)
class Listed:
    """An amendment of a list, and its place in the list."""

    row: Row
    place: Cursor


class Amendments:
    """The operations on amendments that the API offers."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def page(
        self, asker: Asker, request: PageRequest, consultation: ConsultationBy | None, selection: Selection
    ) -> Page[Listed]:
        """Return a page of the amendments that the person may see, newest first: of one consultation, or all. Raises
        RateLimited (quota_pages), Conflict (field_unreadable).
        """
        access = permissions.LIST_AMENDMENTS.on()
        async with self._database.as_user(asker, access) as tx:
            found = await store.find(tx, request, consultation)
            read = await store.read(
                tx, self._keyring, found.ids, selection, action=access.action, asked=found.asked
            )
        rows = tuple(Listed(read[one], found.places[one]) for one in found.ids if one in read)
        return Page(rows, found.has_next)

    async def request(
        self, asker: Asker, given: NewAmendment, selection: Selection, *, idempotency_key: str | None
    ) -> Row:
        """File a request of the patient who is logged in. Raises as `record`."""
        named = given.consultation
        access = permissions.REQUEST_AMENDMENT.on(named.id, external_id=named.external_id)
        return await self._file(asker, "requestAmendment", access, given, selection, idempotency_key)

    async def record(
        self, asker: Asker, given: NewAmendment, selection: Selection, *, idempotency_key: str | None
    ) -> Row:
        """File a request that a patient or a representative sent in writing within the last 90 days. A repeated call
        with the same `idempotency_key` returns the first call's amendment.

        Raises InvalidInput (bad_amendment, bad_idempotency_key), NotFound (consultation_not_found), Conflict
        (bad_amendment_date, idempotency_key_reused), RateLimited (quota_pages).
        """
        named = given.consultation
        access = permissions.RECORD_AMENDMENT_REQUEST.on(named.id, external_id=named.external_id)
        return await self._file(asker, "recordAmendmentRequest", access, given, selection, idempotency_key)

    async def extend(
        self, asker: Asker, amendment_id: UUID, days: int, reason: ExtensionReason, selection: Selection
    ) -> Row:
        """Extend the deadline of an amendment once. Raises NotFound (amendment_not_found), InvalidInput
        (bad_extension), Conflict (amendment_decided, extended_already, past_due).
        """
        longer = require_days(days)
        access = permissions.EXTEND_AMENDMENT.on(amendment_id)
        return await self._change(
            asker, access, lambda tx: store.extend(tx, amendment_id, longer, reason), selection
        )

    async def accept(
        self, asker: Asker, amendment_id: UUID, text: str, persons_to_inform: str | None, selection: Selection
    ) -> Row:
        """Accept an amendment: its text is added to the record. Raises NotFound (amendment_not_found), InvalidInput
        (bad_amendment), Conflict (amendment_decided).
        """
        persons = (
            None
            if persons_to_inform is None
            else require_text("personsToInform", persons_to_inform, MAX_PERSONS_LENGTH)
        )
        statement = format_statement(require_text("text", text), persons)
        access = permissions.ACCEPT_AMENDMENT.on(amendment_id)
        return await self._change(
            asker,
            access,
            lambda tx: store.decide(tx, self._keyring, amendment_id, None, statement),
            selection,
        )

    async def deny(
        self, asker: Asker, amendment_id: UUID, ground: AmendmentDenialGround, text: str, selection: Selection
    ) -> Row:
        """Deny an amendment on a ground. Raises NotFound (amendment_not_found), InvalidInput (bad_amendment), Conflict
        (amendment_decided).
        """
        statement = format_statement(require_text("text", text))
        access = permissions.DENY_AMENDMENT.on(amendment_id)
        return await self._change(
            asker,
            access,
            lambda tx: store.decide(tx, self._keyring, amendment_id, ground, statement),
            selection,
        )

    async def dispute(self, asker: Asker, amendment_id: UUID, text: str, selection: Selection) -> Row:
        """Add the patient's statement of disagreement with a denial. Raises NotFound (amendment_not_found),
        InvalidInput (bad_amendment), Conflict (amendment_not_denied, amendment_stated_already).
        """
        access = permissions.DISPUTE_AMENDMENT.on(amendment_id)
        return await self._answer(
            asker, access, amendment_id, AmendmentStatementKind.DISAGREEMENT, text, selection
        )

    async def rebut(self, asker: Asker, amendment_id: UUID, text: str, selection: Selection) -> Row:
        """Add the practice's rebuttal of a statement of disagreement. Raises NotFound (amendment_not_found),
        InvalidInput (bad_amendment), Conflict (amendment_not_denied, amendment_not_disputed, amendment_stated_already).
        """
        access = permissions.REBUT_AMENDMENT.on(amendment_id)
        return await self._answer(
            asker, access, amendment_id, AmendmentStatementKind.REBUTTAL, text, selection
        )

    async def include(self, asker: Asker, amendment_id: UUID, selection: Selection) -> Row:
        """Note that the patient asks for the request and the denial to go with future disclosures. Safe to repeat.
        Raises NotFound (amendment_not_found), Conflict (amendment_not_denied).
        """
        access = permissions.INCLUDE_AMENDMENT.on(amendment_id)
        return await self._change(asker, access, lambda tx: store.include(tx, amendment_id), selection)

    async def _file(
        self,
        asker: Asker,
        mutation: Mutation,
        access: Access,
        given: NewAmendment,
        selection: Selection,
        idempotency_key: str | None,
    ) -> Row:
        given = require_request(given)
        call = RepeatableCall(
            mutation,
            idempotency_key,
            given.consultation.id,
            given.consultation.external_id,
            given.part,
            given.recording_id,
            given.text,
            str(given.received_on),
            int(given.is_by_representative),
        )
        action = access.action
        async with self._database.as_user(asker, access) as tx:
            filed = await call.claim(tx)
            if filed is not None:
                action = permissions.LIST_AMENDMENTS.action
            else:
                filed = await store.request(tx, self._keyring, given)
                if filed is None:
                    raise NotFound("consultation_not_found")
                await call.settle(tx, filed)
            read = await store.read(tx, self._keyring, [filed], selection, action=action)
        return read[filed]

    async def _answer(
        self,
        asker: Asker,
        access: Access,
        amendment_id: UUID,
        kind: AmendmentStatementKind,
        text: str,
        selection: Selection,
    ) -> Row:
        said = require_text("text", text)
        return await self._change(
            asker, access, lambda tx: store.answer(tx, self._keyring, amendment_id, kind, said), selection
        )

    async def _change(
        self,
        asker: Asker,
        access: Access,
        change: Callable[[Transaction], Awaitable[UUID | None]],
        selection: Selection,
    ) -> Row:
        async with self._database.as_user(asker, access) as tx:
            changed = await change(tx)
            if changed is None:
                raise NotFound("amendment_not_found")
            read = await store.read(tx, self._keyring, [changed], selection, action=access.action)
        return read[changed]
