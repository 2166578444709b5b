"""Whether a person may take an action at all, before anybody looks at what the action is about."""

from app.db import Asker, Database
from app.permissions import Permission


class Admission:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require(self, asker: Asker, permission: Permission) -> None:
        """Returns if the session is valid and its person has one of the roles.

        Raises Unauthenticated or Forbidden, after the audit row of the refusal, UpstreamFailed or Timeout. It writes no
        audit row if it returns.
        """
        async with self._database.as_user(asker, permission.on()) as tx:
            await tx.run("select private.patient()" if tx.role == "patient" else "select private.person()")
