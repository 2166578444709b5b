"""Bans suspended members of staff at Supabase Auth, and ends their sessions."""

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


class StaffBans:
    """Bans suspended members of staff at Supabase Auth, as the worker."""

    def __init__(self, database: Database, admin: SupabaseAdmin) -> None:
        self._database = database
        self._admin = admin

    async def ban(self, user_id: UUID) -> None:
        """Ban the person at Supabase Auth, and then end the sessions that were opened since the suspension.

        If the person's login no longer exists, or if Supabase refuses the ban, the job ends and the audit log
        records the failure. Raises UpstreamFailed and Timeout, after which the job runs again.
        """
        outcome, reason = "ALLOWED", None
        try:
            await self._admin.ban(user_id)
        except NotFound as gone:
            outcome, reason = "ABSENT", gone.reason
        except (InvalidInput, Conflict) as refusal:
            log.error("not banned: user=%s %s", user_id, refusal.summary)  # noqa: TRY400 - the cause could quote
            outcome, reason = "FAILED", refusal.reason
        await self._record(user_id, outcome, reason)
        await self.end_sessions()

    async def give_up(self, user_id: UUID, reason: str) -> None:
        """Record in the audit log that the ban at Supabase Auth could not be set. The suspended person has no
        access anyway, because the database has stored the suspension.
        """
        log.error("not banned: user=%s %s", user_id, reason)
        await self._record(user_id, "FAILED", reason)

    async def end_sessions(self) -> int:
        """End all sessions of the staff members whom a compliance officer suspended. Return how many sessions were
        ended. Supabase Auth checks for a ban only when a sign-in begins, and can commit the new session up to 10 s
        later. The worker therefore repeats `end_sessions` periodically.
        """
        async with self._database.as_service("ban_user") as tx:
            ended = int(await tx.value(_sql["end_sessions_of_suspended"]))
        if ended:
            log.warning("sessions of suspended staff ended: %d", ended)
        return ended

    async def _record(self, user_id: UUID, outcome: str, reason: str | None) -> None:
        async with self._database.as_service("ban_user") as tx:
            await tx.run(_sql["record_ban"], {"user_id": user_id, "outcome": outcome, "reason": reason})
