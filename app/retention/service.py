"""Services for retention: compliance officers list retention policies, preview their effect, approve or reject
them, and read the storage report.

A proposed policy comes into force only through the approvals of officers, which the database counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import NotFound
from app.identity import permissions
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.retention import store
from app.retention.model import (
    KeptPolicy,
    PolicyStatus,
    Preview,
    RetentionPolicy,
    find_shortened_places,
)
from app.retention.storage_report import PERIOD_DAYS, Prices, StorageReport


@dataclass(frozen=True)
class JudgedPolicy:
    """A retention policy. `shortened` lists the places at which a proposed policy would shorten the terms in force,
    and is empty if no policy is in force.
    """

    kept: KeptPolicy
    shortened: tuple[str, ...]


@dataclass(frozen=True)
class Approval:
    """An approved retention policy. `superseded` is the policy that it replaced if it is now in force, or None."""

    approved: JudgedPolicy
    superseded: JudgedPolicy | None


class Retention:
    """The operations on retention policies that the API offers."""

    def __init__(self, database: Database, *, prices: Prices) -> None:
        self._database = database
        self._prices = prices

    async def page(self, asker: Asker, request: PageRequest, fields: Sequence[str]) -> Page[JudgedPolicy]:
        """Return a page of retention policies, newest first. The audit row names `fields`. Raises RateLimited
        (quota_pages).
        """
        access = permissions.LIST_RETENTION_POLICIES.on()
        async with self._database.as_user(asker, access) as tx:
            found, in_force = await store.list_page(tx, request, fields)
        return Page(tuple(_judge(each, in_force) for each in found.items), found.has_next)

    async def preview(self, asker: Asker, policy_id: int) -> Preview:
        """Return the effect that a proposed policy would have on existing recordings if it came into force now.

        Raises NotFound (retention_policy_not_found), Conflict (retention_policy_settled), RateLimited.
        """
        access = permissions.PREVIEW_RETENTION.on()
        async with self._database.as_user(asker, access) as tx:
            preview = await store.preview(tx, policy_id)
            _require_found(await store.read_policy(tx, policy_id))
        return preview

    async def approve(self, asker: Asker, policy_id: int) -> Approval:
        """Approve a proposed retention policy. The policy's status is then ACTIVE, or still PROPOSED if a second
        officer must approve the policy.

        Raises NotFound (retention_policy_not_found), Conflict (retention_policy_settled, retention_same_officer).
        """
        access = permissions.APPROVE_RETENTION.on()
        async with self._database.as_user(asker, access) as tx:
            if not await store.approve(tx, policy_id):
                raise NotFound("retention_policy_not_found")
            kept = _require_found(await store.read_policy(tx, policy_id))
            if kept.status is PolicyStatus.ACTIVE:
                superseded = await store.read_superseded_policy(tx)
                return Approval(_judge(kept, None), None if superseded is None else _judge(superseded, None))
            return Approval(_judge(kept, await store.read_terms_in_force(tx)), None)

    async def reject(self, asker: Asker, policy_id: int) -> JudgedPolicy:
        """Reject a proposed retention policy and return it. Raises NotFound (retention_policy_not_found), Conflict
        (retention_policy_settled).
        """
        access = permissions.REJECT_RETENTION.on()
        async with self._database.as_user(asker, access) as tx:
            if not await store.reject(tx, policy_id):
                raise NotFound("retention_policy_not_found")
            return _judge(_require_found(await store.read_policy(tx, policy_id)), None)

    async def report_storage(self, asker: Asker) -> StorageReport:
        """Return the stored bytes by age and retention class, the recordings that are due within 30 days, and the
        cost. Raises RateLimited (quota_pages).
        """
        access = permissions.REPORT_STORAGE.on()
        async with self._database.as_user(asker, access) as tx:
            stored = await store.report_stored_bytes(tx)
            changes = await store.report_storage_changes(tx, PERIOD_DAYS)
        return StorageReport(stored, changes, self._prices)


def _judge(kept: KeptPolicy, in_force: RetentionPolicy | None) -> JudgedPolicy:
    is_open = kept.status is PolicyStatus.PROPOSED
    return JudgedPolicy(kept, find_shortened_places(in_force, kept.policy) if is_open and in_force else ())


def _require_found(kept: KeptPolicy | None) -> KeptPolicy:
    if kept is None:
        raise NotFound("retention_policy_not_found")
    return kept
