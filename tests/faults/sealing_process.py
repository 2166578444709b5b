"""Seals the audit log once, in a process of its own, which a test kills."""

import asyncio
import sys
import time

from app.audit.sealing.sealer import Sealer
from app.postgres.database import Database


async def _main(database_url: str, seed: str, deployment: str) -> None:
    database = Database(database_url, application="test", max_size=1)
    await database.open()
    try:
        await Sealer(database, bytes.fromhex(seed), deployment=deployment, clock=time.monotonic).run()
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
