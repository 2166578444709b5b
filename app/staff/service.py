"""What one does about people: ask who one is, invite somebody to work here, suspend a member of staff."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import TypeAdapter

from app import permissions
from app.audited import read_audited
from app.db import Asker, Database
from app.errors import Conflict, InvalidInput, NotFound
from app.integrations.supabase import SupabaseAdmin
from app.quotas import Quotas
from app.sql import Queries
from app.staff.model import InvitationStatus, StaffInvitation, StaffRole, Viewer, email_address

log: Final = logging.getLogger(__name__)

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class _Person:
    user_id: UUID
    role: str
    patient_id: UUID | None


_people = TypeAdapter(list[_Person])


class Staff:
    """The API's part of the service."""

    def __init__(self, database: Database, *, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas

    async def viewer(self, asker: Asker) -> Viewer:
        """Who asks, in good standing."""
        access = permissions.READ_VIEWER.on()
        async with self._database.as_user(asker, access) as tx:
            statement = _sql["view_patient" if tx.role == "patient" else "view_staff"]
            people = await read_audited(tx, statement, {}, _people)
        if not people:
            raise NotFound("viewer_not_found")
        return Viewer(aal=str((asker.claims or {}).get("aal")), **asdict(people[0]))

    async def invite(self, asker: Asker, email: str, role: StaffRole) -> StaffInvitation:
        """Writes the invitation down and queues its sending; while it is pending, again only sends it again.

        Raises InvalidInput (bad_email), RateLimited (quota_invitations) and Conflict: already_staff,
        staff_member_suspended, login_is_patient, login_banned, login_unconfirmed, invitation_differs. A
        conflict is in the audit log already, with the login or the patient that it told of.
        """
        wanted = {
            "email": email_address(email),
            "role": role.value,
            "quota": self._quotas.invitations,
        }
        async with self._database.as_user(asker, permissions.INVITE_STAFF.on()) as tx:
            row = await tx.one(_sql["invite_staff"], wanted)
        if row is None or row["refusal"] is not None:
            raise Conflict("concurrent_change" if row is None else row["refusal"])
        return _invitation(row)

    async def invitations(self, asker: Asker) -> list[StaffInvitation]:
        """The newest hundred."""
        access = permissions.LIST_STAFF_INVITATIONS.on()
        async with self._database.as_user(asker, access) as tx:
            rows = await tx.all(_sql["read_staff_invitations"], {"quota": self._quotas.pages})
        return [_invitation(row) for row in rows]

    async def suspend(self, asker: Asker, user_id: UUID) -> None:
        """Suspends at once, ends every session, and queues the ban at the identity provider; again is harmless.

        Raises NotFound and Conflict (own_suspension).
        """
        access = permissions.SUSPEND_STAFF.on(user_id)
        async with self._database.as_user(asker, access) as tx:
            if not await tx.value(_sql["suspend_staff"], {"user_id": user_id}):
                raise NotFound("staff_not_found")


def _invitation(row: DictRow) -> StaffInvitation:
    return StaffInvitation(
        id=row["id"],
        role=StaffRole(row["role"]),
        status=InvitationStatus(row["status"]),
        error=row["error"],
        email=row["email"],
        created_at=row["created_at"],
    )


class StaffBans:
    """The worker's part."""

    def __init__(self, database: Database, admin: SupabaseAdmin) -> None:
        self._database = database
        self._admin = admin

    async def ban(self, user_id: UUID) -> None:
        """Has Supabase Auth refuse the person, then ends the sessions that opened since the suspension.

        A login that is gone and a final refusal end it, recorded in the audit log. Raises UpstreamFailed, Timeout: the
        job then runs again.
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
        """Records that the ban could not be set. The suspension stands: it closes every door of ours by itself."""
        log.error("not banned: user=%s %s", user_id, reason)
        await self._record(user_id, "FAILED", reason)

    async def end_sessions(self) -> int:
        """Ends every session of the members whom compliance suspended, and returns how many there were.

        Auth looks at the ban when a sign-in begins, and commits its session up to 10 s later: so this is repeated.
        """
        async with self._database.as_service("ban_user") as tx:
            ended = int(await tx.value(_sql["end_sessions_of_suspended"]))
        if ended:
            log.warning("sessions of suspended staff ended: %d", ended)
        return ended

    async def _record(self, user_id: UUID, outcome: str, reason: str | None) -> None:
        async with self._database.as_service("ban_user") as tx:
            await tx.run(_sql["record_ban"], {"user_id": user_id, "outcome": outcome, "reason": reason})
