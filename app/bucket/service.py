"""Plans, applies and checks the bucket's rules.

Only the method `apply` changes the bucket: it writes lifecycle rules, CORS rules and fixed locks. `inspect` and the
hourly `run_once` change nothing in the bucket. The result of a check names each topic that could not be checked.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

from app.bucket import store
from app.bucket.clients import BucketClients
from app.bucket.drifts import Inspection, Topic
from app.bucket.inspection import BucketInspector
from app.bucket.model import Part, deletes
from app.bucket.policy_documents import overlap
from app.bucket.rule_plan import PartPlan, plan_rules
from app.bucket.rules_turn import RulesTurn, take_rules_turn
from app.errors import AppError, Conflict, UpstreamFailed
from app.integrations.cloudflare.client import LockRule
from app.integrations.storage.rules import CorsRule, LifecycleRule
from app.postgres.database import Database

log = logging.getLogger(__name__)

NOT_OFFERED: Final = "storage_not_implemented"


class BucketPolicies:
    """Compares the bucket with `policies/bucket`, and the rights in the database with `policies/access`."""

    def __init__(self, database: Database, clients: BucketClients) -> None:
        self._database = database
        self._clients = clients
        self._inspector = BucketInspector(database, clients)

    async def plan(self, *, prune: bool = False) -> tuple[PartPlan, ...]:
        """Return the changes that `apply` would make to the bucket's rules. A part of the rules is unread if its
        API key is not configured, or if the S3 server does not support such rules.

        Raises InvalidInput if a file of `policies/bucket` is invalid. Raises UpstreamFailed, Timeout.
        """
        unread: dict[Topic, str] = {}
        found = await self._inspector.read_rules(unread, only={NOT_OFFERED})
        made = plan_rules(await self._inspector.derive_rules(), found, prune=prune)
        return tuple(
            replace(part, is_offered=unread.get(Topic(part.part.value)) != NOT_OFFERED) for part in made
        )

    async def apply(self, shown: Sequence[PartPlan], *, prune: bool = False) -> None:
        """Apply the plan that was shown to the operator, one part of the rules after another. Before a part of the
        rules is written, the audit row of the change is committed. After the last part of the rules is written, all
        parts are read back. Raises Conflict (bucket_changed) if the bucket's rules have changed since the plan was
        shown. Raises Conflict (holds_unprotected) if a rule would delete a held object that no lock protects.
        Raises Conflict (bucket_rules_busy) if another process is writing the rules. Raises
        UpstreamFailed("bucket_not_as_put").
        """
        async with take_rules_turn(self._database, "apply_bucket_policies") as turn:
            now = await self.plan(prune=prune)
            if [part.lines for part in now] != [part.lines for part in shown]:
                raise Conflict("bucket_changed")
            for part in sorted(now, key=lambda one: one.part is Part.LIFECYCLE):
                if part.has_changes:
                    await self._put(part, turn)
            if any(part.has_changes for part in await self.plan(prune=prune)):
                raise UpstreamFailed("bucket_not_as_put")

    async def _put(self, part: PartPlan, turn: RulesTurn) -> None:
        if part.part is Part.LIFECYCLE:
            await self._require_held_out_of_reach(part)
        elif part.part is Part.LOCKS:
            await self._require_nothing_unlocked(cast("tuple[LockRule, ...]", part.result))
        await turn.renew()
        await self._record(part.part, "ALLOWED")
        try:
            await self._replace(part)
        except AppError:
            await self._record(part.part, "FAILED")
            raise

    async def _replace(self, part: PartPlan) -> None:
        rules, cloudflare = self._clients.rules, self._clients.cloudflare
        if part.part is Part.LOCKS and cloudflare is not None:
            await cloudflare.replace_locks(cast("tuple[LockRule, ...]", part.result))
        elif part.part is Part.CORS and rules is not None:
            await rules.replace_cors(cast("tuple[CorsRule, ...]", part.result))
        elif part.part is Part.LIFECYCLE and rules is not None:
            await rules.replace_lifecycle(cast("tuple[LifecycleRule, ...]", part.result))

    async def _require_held_out_of_reach(self, part: PartPlan) -> None:
        """Raise Conflict if a rule of the plan would delete an object that is held or not due yet (law 7)."""
        reach = [
            line.rule.prefix
            for line in part.lines
            if line.puts and isinstance(line.rule, LifecycleRule) and deletes(line.rule)
        ]
        within = [one for one in await self._inspector.find_hold_drifts() if one.code != "hold_left_behind"]
        if any(overlap(one.subject, prefix) for one in within for prefix in reach):
            raise Conflict("holds_unprotected")

    async def _require_nothing_unlocked(self, locks: Sequence[LockRule]) -> None:
        """Raise Conflict if a held object would be unprotected after these locks replaced the bucket's locks (law
        7).
        """
        now, then = await self._inspector.find_hold_drifts(), await self._inspector.find_hold_drifts(locks)
        if any(one.code != "hold_left_behind" and one not in now for one in then):
            raise Conflict("holds_unprotected")

    async def _record(self, part: Part, outcome: str) -> None:
        async with self._database.as_service("apply_bucket_policies") as tx:
            await store.record_change(tx, part, outcome)

    async def inspect(self) -> Inspection:
        """Return the current drifts without reporting them. Raises only errors about the files of `policies/bucket`
        and errors of the database.
        """
        return await self._inspector.inspect()

    async def run_once(self) -> Inspection:
        """Check the bucket. Write an audit row for each new and each ended drift, and log each new drift
        (`drift: ...`). The stored drifts open and close the alerts.
        """
        inspection = await self._inspector.inspect()
        async with self._database.as_service("check_bucket") as tx:
            begun, over = await store.settle_drifts(tx, inspection)
        for one in inspection.drifts:
            if (one.code, one.subject) in begun:
                log.warning("drift: %s", one)
        for code, subject in over:
            log.warning("drift is over: %s: %s", code, subject)
        for topic, reason in inspection.unchecked.items():
            log.warning("drift: could not check %s: %s", topic.value, reason)
        return inspection
