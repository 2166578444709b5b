"""Reads and writes the database rows of review cases. The caller opens the transaction in which a function runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.review.model import (
    Disposition,
    ReviewCaseFilter,
    ReviewPolicy,
    ReviewRule,
    ReviewRuleStatus,
    RuleState,
)

Found = TypeVar("Found")
_POLICY: Final = TypeAdapter(ReviewPolicy)
_sql = Queries(Path(__file__).with_name("queries.sql"))
_CASE: Final = EntityRead(
    entities=ENTITIES,
    entity="review_case",
    where="r.id = %(id)s",
    action=permissions.READ_REVIEW_CASE.action,
    asked="%(id)s",
)
_CASES: Final = EntityList(
    entities=ENTITIES,
    entity="review_case",
    conditions={
        "subject_id": "r.subject_id = (select %(subject_id)s::uuid)",
        "assigned_to": "r.assigned_to = (select %(assigned_to)s::uuid)",
        "since": "r.opened_at >= (select %(since)s::timestamptz)",
        "until": "r.opened_at < (select %(until)s::timestamptz)",
    },
    one_of={
        "statuses": "r.status = v.value",
        "rules": "r.rule = v.value",
        "statuses_and_rules": "r.status_and_rule = v.value",
    },
    action=permissions.LIST_REVIEW_CASES.action,
    time="opened_at",
)


async def list_page(
    tx: Transaction, request: PageRequest, wanted: ReviewCaseFilter, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page of cases, newest first. Raises RateLimited (quota_pages)."""
    statuses = None if wanted.statuses is None else list(dict.fromkeys(wanted.statuses))
    rules = None if wanted.rules is None else [rule.slug for rule in dict.fromkeys(wanted.rules)]
    both = None
    if statuses is not None and rules is not None:
        both = [f"{status} {rule}" for status in statuses for rule in rules]
        statuses = rules = None
    filters = {
        "statuses": statuses,
        "rules": rules,
        "statuses_and_rules": both,
        "subject_id": wanted.subject_id,
        "assigned_to": wanted.assigned_to,
        "since": wanted.opened.since,
        "until": wanted.opened.until,
    }
    return await _CASES.page(tx, request, filters, selection)


async def read(tx: Transaction, case_id: UUID, selection: Selection) -> Row:
    """Write the audit row and return a case. Raises NotFound (review_case_not_found), RateLimited (quota_pages)."""
    return _require_found(await _CASE.show(tx, selection, {"id": case_id}))


async def show(tx: Transaction, case_id: UUID, selection: Selection, action: LiteralString) -> Row:
    """Return a case that the transaction has changed, and write the audit row of the change."""
    return _require_found(await _CASE.show(tx, selection, {"id": case_id}, action=action, is_counted=False))


async def record_disposition(tx: Transaction, case_id: UUID, disposition: Disposition, text: str) -> None:
    """Record the disposition of a case. The transaction must then call `show`. Raises NotFound
    (review_case_not_found), Conflict (review_case_decided).
    """
    values = {"id": case_id, "disposition": disposition, "text": text}
    _require_found(await tx.value(_sql["record_disposition"], values))


async def assign(tx: Transaction, case_id: UUID, officer_id: UUID | None) -> None:
    """Assign a case. The transaction must then call `show`. Raises NotFound (review_case_not_found), Conflict
    (review_case_decided, reviewer_is_subject, officer_unknown).
    """
    _require_found(await tx.value(_sql["assign_review_case"], {"id": case_id, "officer_id": officer_id}))


async def read_rules(tx: Transaction, fields: Sequence[str]) -> tuple[list[RuleState], list[ReviewPolicy]]:
    """Write the audit row and return the rules in force, and the versions that are in force or proposed. Raises
    RateLimited (quota_pages).
    """
    await tx.value(_sql["record_access_to_rules"], {"fields": list(fields)})
    row = await tx.one(_sql["read_review_rules"])
    assert row is not None  # noqa: S101 - the statement always returns one row
    states = [
        RuleState(
            ReviewRule(one["rule"].upper()),
            ReviewRuleStatus(one["status"]),
            one["matched_count"],
            one["evaluated_count"],
            one["matches_too_much"],
        )
        for one in row["rules"]
    ]
    return states, [_POLICY.validate_python(one) for one in row["policies"]]


async def decide_policy(tx: Transaction, policy_id: int, *, is_approval: bool) -> ReviewPolicy:
    """Record an officer's decision on proposed rules, and return them. Raises NotFound (review_policy_not_found),
    Conflict (review_policy_settled, review_same_officer).
    """
    values = {"id": policy_id, "is_approval": is_approval}
    if await tx.value(_sql["decide_review_policy"], values) is None:
        raise NotFound("review_policy_not_found")
    row = await tx.one(_sql["read_review_policy"], {"id": policy_id})
    assert row is not None  # noqa: S101 - decided in this very transaction
    return _POLICY.validate_python(row)


def _require_found(found: Found | None) -> Found:
    if found is None:
        raise NotFound("review_case_not_found")
    return found
