"""Bans suspended members of staff at Supabase Auth and ends their sessions, and lifts the ban of reinstated members."""

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
    """Makes the bans at Supabase Auth agree with the status of the members of staff, as the worker."""

    def __init__(self, database: Database, admin: SupabaseAdmin) -> None:
        self._database = database
        self._admin = admin

    async def apply(self, user_id: UUID) -> None:
        """Ban a suspended member at Supabase Auth, and then end the sessions that were opened since the suspension. If
        the member is active, lift the ban instead.

        The job applies the current status in the database, whatever change queued the job. The jobs of one member run
        one after the other, so the last job applies the last status.

        If the person's login no longer exists, or if Supabase refuses the change, the job ends and the audit log
        records the failure. Raises UpstreamFailed and Timeout, after which the job runs again.
        """
        is_banned = await self._should_be_banned(user_id)
        if is_banned is None:
            return
        outcome, reason = "ALLOWED", None
        try:
            if is_banned:
                await self._admin.ban(user_id)
            else:
                await self._admin.lift_ban(user_id)
        except NotFound as gone:
            outcome, reason = "ABSENT", gone.reason
        except (InvalidInput, Conflict) as refusal:
            log.warning("ban not changed: user=%s %s", user_id, refusal.summary)
            outcome, reason = "FAILED", refusal.reason
        await self._record(user_id, outcome, reason, is_banned=is_banned)
        await self.end_sessions()

    async def give_up(self, user_id: UUID, reason: str) -> None:
        """Record in the audit log that the ban at Supabase Auth could not be changed. A suspended person has no
        access anyway, because the database has stored the suspension. A reinstated person cannot sign in, and the
        proposal of the reinstatement is FAILED.
        """
        log.warning("ban not changed: user=%s %s", user_id, reason)
        is_banned = await self._should_be_banned(user_id)
        await self._record(user_id, "FAILED", reason, is_banned=is_banned is not False)

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

    async def _should_be_banned(self, user_id: UUID) -> bool | None:
        async with self._database.as_service("ban_user") as tx:
            is_banned: bool | None = await tx.value(_sql["should_be_banned"], {"user_id": user_id})
        return is_banned

    async def _record(self, user_id: UUID, outcome: str, reason: str | None, *, is_banned: bool) -> None:
        values = {"user_id": user_id, "outcome": outcome, "reason": reason}
        async with self._database.as_service("ban_user") as tx:
            await tx.run(_sql["record_ban" if is_banned else "record_lifted_ban"], values)
            if not is_banned:
                await tx.run(_sql["finish_reinstatement"], {"user_id": user_id, "reason": reason})
