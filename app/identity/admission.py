"""Checks whether a person has the permission for an action, before the API reads the input of the action."""

from app.identity.permissions import Permission
from app.postgres.database import Asker, Database


class Admission:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require(self, asker: Asker, permission: Permission) -> None:
        """Return None if the caller's session is valid and the caller has a role that the permission allows.

        Raises Unauthenticated or Forbidden after the audit row of the refusal is written. Raises UpstreamFailed or
        Timeout if the database does not answer. Writes no audit row if the caller has the permission.
        """
        async with self._database.as_user(asker, permission.on()) as tx:
            await tx.run("select private.patient()" if tx.role == "patient" else "select private.person()")
