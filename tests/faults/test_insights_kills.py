"""Kills the process that writes insights with SIGKILL at each of its commits: right before the server gets the commit,
and right after the server has committed.
"""

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest

from app.insights.writer import InsightsWriter
from app.keys.keyring import Keyring
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.faults.commits import PostgresProxy
from tests.faults.insights_process import PART_TURNS, NotingLanguage
from tests.faults.watches import Moment, Watch
from tests.integration.insights_setup import SAID, InsightsPractice, open_insights_practice
from tests.integration.retention_harness import KEYRING

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
ROOT_KEYS = f"tests-1:{base64.b64encode(b'a root key of a world of records').decode()}"
PARTS = len(SAID) // PART_TURNS
COMMITS = 3 + 2 * PARTS
"""One commit to begin, one for the number of parts, two for each part, and one to finish."""
_AT_ONCE = 4
MOMENTS: tuple[Moment, ...] = ("before", "after")


@dataclass(eq=False)
class CommitWatch(Watch):
    """Kills a process at the `number`-th commit of the writing of one recording's insights."""

    count: int = 0

    def passes(self, said: bytes) -> bool:
        if b"write_insights" not in said or not any(name in said for name in self.names):
            return False
        self.count += 1
        return self.count == self.number


@dataclass
class Writing:
    """Writes insights in processes, through a proxy that sees their commits."""

    practice: InsightsPractice
    proxy: PostgresProxy
    directory: Path

    async def run(self, video: UUID, watch: CommitWatch) -> int:
        """Write the insights in a new process. Return its exit code."""
        parts = urlsplit(self.practice.harness.database.worker_url)
        login = parts.netloc.rpartition("@")[0]
        url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.proxy.port}"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.insights_process",
            *(url, ROOT_KEYS, str(video), str(self.directory / str(video))),
            cwd=ROOT,
        )
        watch.kill = process.kill
        watch.know(str(video))
        with self.proxy.watched(watch):
            return await asyncio.wait_for(process.wait(), 300)

    async def resume(self, video: UUID) -> None:
        """Write the insights in this process."""
        bill = NotingLanguage(self.directory / str(video))
        await InsightsWriter(self.practice.harness.worker, bill, KEYRING).write(video)

    def paid(self, video: UUID) -> list[int]:
        """Return the parts that the language service was asked for, in order."""
        bill = self.directory / str(video)
        return [int(line) for line in bill.read_text().splitlines()] if bill.exists() else []


@pytest.fixture
async def writing(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Writing]:
    assert Keyring.parse(ROOT_KEYS).check_values() == KEYRING.check_values()
    parts = urlsplit(database.worker_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with (
        open_insights_practice(database, emptied_store, monkeypatch, PART_TURNS) as practice,
        PostgresProxy((parts.hostname, parts.port)).running() as proxy,
    ):
        yield Writing(practice, proxy, tmp_path)


async def test_killed_at_any_commit_nothing_stored_is_paid_twice_and_nothing_is_shown_half(
    writing: Writing,
) -> None:
    watch, video = CommitWatch("resguardo_worker", "before"), await writing.practice.transcribed()
    assert await writing.run(video, watch) == 0
    assert watch.count == COMMITS
    assert writing.paid(video) == list(range(PARTS))
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, moment: Moment) -> None:
        async with places:
            await _die_and_resume(writing, number, moment)

    async with asyncio.TaskGroup() as tasks:
        for number in range(1, COMMITS + 1):
            for moment in MOMENTS:
                tasks.create_task(one(number, moment))


async def _die_and_resume(writing: Writing, number: int, moment: Moment) -> None:
    case, practice = (number, moment), writing.practice
    video = await practice.transcribed()
    watch = CommitWatch("resguardo_worker", moment, number=number)
    assert await writing.run(video, watch) == -signal.SIGKILL, case
    answered = await practice.answered(video)
    is_ready = (await practice.state_of(video))[0] == "READY"
    assert is_ready == (case == (COMMITS, "after")), case
    texts = await practice.harness.value(
        "select count(*) from private.insight_texts where recording_id = %s", video
    )
    assert texts == int(is_ready), case
    paid = writing.paid(video)
    await writing.resume(video)
    again = writing.paid(video)[len(paid) :]
    assert again == ([] if is_ready else [part for part in range(PARTS) if part not in answered]), case
    assert await practice.state_of(video) == ("READY", None), case
    assert len(list((await practice.insights_of(video)).insights.lines)) > 5, case
