"""Kills the process that signs a note or adds an addendum with SIGKILL at each of its commits: right before the server
gets the commit, and right after the server has committed.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest

from app.insights.drafts import Section
from app.notes.editing import LineEdit
from app.notes.service import NoteDrafts
from app.notes.signing import NoteSigning
from app.postgres.database import Database as Pool
from app.postgres.selection import Selection
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.faults.commits import PostgresProxy
from tests.faults.signing_process import sign
from tests.faults.test_insights_kills import MOMENTS, ROOT, ROOT_KEYS
from tests.faults.watches import Moment, Watch
from tests.integration.insights_setup import InsightsPractice, open_insights_practice
from tests.integration.recording_harness import asker
from tests.integration.retention_harness import KEYRING

pytestmark = pytest.mark.anyio
ACTIONS = {"sign": "note.sign", "addendum": "note.add_addendum"}
_STATE = """
select
    (select count(*) from resguardo.signed_notes as n where n.recording_id = r.id)::integer as notes,
    coalesce((select n.version_count from resguardo.signed_notes as n where n.recording_id = r.id), 0) as counted,
    array(
        select v.sha256 from resguardo.signed_note_versions as v join resguardo.signed_notes as n on n.id = v.note_id
        where n.recording_id = r.id order by v.version
    ) as versions,
    (
        select count(*) from private.signed_note_texts as t join resguardo.signed_notes as n on n.id = t.note_id
        where n.recording_id = r.id
    )::integer as texts,
    array(
        select e.digest from audit.events as e
        where e.digest is not null and e.action in ('note.sign', 'note.add_addendum')
            and e.consultation_ids @> array[r.consultation_id]
        order by e.recorded_at, e.id
    ) as digests,
    exists (
        select from private.note_drafts as d where d.recording_id = r.id and d.signed_from is not null
    ) as is_signed
from resguardo.recordings as r where r.id = %s
"""


@dataclass(eq=False)
class SigningWatch(Watch):
    """Kills a process at the `number`-th commit that concerns one recording."""

    count: int = 0

    def passes(self, said: bytes) -> bool:
        if not any(name in said for name in self.names):
            return False
        self.count += 1
        return self.count == self.number


@dataclass
class Signing:
    """Signs notes in processes, through a proxy that sees their commits, and in this process."""

    practice: InsightsPractice
    proxy: PostgresProxy
    pool: Pool

    @property
    def doctor(self) -> UUID:
        return self.practice.harness.doctor

    async def drafted(self, act: str) -> UUID:
        """Return a recording with a draft that can be signed, or with a signed note if `act` is an addendum."""
        video = await self.practice.harness.recording()
        lines = [LineEdit("Written by the doctor.")]
        drafts = NoteDrafts(self.pool, KEYRING)
        await drafts.edit(asker(self.doctor), video, Section.O, lines, 0, Selection.of("version"))
        if act != "sign":
            await self.resume("sign", video)
        return video

    async def run(self, act: str, video: UUID, watch: SigningWatch) -> int:
        """Sign in a new process. Return its exit code."""
        parts = urlsplit(self.practice.harness.database.api_url)
        login = parts.netloc.rpartition("@")[0]
        url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.proxy.port}"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.signing_process",
            *(url, ROOT_KEYS, act, str(self.doctor), str(video)),
            cwd=ROOT,
        )
        watch.kill = process.kill
        watch.know(str(video))
        with self.proxy.watched(watch):
            return await asyncio.wait_for(process.wait(), 300)

    async def resume(self, act: str, video: UUID) -> None:
        """Sign in this process."""
        await sign(NoteSigning(self.pool, KEYRING, totp_max_age_seconds=None), act, self.doctor, video)

    def watch(self, moment: Moment, number: int = 0) -> SigningWatch:
        login = urlsplit(self.practice.harness.database.api_url).username
        assert login is not None
        return SigningWatch(login, moment, number=number)

    async def require_versions(self, video: UUID, count: int) -> None:
        """Require that the note has exactly these whole versions, each with one audit row that has its digest."""
        (state,) = await self.practice.harness.rows(_STATE, video)
        assert (state["notes"], state["counted"], state["texts"]) == (int(count > 0), count, count)
        assert (len(state["versions"]), state["digests"]) == (count, state["versions"])
        assert state["is_signed"] == (count > 0)


@pytest.fixture
async def signing(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Signing]:
    parts = urlsplit(database.api_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with (
        open_insights_practice(database, emptied_store, monkeypatch, part_turns=4) as practice,
        PostgresProxy((parts.hostname, parts.port)).running() as proxy,
        practice.as_doctor(),
    ):
        pool = Pool(database.api_url, application="test", max_size=2)
        await pool.open()
        try:
            yield Signing(practice, proxy, pool)
        finally:
            await pool.close()


@pytest.mark.parametrize("act", ACTIONS)
async def test_killed_at_any_commit_a_version_is_whole_with_its_digest_or_is_not_there(
    signing: Signing, act: str
) -> None:
    video, whole = await signing.drafted(act), signing.watch("before")
    before = int(act != "sign")
    assert await signing.run(act, video, whole) == 0
    await signing.require_versions(video, before + 1)
    assert whole.count > 0
    for number in range(1, whole.count + 1):
        for moment in MOMENTS:
            video, watch = await signing.drafted(act), signing.watch(moment, number)
            assert await signing.run(act, video, watch) == -signal.SIGKILL, (number, moment)
            is_there = (number, moment) == (whole.count, "after")
            await signing.require_versions(video, before + int(is_there))
            for _ in range(2):
                await signing.resume(act, video)
                await signing.require_versions(video, before + 1)
