"""Gives one process at a time the turn to write the bucket's rules. Cloudflare replaces all lock rules at once. If
two processes read the rules and write them back at the same time, one change is lost. The turn is a lease in the
database, so no transaction is open while Cloudflare or the bucket answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

from app.bucket import store
from app.errors import AppError, Conflict
from app.postgres.database import Database


class RulesTurn:
    """This process's turn to write the bucket's rules. The turn ends two minutes after it was taken or renewed."""

    def __init__(self, database: Database, service: str, holder: UUID) -> None:
        self._database = database
        self._service = service
        self._holder = holder

    async def renew(self) -> None:
        """Renew the turn before a write. Raises Conflict (bucket_rules_busy) if another process has taken the turn."""
        async with self._database.as_service(self._service) as tx:
            if not await store.renew_rules_turn(tx, self._holder):
                raise Conflict("bucket_rules_busy")


@asynccontextmanager
async def take_rules_turn(database: Database, service: str) -> AsyncIterator[RulesTurn]:
    """Take the turn for a service, and give it back at the end of the block.

    Raises Conflict (bucket_rules_busy) if another process has the turn. A process that cannot give the turn back,
    because it died or the database does not answer, keeps it for at most two minutes.
    """
    holder = uuid4()
    async with database.as_service(service) as tx:
        if not await store.take_rules_turn(tx, holder):
            raise Conflict("bucket_rules_busy")
    try:
        yield RulesTurn(database, service, holder)
    finally:
        with suppress(AppError):
            async with database.as_service(service) as tx:
                await store.give_rules_turn_back(tx, holder)
