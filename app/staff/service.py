"""Services for staff: return the caller's own entry, list, invite and suspend staff members, and set their published
names.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import TypeAdapter

from app.errors import Conflict, NotFound
from app.identity import permissions
from app.postgres.audited import AuditedList, AuditedRead
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.staff.model import (
    AssuranceLevel,
    InvitationStatus,
    Role,
    StaffFilter,
    StaffInvitation,
    StaffMember,
    StaffRole,
    Viewer,
    normalize_email,
    normalize_published_name,
)

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class _Person:
    user_id: UUID
    role: Role
    patient_id: UUID | None
    patient_external_id: str | None


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
_MEMBERS: Final = AuditedList(
    table="resguardo.staff",
    time="created_at",
    conditions={
        "roles": "r.role = any((select %(roles)s::text[])::text[])",
        "statuses": "r.status = any((select %(statuses)s::text[])::text[])",
    },
    items=StaffMember,
    action=permissions.LIST_STAFF.action,
    entity_type="staff",
    ids="p.user_id",
    patients=None,
    consultations=None,
    details={"last_used_at": "private.last_use(p.user_id)"},
)
_member: Final = TypeAdapter(StaffMember)
_PLAIN: Final = Selection()


class Staff:
    """The staff service of the API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def viewer(self, asker: Asker, selection: Selection = _PLAIN) -> Viewer:
        """Return the caller's identity and role, if the caller's session and account are valid. The audit row names
        the selected fields.
        """
        access = permissions.READ_VIEWER.on()
        async with self._database.as_user(asker, access) as tx:
            read = _PATIENT if tx.role == "patient" else _STAFF
            people = await read.all(tx, {}, fields=selection.paths)
        if not people:
            raise NotFound("viewer_not_found")
        level = AssuranceLevel((asker.claims or {}).get("aal"))
        return Viewer(assurance_level=level, **asdict(people[0]))

    async def members(
        self, asker: Asker, request: PageRequest, wanted: StaffFilter, selection: Selection
    ) -> Page[StaffMember]:
        """Return a page of the staff members, newest first. The audit row names the selected fields."""
        filters = {
            "roles": None if wanted.roles is None else [role.value for role in wanted.roles],
            "statuses": None if wanted.statuses is None else [status.value for status in wanted.statuses],
        }
        async with self._database.as_user(asker, permissions.LIST_STAFF.on()) as tx:
            rows = await _MEMBERS.page(
                tx, request, filters, fields=selection.paths, selected=selection.names()
            )
        return Page.of(rows, request)

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

    async def invitations(
        self, asker: Asker, request: PageRequest, selection: Selection
    ) -> Page[StaffInvitation]:
        """Return a page of the staff invitations, newest first. The audit row names the selected fields."""
        parameters = {**request.parameters, "fields": list(selection.paths)}
        access = permissions.LIST_STAFF_INVITATIONS.on()
        async with self._database.as_user(asker, access) as tx:
            rows = await tx.all(_sql["read_staff_invitations"], parameters)
        return Page.of([_to_invitation(row) for row in rows], request)

    async def publish_name(self, asker: Asker, user_id: UUID, name: str | None) -> StaffMember:
        """Set the published name of a staff member, or remove it if `name` is None. Return the member. Safe to repeat.

        Raises InvalidInput (bad_published_name) and NotFound.
        """
        wanted = {"user_id": user_id, "name": normalize_published_name(name)}
        async with self._database.as_user(asker, permissions.PUBLISH_STAFF_NAME.on(user_id)) as tx:
            row = await tx.one(_sql["publish_staff_name"], wanted)
            if row is None:
                raise NotFound("staff_not_found")
            return _member.validate_python(row)

    async def suspend(self, asker: Asker, user_id: UUID) -> StaffMember:
        """Suspend a staff member at once, end the member's sessions, and queue the ban at Supabase Auth. Return the
        suspended member. Safe to repeat.

        Raises NotFound and Conflict (own_suspension).
        """
        access = permissions.SUSPEND_STAFF.on(user_id)
        async with self._database.as_user(asker, access) as tx:
            row = await tx.one(_sql["suspend_staff"], {"user_id": user_id})
            if row is None:
                raise NotFound("staff_not_found")
            return _member.validate_python(row)


def _to_invitation(row: DictRow) -> StaffInvitation:
    return StaffInvitation(
        id=row["id"],
        role=StaffRole(row["role"]),
        status=InvitationStatus(row["status"]),
        error=row["error"],
        email=row["email"],
        created_at=row["created_at"],
    )
