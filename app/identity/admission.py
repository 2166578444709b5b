"""Checks whether a person may take an action at all, before the action's input is read."""

from app.identity.permissions import Permission
from app.postgres.database import Asker, Database


class Admission:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require(self, asker: Asker, permission: Permission) -> None:
        """Return if the session is valid and its person has one of the permission's roles.

        Raises Unauthenticated or Forbidden after the audit row of the refusal is written, UpstreamFailed or
        Timeout. Writes no audit row if it returns.
        """
        async with self._database.as_user(asker, permission.on()) as tx:
            await tx.run("select private.patient()" if tx.role == "patient" else "select private.person()")
