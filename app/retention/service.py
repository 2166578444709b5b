"""What compliance does about retention: looks at policies, sees what one would delete, decides, reads the report.

Nobody changes a policy here, and none comes into force but by the officers whom the database counts.
"""

from dataclasses import dataclass

from app import permissions
from app.db import Asker, Database
from app.errors import NotFound
from app.quotas import Quotas
from app.retention import store
from app.retention.model import KeptPolicy, PolicyStatus, Preview, shortened
from app.retention.report import COMING_DAYS, Prices, StorageReport


@dataclass(frozen=True)
class JudgedPolicy:
    """A policy, and which of the terms in force it shortens; nothing where none is in force."""

    kept: KeptPolicy
    shortened: tuple[str, ...]


class Retention:
    """The API's part of the service."""

    def __init__(self, database: Database, *, quotas: Quotas, prices: Prices) -> None:
        self._database = database
        self._quotas = quotas
        self._prices = prices

    async def policies(self, asker: Asker) -> list[JudgedPolicy]:
        """The newest hundred, the newest first. Raises RateLimited (quota_pages)."""
        access = permissions.LIST_RETENTION_POLICIES.on()
        async with self._database.as_user(asker, access) as tx:
            found = await store.policies(tx, self._quotas.pages)
        active = next((each for each in found if each.status is PolicyStatus.ACTIVE), None)
        return [_judged(each, active) for each in found]

    async def preview(self, asker: Asker, policy_id: int) -> Preview:
        """What it would do to what exists if it came into force now.

        Raises NotFound (retention_policy_not_found), Conflict (retention_policy_settled), RateLimited.
        """
        access = permissions.PREVIEW_RETENTION.on()
        async with self._database.as_user(asker, access) as tx:
            preview = await store.preview(tx, policy_id, self._quotas.pages)
            _found(await store.policy(tx, policy_id))
        return preview

    async def approve(self, asker: Asker, policy_id: int) -> KeptPolicy:
        """The policy after one's approval: ACTIVE, or still PROPOSED where a second officer has to approve it too.

        Raises NotFound (retention_policy_not_found), Conflict (retention_policy_settled, retention_same_officer).
        """
        access = permissions.APPROVE_RETENTION.on()
        async with self._database.as_user(asker, access) as tx:
            if not await store.approve(tx, policy_id):
                raise NotFound("retention_policy_not_found")
            return _found(await store.policy(tx, policy_id))

    async def reject(self, asker: Asker, policy_id: int) -> KeptPolicy:
        """The policy, REJECTED. Raises NotFound (retention_policy_not_found), Conflict (retention_policy_settled)."""
        access = permissions.REJECT_RETENTION.on()
        async with self._database.as_user(asker, access) as tx:
            if not await store.reject(tx, policy_id):
                raise NotFound("retention_policy_not_found")
            return _found(await store.policy(tx, policy_id))

    async def storage_report(self, asker: Asker) -> StorageReport:
        """Bytes by age and class, what goes within 30 days, and the cost. Raises RateLimited (quota_pages)."""
        access = permissions.REPORT_STORAGE.on()
        async with self._database.as_user(asker, access) as tx:
            stored = await store.stored(tx, self._quotas.pages)
            coming = await store.coming(tx, COMING_DAYS)
        return StorageReport(stored, coming, self._prices)


def _judged(kept: KeptPolicy, active: KeptPolicy | None) -> JudgedPolicy:
    is_open = kept.status is PolicyStatus.PROPOSED and active is not None
    return JudgedPolicy(kept, shortened(active.policy, kept.policy) if is_open and active else ())


def _found(kept: KeptPolicy | None) -> KeptPolicy:
    if kept is None:
        raise NotFound("retention_policy_not_found")
    return kept
