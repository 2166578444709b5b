"""Tests of what happens to the objects of clips: legal holds, moves to `keep/`, the search for missing objects, the
sweep of orphaned objects, destruction, and the check after a restore. Postgres and the object store are real, and tests
set the clock.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import LiteralString
from uuid import UUID, uuid4

import pytest

from app.bucket.missing_objects import MissingObjects, MissingReport
from app.bucket.object_keys import compose_clip_file
from app.bucket.orphaned_objects import OrphanedObjects, SweepReport
from app.clips import store as clips
from app.deletions.destroyer import DestructionReport
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.retention_harness import DAY, DEPLOYMENT, START, RetentionHarness, opened
from tests.integration.test_destroyer import TERM, certificates, consultation_of, restore, snapshot, traces
from tests.integration.test_orphaned_objects import AgedStorage

pytestmark = pytest.mark.anyio

QUARANTINE = 30 * DAY
_MARKED = "select id from resguardo.recordings where missing_since is not null"


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def _with_clip(harness: RetentionHarness) -> tuple[UUID, UUID]:
    video = await harness.recording(content=b"picture")
    return video, await harness.clip(video, content=b"clip")


async def _search(harness: RetentionHarness) -> MissingReport:
    search = MissingObjects(harness.worker, harness.storage, deployment=DEPLOYMENT, quarantine=QUARANTINE)
    return await search.run_once()


async def _sweep(harness: RetentionHarness, store: ObjectStore, *, age: timedelta) -> SweepReport:
    """Sweep the bucket as if each object were older by `age`, on the present day of the machine's clock."""
    storage = AgedStorage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
    storage.age = age
    try:
        return await OrphanedObjects(harness.worker, storage, quarantine=QUARANTINE).run_once()
    finally:
        storage.close()


async def test_hold_protects_a_clip_and_moves_it_to_keep_with_its_recording(
    harness: RetentionHarness,
) -> None:
    video, clip = await _with_clip(harness)
    before = {one: await harness.key_of(one) for one in (video, clip)}
    assert before[clip] == before[video].replace("video.mp4", compose_clip_file(clip))
    hold = await harness.hold(consultation_id=await consultation_of(harness, video))
    report = await harness.protection().run_once()
    assert (report.moved, report.waiting) == (1, 0)
    for one, content in ((video, b"picture"), (clip, b"clip")):
        assert await harness.key_of(one) == before[one].replace("r/d90/", "keep/")
        assert await harness.storage.get_small(await harness.key_of(one), 100) == content
    assert await harness.keys_under("r/") == []
    await harness.move_to(START + 10 * TERM)
    assert await harness.destroyer().run_once() == DestructionReport(0, 0)
    assert await harness.status_of(clip) == "READY"
    await harness.release(hold)
    assert await harness.destroyer().run_once() == DestructionReport(1, 0)
    assert await harness.keys_under("keep/") == []
    (certificate,) = await certificates(harness, video)
    assert {one.kind for one in certificate.objects} == {"video.mp4", compose_clip_file(clip)}


async def test_clip_that_is_made_under_a_hold_is_stored_under_keep(harness: RetentionHarness) -> None:
    video = await harness.recording()
    await harness.hold(consultation_id=await consultation_of(harness, video))
    await harness.protection().run_once()
    clip = await harness.clip(video)
    assert (await harness.key_of(clip)).startswith("keep/")
    assert (await harness.protection().run_once()).waiting == 0


async def test_clip_that_is_stored_while_its_recording_moves_follows_to_keep(
    harness: RetentionHarness,
) -> None:
    video = await harness.recording()
    clip, key = await harness.begin_clip(video)
    await harness.storage.put_new(key, b"clip", "video/webm")
    await harness.hold(consultation_id=await consultation_of(harness, video))
    await harness.protection().run_once()
    assert (await harness.key_of(video)).startswith("keep/")
    async with harness.worker.as_service("make_clip") as tx:
        assert await clips.finish(tx, clip, 1, key, "ab" * 32, 4)
    assert await harness.key_of(clip) == key
    assert key.startswith("r/d90/")
    await harness.protection().run_once()
    assert await harness.key_of(clip) == key.replace("r/d90/", "keep/")
    assert await harness.keys_under("r/") == []
    assert await harness.storage.get_small(await harness.key_of(clip), 100) == b"clip"


async def test_missing_clip_is_reported_and_its_recording_stays(harness: RetentionHarness) -> None:
    video, clip = await _with_clip(harness)
    key = await harness.key_of(clip)
    await harness.storage.delete(key)
    assert await _search(harness) == MissingReport(verified=2, missing=1, reported=1, resolved=0)
    assert [row["id"] for row in await harness.rows(_MARKED)] == [clip]
    await harness.move_to(harness.time + 2 * QUARANTINE)
    assert (await _search(harness)).resolved == 0
    assert await harness.status_of(video) == "READY"
    await harness.storage.put_new(key, b"clip", "video/webm")
    assert await _search(harness) == MissingReport(verified=2, missing=0, reported=0, resolved=0)
    assert await harness.rows(_MARKED) == []


async def test_missing_recording_with_an_existing_clip_is_not_destroyed(harness: RetentionHarness) -> None:
    video, clip = await _with_clip(harness)
    await harness.storage.delete(await harness.key_of(video))
    await _search(harness)
    await harness.move_to(harness.time + 2 * QUARANTINE)
    assert (await _search(harness)).resolved == 0
    assert await harness.storage.head(await harness.key_of(clip)) is not None


async def test_sweep_keeps_clips_and_deletes_the_object_of_an_attempt_that_ended(
    harness: RetentionHarness, emptied_store: ObjectStore
) -> None:
    video, clip = await _with_clip(harness)
    folder = (await harness.key_of(video)).removesuffix("video.mp4")
    stray = [f"{folder}{compose_clip_file(clip, 2)}", f"{folder}{compose_clip_file(uuid4())}"]
    for key in stray:
        await harness.storage.put_new(key, b"clip", "video/webm")
    waiting = await _sweep(harness, emptied_store, age=QUARANTINE - DAY)
    assert (waiting.objects_seen, waiting.orphans_waiting, waiting.orphans_swept) == (4, 2, 0)
    swept = await _sweep(harness, emptied_store, age=QUARANTINE + DAY)
    assert (swept.objects_seen, swept.orphans_waiting, swept.orphans_swept) == (4, 0, 2)
    assert set(await harness.keys_under("r/")) == {await harness.key_of(one) for one in (video, clip)}


async def test_sweep_deletes_an_orphaned_clip_of_a_destroyed_recording_at_once(
    harness: RetentionHarness, emptied_store: ObjectStore
) -> None:
    video, clip = await _with_clip(harness)
    folder = (await harness.key_of(video)).removesuffix("video.mp4")
    await harness.move_to(START + TERM)
    assert (await harness.destroyer().run_once()).destroyed == 1
    await harness.storage.put_new(f"{folder}{compose_clip_file(clip, 2)}", b"clip", "video/webm")
    assert (await _sweep(harness, emptied_store, age=timedelta())).orphans_swept == 1
    assert await harness.keys_under("r/") == []


async def test_sweep_keeps_an_orphaned_clip_of_a_held_recording(
    harness: RetentionHarness, emptied_store: ObjectStore
) -> None:
    video, clip = await _with_clip(harness)
    await harness.hold(consultation_id=await consultation_of(harness, video))
    stray = (await harness.key_of(video)).replace("video.mp4", compose_clip_file(clip, 2))
    await harness.storage.put_new(stray, b"clip", "video/webm")
    assert (await _sweep(harness, emptied_store, age=QUARANTINE + DAY)).orphans_swept == 0
    assert stray in await harness.keys_under("r/")


async def test_clip_that_a_restore_brought_back_is_destroyed_again_with_its_recording(
    harness: RetentionHarness,
) -> None:
    video, clip = await _with_clip(harness)
    backup, backup_of_clip = await snapshot(harness, video), await _backup(harness, clip)
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    assert await traces(harness, clip) == 0
    await harness.rows("set session_replication_role = replica")
    await harness.rows("delete from resguardo.recordings where id = %s", clip)
    await restore(harness, video, backup)
    await harness.rows(_RESTORE_RECORDING, backup_of_clip[0])
    await harness.rows(_RESTORE_KEY, backup_of_clip[1])
    await harness.rows("set session_replication_role = origin")
    assert await harness.status_of(clip) == "READY"
    report = await harness.restore_check().run(repeat=True)
    assert (report.repeated, report.is_clean) == ([video], True)
    await harness.move_to(harness.time + timedelta(hours=1))
    assert (await harness.destroyer().run_once()).destroyed == 1
    assert (await harness.status_of(clip), await traces(harness, clip)) == ("DELETED", 0)


async def test_clip_that_moved_after_the_backup_is_found_after_a_restore(harness: RetentionHarness) -> None:
    video, clip = await _with_clip(harness)
    backups = {one: await _backup(harness, one) for one in (video, clip)}
    await harness.hold(consultation_id=await consultation_of(harness, video))
    await harness.protection().run_once()
    await harness.rows("set session_replication_role = replica")
    for one in (video, clip):
        await harness.rows("delete from private.recording_secrets where recording_id = %s", one)
        await harness.rows(_RESTORE_KEY, backups[one][1])
        await harness.rows("update resguardo.recordings set retention_class = 'd90' where id = %s", one)
    await harness.rows("set session_replication_role = origin")
    assert (await harness.restore_check().run(repeat=True)).moved == 2
    assert (await harness.key_of(clip)).startswith("keep/")
    assert await harness.storage.get_small(await harness.key_of(clip), 100) == b"clip"


_RESTORE_RECORDING: LiteralString = (
    "insert into resguardo.recordings select * from json_populate_record(null::resguardo.recordings, %s)"
)
_RESTORE_KEY: LiteralString = (
    "insert into private.recording_secrets"
    " select * from json_populate_record(null::private.recording_secrets, %s)"
)


async def _backup(harness: RetentionHarness, recording: UUID) -> tuple[str, str]:
    """Return the row and the object key of a recording as JSON, as a backup would contain them."""
    row = await harness.value(
        "select row_to_json(t)::text from resguardo.recordings as t where id = %s", recording
    )
    key = await harness.value(
        "select row_to_json(t)::text from private.recording_secrets as t where recording_id = %s", recording
    )
    return str(row), str(key)
