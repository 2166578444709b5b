"""The service with which compliance officers review cases. An officer neither sees nor decides a case about their own
activity, and the database enforces this.
"""

from collections.abc import Sequence
from uuid import UUID

from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection
from app.review import store
from app.review.model import (
    Disposition,
    ReviewCaseFilter,
    ReviewPolicy,
    RuleState,
    check_disposition_text,
)


class ReviewCases:
    """The operations on review cases that the API offers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, asker: Asker, request: PageRequest, wanted: ReviewCaseFilter, selection: Selection
    ) -> Page[Row]:
        """Return a page of cases, newest first. Raises RateLimited (quota_pages)."""
        async with self._database.as_user(asker, permissions.LIST_REVIEW_CASES.on()) as tx:
            return await store.list_page(tx, request, wanted, selection)

    async def read(self, asker: Asker, case_id: UUID, selection: Selection) -> Row:
        """Return a case. Raises NotFound (review_case_not_found), RateLimited (quota_pages)."""
        async with self._database.as_user(asker, permissions.READ_REVIEW_CASE.on(case_id)) as tx:
            return await store.read(tx, case_id, selection)

    async def record_disposition(
        self, asker: Asker, case_id: UUID, disposition: Disposition, text: str, selection: Selection
    ) -> Row:
        """Record the disposition of an open case, which ends the case, and return the case. If the same officer repeats
        the call, return the case unchanged.

        Raises InvalidInput (disposition_characters, disposition_too_long, disposition_empty), NotFound
        (review_case_not_found), Conflict (review_case_decided).
        """
        found = check_disposition_text(text)
        access = permissions.DECIDE_REVIEW_CASE.on(case_id)
        async with self._database.as_user(asker, access) as tx:
            await store.record_disposition(tx, case_id, disposition, found)
            return await store.show(tx, case_id, selection, access.action)

    async def assign(self, asker: Asker, case_id: UUID, officer_id: UUID | None, selection: Selection) -> Row:
        """Assign an open case to an officer, or to nobody, and return the case.

        Raises NotFound (review_case_not_found), Conflict (review_case_decided, reviewer_is_subject, officer_unknown).
        """
        access = permissions.ASSIGN_REVIEW_CASE.on(case_id)
        async with self._database.as_user(asker, access) as tx:
            await store.assign(tx, case_id, officer_id)
            return await store.show(tx, case_id, selection, access.action)


class ReviewRules:
    """The operations on the rules of the review that the API offers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, asker: Asker, fields: Sequence[str]) -> tuple[list[RuleState], list[ReviewPolicy]]:
        """Return the rules in force, and the versions that are in force or proposed. The audit row names `fields`.
        Raises RateLimited (quota_pages).
        """
        async with self._database.as_user(asker, permissions.LIST_REVIEW_RULES.on()) as tx:
            return await store.read_rules(tx, fields)

    async def approve(self, asker: Asker, policy_id: int) -> ReviewPolicy:
        """Approve proposed rules, which come into force with the approval of a second officer, and return them.

        Raises NotFound (review_policy_not_found), Conflict (review_policy_settled, review_same_officer).
        """
        async with self._database.as_user(asker, permissions.APPROVE_REVIEW_POLICY.on()) as tx:
            return await store.decide_policy(tx, policy_id, is_approval=True)

    async def reject(self, asker: Asker, policy_id: int) -> ReviewPolicy:
        """Reject proposed rules and return them. Raises NotFound (review_policy_not_found), Conflict
        (review_policy_settled).
        """
        async with self._database.as_user(asker, permissions.REJECT_REVIEW_POLICY.on()) as tx:
            return await store.decide_policy(tx, policy_id, is_approval=False)
