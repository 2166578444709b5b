"""Kills the sealer with SIGKILL at each of its commits: right before the server gets the commit, and right after the
server has committed. The next sealer finds either a whole batch or none.
"""

import asyncio
import signal
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import pytest

from app.audit.sealing.model import BATCH
from tests.faults.commits import PostgresProxy
from tests.faults.test_insights_kills import MOMENTS, ROOT
from tests.faults.watches import Watch
from tests.integration.test_audit_sealing import DEPLOYMENT, SEED, Sealing, sealing

pytestmark = pytest.mark.anyio
__all__ = ["sealing"]


@dataclass(eq=False)
class SealingWatch(Watch):
    """Kills a process at the `number`-th commit of the sealer."""

    count: int = 0

    def passes(self, said: bytes) -> bool:
        if b"seal_audit_log" not in said:
            return False
        self.count += 1
        return self.count == self.number


async def _seal(worker_url: str, proxy: PostgresProxy, watch: SealingWatch) -> int:
    """Seal once in a new process. Return its exit code."""
    parts = urlsplit(worker_url)
    login = parts.netloc.rpartition("@")[0]
    url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.sealing_process", url, SEED.hex(), DEPLOYMENT, cwd=ROOT
    )
    watch.kill = process.kill
    with proxy.watched(watch):
        return await asyncio.wait_for(process.wait(), 300)


async def test_killed_at_any_commit_the_sealer_leaves_whole_batches(sealing: Sealing) -> None:
    parts = urlsplit(sealing.database.worker_url)
    assert parts.hostname is not None
    assert parts.port is not None
    assert parts.username is not None
    async with PostgresProxy((parts.hostname, parts.port)).running() as proxy:
        sealing.add(BATCH + 1)
        whole = SealingWatch(parts.username, "before", number=0)
        assert await _seal(sealing.database.worker_url, proxy, whole) == 0
        assert whole.count > 5
        for number in range(1, whole.count + 1):
            for moment in MOMENTS:
                ids = sealing.add(BATCH + 1)
                watch = SealingWatch(parts.username, moment, number=number)
                code = await _seal(sealing.database.worker_url, proxy, watch)
                assert code == -signal.SIGKILL, (number, moment)
                assert sealing.log()["size"] == len(sealing.leaves())
                await sealing.another().run()
                assert set(ids) <= {leaf["event_id"] for leaf in sealing.leaves()}
    sealing.require_consistent()
    assert sealing.unsealed() == 0
