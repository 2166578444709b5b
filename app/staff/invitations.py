"""Brings invitations to their end: a login at Supabase Auth, and a member of staff here.

The worker does it for compliance, the command for the owner. Which login may become a member is decided by the
database (`private.staff_login`), again after each answer of Supabase's: a login may come to be, or become a
patient's, at any moment. It adopts no login that somebody else made and nobody confirmed.
"""

from pathlib import Path
from typing import LiteralString
from uuid import UUID

from app.db import Database
from app.errors import AppError, Conflict, InvalidInput, UpstreamFailed
from app.integrations.supabase import SupabaseAdmin
from app.sql import Queries
from app.staff.model import NewMember, StaffRole, email_address

_sql = Queries(Path(__file__).with_name("queries.sql"))


class StaffInvitations:
    """Needs a login that may settle invitations (the worker's, or the owner's) and Supabase's secret key.

    `basis` is why, in the audit log.
    """

    def __init__(self, database: Database, admin: SupabaseAdmin, *, basis: LiteralString) -> None:
        self._database = database
        self._admin = admin
        self._basis = basis

    async def send(self, invitation_id: UUID) -> None:
        """Settles a pending invitation, inviting the address where it has no login yet; else does nothing.

        Killed anywhere, it goes on from what is in the database the next time. Raises UpstreamFailed, Timeout
        and Conflict: to be tried again.
        """
        email = await self._settle(invitation_id, None)
        if email is None:
            return
        try:
            invited = await self._admin.invite(email, invitation_id)
        except InvalidInput as refusal:
            await self.give_up(invitation_id, refusal.reason)
            return
        except Conflict:  # the login was confirmed since we looked: look again
            invited = None
        if await self._settle(invitation_id, invited) is not None:
            raise UpstreamFailed("login_missing")

    async def give_up(self, invitation_id: UUID, reason: str) -> None:
        """FAILED for this reason, unless it is settled."""
        async with self._database.as_service(self._basis) as tx:
            await tx.run(_sql["fail_staff_invitation"], {"id": invitation_id, "reason": reason})

    async def add(self, email: str, role: StaffRole) -> NewMember:
        """The owner's way: invites and waits for the outcome.

        Raises InvalidInput (bad_email, email_refused), Conflict for an address that cannot be invited (as
        `Staff.invite`), UpstreamFailed, Timeout; nothing pending is left behind then.
        """
        async with self._database.as_service(self._basis) as tx:
            opened = await tx.one(_sql["add_staff"], {"email": email_address(email), "role": role.value})
        if opened is None or opened["refusal"] is not None:
            raise Conflict("concurrent_change" if opened is None else opened["refusal"])
        try:
            await self.send(opened["invitation"])
        except AppError as error:
            await self.give_up(opened["invitation"], error.reason)
            raise
        return await self._outcome(opened["invitation"])

    async def _settle(self, invitation_id: UUID, invited: UUID | None) -> str | None:
        """The address that is to be invited still; None once it is settled."""
        async with self._database.as_service(self._basis) as tx:
            email = await tx.value(_sql["settle_staff_invitation"], {"id": invitation_id, "invited": invited})
        return None if email is None else str(email)

    async def _outcome(self, invitation_id: UUID) -> NewMember:
        async with self._database.as_service(self._basis) as tx:
            row = await tx.one(_sql["staff_invitation_outcome"], {"id": invitation_id})
        if row is None or row["user_id"] is None:
            raise Conflict("concurrent_change" if row is None else row["error"])
        return NewMember(row["user_id"], row["is_confirmed"])
