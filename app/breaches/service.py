"""Services with which compliance officers assess possible breaches, decide on them, and record notices and sanctions.

Nobody sees or changes an assessment or a sanction of which they are the subject. The database enforces this, and the
order of the steps.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import TypeVar
from uuid import UUID

from app.breaches import store
from app.breaches.model import (
    BreachDecision,
    BreachFactorKind,
    BreachLateReason,
    BreachOrder,
    BreachRisk,
    BreachStatus,
    DelayStatement,
    NoticeOrder,
    Residents,
    SanctionOrder,
    require_rationale,
    require_residents,
)
from app.errors import NotFound
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database, Transaction
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection

_MISSING = "breach_assessment_not_found"
_Found = TypeVar("_Found")


class Breaches:
    """The operations on breach assessments and sanctions that the API offers. Each method that changes an assessment
    raises NotFound (breach_assessment_not_found) if it does not exist or the caller is its subject.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        statuses: Sequence[BreachStatus] | None,
        selection: Selection,
    ) -> Page[Row]:
        """Return a page of assessments, newest first. Raises RateLimited (quota_pages)."""
        async with self._database.as_user(asker, permissions.LIST_BREACHES.on()) as tx:
            return await store.list_page(tx, request, statuses, selection)

    async def sanctions_page(self, asker: Asker, request: PageRequest, selection: Selection) -> Page[Row]:
        """Return a page of sanctions, newest first. Raises RateLimited (quota_pages)."""
        async with self._database.as_user(asker, permissions.LIST_SANCTIONS.on()) as tx:
            return await store.list_sanctions(tx, request, selection)

    async def open(
        self,
        asker: Asker,
        order: BreachOrder,
        selection: Selection,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Open an assessment by hand, and queue the job that reads the affected patients from the audit log. A repeated
        call with the same `idempotency_key` returns the assessment of the first call.

        Raises InvalidInput (bad_idempotency_key), NotFound (staff_not_found) and Conflict (own_breach_assessment,
        bad_discovered_on, idempotency_key_reused).
        """
        call = RepeatableCall(
            "openBreachAssessment",
            idempotency_key,
            str(order.subject_id),
            str(order.discovered_on),
            json.dumps(order.filter.parameters, sort_keys=True, default=str),
        )
        access = permissions.OPEN_BREACH.on()
        async with self._database.as_user(asker, access) as tx:
            earlier = await call.claim(tx)
            if earlier is not None:
                return _require(await store.show(tx, earlier, selection), _MISSING)
            opened = _require(await store.open_breach(tx, order), "staff_not_found")
            await call.settle(tx, opened)
            return _require(await store.show(tx, opened, selection, access.action), _MISSING)

    async def recount(self, asker: Asker, breach_id: UUID, selection: Selection) -> Row:
        """Read the affected patients and recordings from the audit log again, up to now. Raises Conflict
        (breach_decided).
        """
        access = permissions.RECOUNT_BREACH.on(breach_id)
        return await self._change(asker, access, lambda tx: store.recount(tx, breach_id), selection)

    async def record_factor(
        self,
        asker: Asker,
        breach_id: UUID,
        factor: BreachFactorKind,
        risk: BreachRisk,
        rationale: str,
        selection: Selection,
    ) -> Row:
        """Record one of the four factors; a repeated call replaces it. Raises InvalidInput (bad_rationale) and Conflict
        (breach_decided).
        """
        text = require_rationale(rationale)
        access = permissions.RECORD_BREACH_FACTOR.on(breach_id)
        return await self._change(
            asker, access, lambda tx: store.record_factor(tx, breach_id, factor, risk, text), selection
        )

    async def delay(
        self, asker: Asker, breach_id: UUID, statement: DelayStatement, until_day: date, selection: Selection
    ) -> Row:
        """Record that law enforcement asks for a delay of the notices. Raises Conflict (breach_closed,
        breach_delay_late, bad_delay).
        """
        access = permissions.DELAY_BREACH.on(breach_id)
        return await self._change(
            asker, access, lambda tx: store.delay(tx, breach_id, statement, until_day), selection
        )

    async def decide(
        self,
        asker: Asker,
        breach_id: UUID,
        decision: BreachDecision,
        residents: Sequence[Residents] | None,
        late_reason: BreachLateReason | None,
        selection: Selection,
    ) -> Row:
        """Decide on an assessment, once. Raises InvalidInput (bad_residents) and Conflict (breach_decided,
        breach_not_counted, breach_factors_missing, breach_clock_run_out, breach_residents_differ).
        """
        given = require_residents(residents)
        access = permissions.DECIDE_BREACH.on(breach_id)
        return await self._change(
            asker, access, lambda tx: store.decide(tx, breach_id, decision, given, late_reason), selection
        )

    async def record_notice(
        self, asker: Asker, breach_id: UUID, notice: NoticeOrder, selection: Selection
    ) -> Row:
        """Record a notice that was sent. Raises Conflict (breach_undecided, bad_sent_on, breach_clock_run_out)."""
        access = permissions.RECORD_BREACH_NOTICE.on(breach_id)
        return await self._change(
            asker, access, lambda tx: store.record_notice(tx, breach_id, notice), selection
        )

    async def record_sanction(self, asker: Asker, order: SanctionOrder, selection: Selection) -> Row:
        """Record a sanction against a member of staff. A repeated call returns the recorded sanction. Raises NotFound
        (staff_not_found) and Conflict (own_sanction, sanction_not_of_category, bad_imposed_on).
        """
        access = permissions.RECORD_SANCTION.on(order.member_id, entity_type="staff")
        missing = "staff_not_found" if order.assessment_id is None else _MISSING
        async with self._database.as_user(asker, access) as tx:
            made = _require(await store.record_sanction(tx, order), missing)
            return _require(await store.show_sanction(tx, made, selection, access.action), missing)

    async def _change(
        self,
        asker: Asker,
        access: Access,
        change: Callable[[Transaction], Awaitable[UUID | None]],
        selection: Selection,
    ) -> Row:
        async with self._database.as_user(asker, access) as tx:
            changed = _require(await change(tx), _MISSING)
            return _require(await store.show(tx, changed, selection, access.action), _MISSING)


def _require(found: _Found | None, reason: str) -> _Found:
    if found is None:
        raise NotFound(reason)
    return found
