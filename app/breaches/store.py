"""Reads and writes the database rows of breach assessments and sanctions. The caller opens the transaction in which a
function runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from app.breaches.model import (
    BreachDecision,
    BreachFactorKind,
    BreachLateReason,
    BreachOrder,
    BreachRisk,
    BreachStatus,
    DelayStatement,
    NoticeOrder,
    SanctionOrder,
)
from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_BREACH: Final = EntityRead(
    entities=ENTITIES,
    entity="breach_assessment",
    where="r.id = %(id)s",
    action=permissions.LIST_BREACHES.action,
)
_BREACHES: Final = EntityList(
    entities=ENTITIES,
    entity="breach_assessment",
    one_of={"statuses": "r.status = v.value"},
    action=permissions.LIST_BREACHES.action,
    time="created_at",
)
_SANCTION: Final = EntityRead(
    entities=ENTITIES, entity="sanction", where="r.id = %(id)s", action=permissions.LIST_SANCTIONS.action
)
_SANCTIONS: Final = EntityList(
    entities=ENTITIES, entity="sanction", action=permissions.LIST_SANCTIONS.action, time="created_at"
)


async def list_page(
    tx: Transaction, request: PageRequest, statuses: Sequence[BreachStatus] | None, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page of assessments, newest first. Raises RateLimited (quota_pages)."""
    wanted = None if statuses is None else list(dict.fromkeys(statuses))
    return await _BREACHES.page(tx, request, {"statuses": wanted}, selection)


async def list_sanctions(tx: Transaction, request: PageRequest, selection: Selection) -> Page[Row]:
    """Write the audit row and return a page of sanctions, newest first. Raises RateLimited (quota_pages)."""
    return await _SANCTIONS.page(tx, request, {}, selection)


async def show(
    tx: Transaction, breach_id: UUID, selection: Selection, action: LiteralString | None = None
) -> Row | None:
    """Return an assessment, and write the audit row. If `action` is given, it is the action of the audit row, which
    otherwise records a read.
    """
    return await _BREACH.show(tx, selection, {"id": breach_id}, action=action, is_counted=action is None)


async def show_sanction(
    tx: Transaction, sanction_id: UUID, selection: Selection, action: LiteralString
) -> Row | None:
    """Return a sanction that the transaction has recorded, and write the audit row of the change."""
    return await _SANCTION.show(tx, selection, {"id": sanction_id}, action=action, is_counted=False)


async def open_breach(tx: Transaction, order: BreachOrder) -> UUID | None:
    """Open an assessment, and return its id. Return None if the subject is no member of staff. Raises Conflict."""
    values = {
        **order.filter.parameters,
        "subject_id": order.subject_id,
        "discovered_on": order.discovered_on,
    }
    opened: UUID | None = await tx.value(_sql["open_breach"], values)
    return opened


async def recount(tx: Transaction, breach_id: UUID) -> UUID | None:
    """Queue the job that reads the affected patients again. This function and those below return None if the assessment
    does not exist or is hidden from the caller, and raise Conflict.
    """
    changed: UUID | None = await tx.value(_sql["recount_breach"], {"id": breach_id})
    return changed


async def record_factor(
    tx: Transaction, breach_id: UUID, factor: BreachFactorKind, risk: BreachRisk, rationale: str
) -> UUID | None:
    """Record a factor."""
    values = {"id": breach_id, "factor": factor, "risk": risk, "rationale": rationale}
    changed: UUID | None = await tx.value(_sql["record_factor"], values)
    return changed


async def delay(
    tx: Transaction, breach_id: UUID, statement: DelayStatement, until_day: object
) -> UUID | None:
    """Record a delay of the notices."""
    values = {"id": breach_id, "statement": statement, "until_day": until_day}
    changed: UUID | None = await tx.value(_sql["delay_notices"], values)
    return changed


async def decide(
    tx: Transaction,
    breach_id: UUID,
    decision: BreachDecision,
    residents: list[dict[str, object]] | None,
    late_reason: BreachLateReason | None,
) -> UUID | None:
    """Decide on an assessment."""
    values = {
        "id": breach_id,
        "decision": decision,
        "residents": None if residents is None else Jsonb(residents),
        "late_reason": late_reason,
    }
    changed: UUID | None = await tx.value(_sql["decide_breach"], values)
    return changed


async def record_notice(tx: Transaction, breach_id: UUID, notice: NoticeOrder) -> UUID | None:
    """Record a notice."""
    values = {
        "id": breach_id,
        "kind": notice.kind,
        "method": notice.method,
        "jurisdiction": notice.jurisdiction,
        "sent_on": notice.sent_on,
        "late_reason": notice.late_reason,
    }
    changed: UUID | None = await tx.value(_sql["record_notice"], values)
    return changed


async def record_sanction(tx: Transaction, order: SanctionOrder) -> UUID | None:
    """Record a sanction, and return its id."""
    values = {
        "member_id": order.member_id,
        "assessment_id": order.assessment_id,
        "category": order.category,
        "measure": order.measure,
        "imposed_on": order.imposed_on,
    }
    made: UUID | None = await tx.value(_sql["record_sanction"], values)
    return made


async def count_page(tx: Transaction, breach_id: UUID) -> bool:
    """Read the next page of the events of an assessment. Return False at the end. Needs the worker's role, like all
    functions below.
    """
    return bool(await tx.value(_sql["count_breach"], {"id": breach_id}))


async def fail_count(tx: Transaction, breach_id: UUID) -> None:
    """Store that the affected patients could not be read."""
    await tx.run(_sql["fail_count"], {"id": breach_id})
