"""What one does about people: ask who one is, suspend a member of staff."""

from pathlib import Path
from uuid import UUID

from app.db import Access, Asker, Database
from app.errors import NotFound
from app.integrations.supabase import SupabaseAdmin
from app.sql import Queries
from app.staff.model import Viewer

_sql = Queries(Path(__file__).with_name("queries.sql"))


class Staff:
    """The API's part of the service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def viewer(self, asker: Asker) -> Viewer:
        """Who asks, in good standing."""
        access = Access("viewer.read", {"clinician", "compliance", "patient"}, "staff")
        async with self._database.as_user(asker, access) as tx:
            row = await tx.one(_sql["view_patient" if tx.role == "patient" else "view_staff"])
        claims = asker.claims or {}
        if row is None:
            raise NotFound("viewer_not_found")
        return Viewer(aal=str(claims.get("aal")), **row)

    async def suspend(self, asker: Asker, user_id: UUID) -> None:
        """Suspends at once, ends every session, and queues the ban at the identity provider; again is harmless.

        Raises NotFound and Conflict (own_suspension).
        """
        access = Access("staff.suspend", {"compliance"}, "staff", user_id)
        async with self._database.as_user(asker, access) as tx:
            if not await tx.value(_sql["suspend_staff"], {"user_id": user_id}):
                raise NotFound("staff_not_found")


class StaffBans:
    """The worker's part."""

    def __init__(self, database: Database, admin: SupabaseAdmin) -> None:
        self._database = database
        self._admin = admin

    async def ban(self, user_id: UUID) -> None:
        """Has Supabase Auth refuse the person. Raises UpstreamFailed, Timeout: the job then runs again."""
        await self._admin.ban(user_id)
        async with self._database.as_service("ban_user") as tx:
            await tx.run(_sql["record_ban"], {"user_id": user_id})
