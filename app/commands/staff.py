"""`resguardo staff`."""

import asyncio
from typing import Annotated

import typer

from app import deployment, settings
from app.commands.console import out, report_refusals
from app.integrations.supabase.client import SupabaseAdmin
from app.postgres.database import Database
from app.settings import StaffSettings
from app.staff.invitations import StaffInvitations
from app.staff.model import NewMember, StaffRole

commands = typer.Typer(no_args_is_help=True, help="Who works here.")


@commands.command("add")
def add_staff(
    email: Annotated[str, typer.Argument(help="The address of the new member of staff.")],
    role: Annotated[StaffRole, typer.Option(help="What they will be.")],
) -> None:
    """Add a staff member, as the owner: usually the first compliance officer, who can then invite everyone else."""
    with report_refusals():
        member = asyncio.run(_add_staff(settings.load(StaffSettings), email, role))
        out.print(f"[green]added[/] {member.user_id} as {role.value}")
        if member.has_login:
            out.print("Next: they sign in as they are used to, and enrol an authenticator app (TOTP).")
        else:
            out.print("Next: they follow the link that Supabase Auth mailed to them, choose a password,")
            out.print("      and enrol an authenticator app (TOTP).")
        out.print("Without the second factor nothing here opens to them.")


async def _add_staff(loaded: StaffSettings, email: str, role: StaffRole) -> NewMember:
    database = Database(loaded.database_url.get_secret_value(), application="resguardo-staff", max_size=1)
    admin = SupabaseAdmin(loaded.supabase_url, loaded.supabase_secret_key.get_secret_value())
    try:
        await database.open()
        await deployment.require_own_database(database, loaded.deployment)
        return await StaffInvitations(database, admin, basis="staff_add").add(email, role)
    finally:
        await database.close()
        await admin.aclose()
