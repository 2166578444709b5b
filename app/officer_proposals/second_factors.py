"""Removes the second factors of members of staff at Supabase Auth, after a second officer has approved it."""

import logging
from pathlib import Path
from typing import Final
from uuid import UUID

from app.errors import Conflict, InvalidInput, NotFound
from app.integrations.supabase.client import SupabaseAdmin
from app.postgres.database import Database
from app.postgres.queries import Queries

log: Final = logging.getLogger(__name__)

_sql = Queries(Path(__file__).with_name("queries.sql"))


class SecondFactorResets:
    """Removes second factors at Supabase Auth, as the worker."""

    def __init__(self, database: Database, admin: SupabaseAdmin) -> None:
        self._database = database
        self._admin = admin

    async def reset(self, proposal_id: UUID) -> None:
        """Remove the second factors that the person had at the first attempt, and then end all sessions of the person.
        The method does nothing if the proposal is not APPROVED.

        If the login no longer exists, or Supabase refuses the request, the method marks the proposal FAILED. Raises
        UpstreamFailed and Timeout, after which the job runs again. A later attempt removes no factor that the person
        has enrolled since.
        """
        async with self._database.as_service("reset_second_factor") as tx:
            wanted = await tx.one(_sql["second_factor_reset"], {"id": proposal_id})
        if wanted is None:
            return
        try:
            factors = wanted["factor_ids"]
            if factors is None:
                factors = await self._keep(
                    proposal_id, await self._admin.list_second_factors(wanted["member_id"])
                )
            for factor in factors:
                await self._remove(wanted["member_id"], factor)
        except (InvalidInput, Conflict, NotFound) as refusal:
            await self.give_up(proposal_id, refusal.reason)
            return
        await self._finish(proposal_id, None)

    async def give_up(self, proposal_id: UUID, reason: str) -> None:
        """Mark the proposal FAILED. The person keeps their second factors, but all their sessions end."""
        log.warning("second factors not removed: proposal=%s %s", proposal_id, reason)
        await self._finish(proposal_id, reason)

    async def _remove(self, user_id: UUID, factor_id: UUID) -> None:
        try:
            await self._admin.remove_second_factor(user_id, factor_id)
        except NotFound as gone:
            if gone.reason != "second_factor_unknown":
                raise

    async def _keep(self, proposal_id: UUID, factors: list[UUID]) -> list[UUID]:
        async with self._database.as_service("reset_second_factor") as tx:
            kept: list[UUID] = await tx.value(
                _sql["keep_factors_to_remove"], {"id": proposal_id, "factor_ids": factors}
            )
        return kept

    async def _finish(self, proposal_id: UUID, reason: str | None) -> None:
        async with self._database.as_service("reset_second_factor") as tx:
            await tx.run(_sql["finish_second_factor_reset"], {"id": proposal_id, "reason": reason})
