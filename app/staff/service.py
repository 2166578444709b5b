"""Services for staff: return who the caller is, invite staff members, and suspend staff members."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from psycopg.rows import DictRow

from app.errors import Conflict, NotFound
from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.database import Asker, Database
from app.postgres.queries import Queries
from app.staff.model import InvitationStatus, StaffInvitation, StaffRole, Viewer, normalize_email

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class _Person:
    user_id: UUID
    role: str
    patient_id: UUID | None


_STAFF: Final = AuditedRead(
    rows=_sql["view_staff"],
    items=_Person,
    action=permissions.READ_VIEWER.action,
    entity_type="staff",
    ids="p.user_id",
    patients=None,
    consultations=None,
)
_PATIENT: Final = AuditedRead(
    rows=_sql["view_patient"],
    items=_Person,
    action=permissions.READ_VIEWER.action,
    entity_type="patient",
    ids="p.patient_id",
    consultations=None,
)


class Staff:
    """The staff service of the API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def viewer(self, asker: Asker) -> Viewer:
        """Return the caller's identity and role, if the caller's session and account are valid."""
        access = permissions.READ_VIEWER.on()
        async with self._database.as_user(asker, access) as tx:
            people = await (_PATIENT if tx.role == "patient" else _STAFF).all(tx, {})
        if not people:
            raise NotFound("viewer_not_found")
        return Viewer(aal=str((asker.claims or {}).get("aal")), **asdict(people[0]))

    async def invite(self, asker: Asker, email: str, role: StaffRole) -> StaffInvitation:
        """Store an invitation and queue the job that sends it. If the address already has a pending invitation, the
        method only queues the job again.

        Raises InvalidInput (bad_email), RateLimited (quota_invitations) and Conflict: already_staff,
        staff_member_suspended, login_is_patient, login_banned, login_unconfirmed, invitation_differs. Before the
        method raises a Conflict, it writes an audit row, which names the login or the patient whose existence the
        Conflict reveals.
        """
        wanted = {"email": normalize_email(email), "role": role.value}
        async with self._database.as_user(asker, permissions.INVITE_STAFF.on()) as tx:
            row = await tx.one(_sql["invite_staff"], wanted)
        if row is None or row["refusal"] is not None:
            raise Conflict("concurrent_change" if row is None else row["refusal"])
        return _to_invitation(row)

    async def invitations(self, asker: Asker) -> list[StaffInvitation]:
        """Return the newest 100 staff invitations."""
        access = permissions.LIST_STAFF_INVITATIONS.on()
        async with self._database.as_user(asker, access) as tx:
            rows = await tx.all(_sql["read_staff_invitations"])
        return [_to_invitation(row) for row in rows]

    async def suspend(self, asker: Asker, user_id: UUID) -> None:
        """Suspend a staff member at once, end the member's sessions, and queue the ban at Supabase Auth. Safe to
        repeat.

        Raises NotFound and Conflict (own_suspension).
        """
        access = permissions.SUSPEND_STAFF.on(user_id)
        async with self._database.as_user(asker, access) as tx:
            if not await tx.value(_sql["suspend_staff"], {"user_id": user_id}):
                raise NotFound("staff_not_found")


def _to_invitation(row: DictRow) -> StaffInvitation:
    return StaffInvitation(
        id=row["id"],
        role=StaffRole(row["role"]),
        status=InvitationStatus(row["status"]),
        error=row["error"],
        email=row["email"],
        created_at=row["created_at"],
    )
