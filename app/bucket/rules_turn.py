"""Permits only one process at a time to write the bucket's rules. Cloudflare's API can only replace all lock rules
of the bucket at once. If two processes read the rules at the same time and then write them back, the change of one
process is lost. The permission to write the rules is a lease in the database, so no transaction is open while
Cloudflare or the bucket answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

from app.bucket import store
from app.errors import AppError, Conflict
from app.postgres.database import Database


class RulesTurn:
    """The lease that permits this process to write the bucket's rules. The lease ends two minutes after it was
    taken or renewed.
    """

    def __init__(self, database: Database, service: str, holder: UUID) -> None:
        self._database = database
        self._service = service
        self._holder = holder

    async def renew(self) -> None:
        """Renew the lease before the rules are written. Raises Conflict (bucket_rules_busy) if another process has
        taken the lease.
        """
        async with self._database.as_service(self._service) as tx:
            if not await store.renew_rules_turn(tx, self._holder):
                raise Conflict("bucket_rules_busy")


@asynccontextmanager
async def take_rules_turn(database: Database, service: str) -> AsyncIterator[RulesTurn]:
    """Take the lease that permits this process to write the bucket's rules, and give it back at the end of the
    `with` block.

    Raises Conflict (bucket_rules_busy) if another process has the lease. If a process cannot give the lease back,
    because it died or the database does not answer, the lease expires after at most two minutes.
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
