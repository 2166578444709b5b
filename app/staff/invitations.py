"""Completes staff invitations: creates the login at Supabase Auth and the staff member in the database.

The worker completes the invitations that compliance officers make, and the command `resguardo staff add` completes
the invitations that the owner makes. The database decides which login may become a staff member
(`private.staff_login`). The database checks the login again after each answer from Supabase, because a login can be
created, or become the login of a patient, at any moment. A login with an unconfirmed address never becomes a staff
member, unless Resguardo's own invitation created the login.
"""

from pathlib import Path
from typing import LiteralString
from uuid import UUID

from app.errors import AppError, Conflict, InvalidInput, UpstreamFailed
from app.integrations.supabase.client import SupabaseAdmin
from app.postgres.database import Database
from app.postgres.queries import Queries
from app.staff.model import NewMember, StaffRole, normalize_email

_sql = Queries(Path(__file__).with_name("queries.sql"))


class StaffInvitations:
    """Completes staff invitations. StaffInvitations uses the database login of the worker or the owner, which may
    settle invitations, and Supabase's secret key.

    `basis` is written as the basis into the audit rows.
    """

    def __init__(self, database: Database, admin: SupabaseAdmin, *, basis: LiteralString) -> None:
        self._database = database
        self._admin = admin
        self._basis = basis

    async def send(self, invitation_id: UUID) -> None:
        """Settle a pending invitation. If the invited address has no login at Supabase yet, first ask Supabase to
        invite the address by mail. The method does nothing for a settled invitation.

        If the process dies during the call, the next call continues from the state in the database. Raises
        UpstreamFailed, Timeout and Conflict, after which the job runs again.
        """
        email = await self._settle(invitation_id, None)
        if email is None:
            return
        try:
            invited = await self._admin.invite(email, invitation_id)
        except InvalidInput as refusal:
            await self.give_up(invitation_id, refusal.reason)
            return
        except Conflict:  # the login was confirmed in the meantime, so read it again
            invited = None
        if await self._settle(invitation_id, invited) is not None:
            raise UpstreamFailed("login_missing")

    async def give_up(self, invitation_id: UUID, reason: str) -> None:
        """Mark the invitation FAILED with this reason, unless it is settled."""
        async with self._database.as_service(self._basis) as tx:
            await tx.run(_sql["fail_staff_invitation"], {"id": invitation_id, "reason": reason})

    async def add(self, email: str, role: StaffRole) -> NewMember:
        """Invite an address on behalf of the owner, and wait for the result.

        Raises InvalidInput (bad_email, email_refused), Conflict for an address that cannot be invited (as
        `Staff.invite`), UpstreamFailed, and Timeout. If the method raises an error, no pending invitation remains.
        """
        async with self._database.as_service(self._basis) as tx:
            opened = await tx.one(_sql["add_staff"], {"email": normalize_email(email), "role": role.value})
        if opened is None or opened["refusal"] is not None:
            raise Conflict("concurrent_change" if opened is None else opened["refusal"])
        try:
            await self.send(opened["invitation"])
        except AppError as error:
            await self.give_up(opened["invitation"], error.reason)
            raise
        return await self._read_outcome(opened["invitation"])

    async def _settle(self, invitation_id: UUID, invited: UUID | None) -> str | None:
        """Return the address that still must be invited, or None if the invitation is settled."""
        async with self._database.as_service(self._basis) as tx:
            email = await tx.value(_sql["settle_staff_invitation"], {"id": invitation_id, "invited": invited})
        return None if email is None else str(email)

    async def _read_outcome(self, invitation_id: UUID) -> NewMember:
        async with self._database.as_service(self._basis) as tx:
            row = await tx.one(_sql["staff_invitation_outcome"], {"id": invitation_id})
        if row is None or row["user_id"] is None:
            raise Conflict("concurrent_change" if row is None else row["error"])
        return NewMember(row["user_id"], row["is_confirmed"])
