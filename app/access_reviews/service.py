"""The service of access reviews: an officer starts a review of all active members, and a second officer approves it."""

from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from app.access_reviews.model import (
    AccessDecision,
    AccessReview,
    AccessReviewEntry,
    check_unused_days,
)
from app.errors import NotFound
from app.identity import permissions
from app.postgres.audited import AuditedList
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_REVIEWS: Final = AuditedList(
    table="resguardo.access_reviews",
    time="started_at",
    items=AccessReview,
    action=permissions.LIST_STAFF_ACCESS_REVIEWS.action,
    entity_type="access_review",
    patients=None,
    consultations=None,
)
_ENTRIES: Final = AuditedList(
    table="resguardo.access_review_entries",
    time="member_since",
    always="r.review_id = (select %(review_id)s::uuid)",
    items=AccessReviewEntry,
    action=permissions.LIST_STAFF_ACCESS.action,
    entity_type="staff",
    ids="p.member_id",
    patients=None,
    consultations=None,
)
_review: Final = TypeAdapter(AccessReview)
_entry: Final = TypeAdapter(AccessReviewEntry)


class AccessReviews:
    """The access reviews that the API offers. The newest TOTP code of an officer who starts or approves a review may be
    at most `totp_max_age_seconds` old.
    """

    def __init__(self, database: Database, *, totp_max_age_seconds: int) -> None:
        self._database = database
        self._totp_max_age_seconds = totp_max_age_seconds

    async def page(self, asker: Asker, request: PageRequest, selection: Selection) -> Page[AccessReview]:
        """Return a page of the access reviews, newest first. The audit row names the selected fields."""
        async with self._database.as_user(asker, permissions.LIST_STAFF_ACCESS_REVIEWS.on()) as tx:
            rows = await _REVIEWS.page(tx, request, {}, fields=selection.paths, selected=selection.names())
        return Page.of(rows, request)

    async def entries(
        self, asker: Asker, review_id: UUID, request: PageRequest, selection: Selection
    ) -> Page[AccessReviewEntry]:
        """Return a page of the entries of a review, newest member first. The audit row names the members."""
        async with self._database.as_user(asker, permissions.LIST_STAFF_ACCESS.on()) as tx:
            rows = await _ENTRIES.page(
                tx, request, {"review_id": review_id}, fields=selection.paths, selected=selection.names()
            )
        return Page.of(rows, request)

    async def start(self, asker: Asker, unused_after_days: int) -> AccessReview:
        """Start a review of all active members, or return the open review. The review proposes to remove each access
        that was not used for the given number of days. Raises InvalidInput (bad_unused_days), Forbidden (totp_stale).
        """
        check_unused_days(unused_after_days)
        wanted = {
            "unused_after_days": unused_after_days,
            "totp_max_age_seconds": self._totp_max_age_seconds,
        }
        async with self._database.as_user(asker, permissions.START_STAFF_ACCESS_REVIEW.on()) as tx:
            row = await tx.one(_sql["start_access_review"], wanted)
            return _review.validate_python(row)

    async def decide(
        self, asker: Asker, review_id: UUID, member_id: UUID, decision: AccessDecision
    ) -> AccessReviewEntry:
        """Change the decision of an open review about one member. Safe to repeat.

        Raises NotFound, and Conflict (access_review_settled, access_review_about_you).
        """
        wanted = {"id": review_id, "member_id": member_id, "decision": decision.value}
        async with self._database.as_user(asker, permissions.DECIDE_STAFF_ACCESS.on(review_id)) as tx:
            row = await tx.one(_sql["decide_access"], wanted)
            if row is None:
                raise NotFound("access_review_not_found")
            return _entry.validate_python(row)

    async def settle(self, asker: Asker, review_id: UUID, *, is_approved: bool) -> AccessReview:
        """Approve or reject a review. The worker then suspends the members whose access an approved review removes.
        Safe to repeat.

        Raises NotFound, Forbidden (totp_stale), and Conflict: access_review_settled, access_review_same_officer,
        access_review_about_you, access_review_too_old, officer_too_new.
        """
        permission = (
            permissions.APPROVE_STAFF_ACCESS_REVIEW if is_approved else permissions.REJECT_STAFF_ACCESS_REVIEW
        )
        wanted = {
            "id": review_id,
            "is_approved": is_approved,
            "totp_max_age_seconds": self._totp_max_age_seconds,
        }
        async with self._database.as_user(asker, permission.on(review_id)) as tx:
            row = await tx.one(_sql["settle_access_review"], wanted)
            if row is None:
                raise NotFound("access_review_not_found")
            return _review.validate_python(row)


class AccessRemoval:
    """Removes the access that approved reviews remove, as the worker, and watches whether a review is due."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, review_id: UUID) -> None:
        """Suspend the members whose access an approved review removes, each batch in a transaction of its own. A later
        run continues after the last batch.
        """
        has_more = True
        while has_more:
            async with self._database.as_service("apply_access_review") as tx:
                has_more = bool(await tx.value(_sql["apply_access_review"], {"id": review_id}))

    async def watch(self) -> None:
        """Open the alert ACCESS_REVIEW_DUE if no review was approved within 92 days, and close it otherwise."""
        async with self._database.as_service("watch_access_reviews") as tx:
            await tx.run(_sql["watch_access_reviews"])
