"""Tests of missing objects of READY recordings, on a real Postgres and a real object store with moved clocks."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.bucket import missing_objects
from app.bucket.missing_objects import TOO_MANY_MISSING, MissingObjects, MissingReport
from app.errors import Conflict
from app.integrations.storage.listing import ObjectPage
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.keeping_world import DAY, DEPLOYMENT, ClockedStorage, World, opened

pytestmark = pytest.mark.anyio

QUARANTINE = 30 * DAY
REPORTS = "select entity_ids[1] as id, patient_ids from audit.events where action = 'object.report_missing' order by id"
DELETIONS = "select recording_id, ground, status from resguardo.deletions"


class SmallPages(ClockedStorage):
    """An object store that lists one object per page."""

    def list_objects(self, prefix: str, *, page_size: int = 1) -> AsyncIterator[ObjectPage]:
        return super().list_objects(prefix, page_size=1)


@pytest.fixture
async def world(database: Database, emptied_store: ObjectStore) -> AsyncIterator[World]:
    async with opened(database, emptied_store) as world:
        await world.adopt()
        yield world


async def look(world: World, storage: ClockedStorage | None = None) -> MissingReport:
    looking = MissingObjects(
        world.worker, storage or world.storage, deployment=DEPLOYMENT, quarantine=QUARANTINE
    )
    return await looking.run_once()


async def lose(world: World, recording: UUID) -> None:
    await world.storage.delete(await world.key_of(recording))


async def lost_recording(world: World) -> UUID:
    recording = await world.recording()
    await lose(world, recording)
    return recording


async def marked(world: World) -> set[UUID]:
    rows = await world.rows("select id from resguardo.recordings where missing_since is not null")
    return {row["id"] for row in rows}


async def test_a_missing_object_is_reported_once_and_marked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    there, gone = await world.recording(), await lost_recording(world)
    with caplog.at_level(logging.ERROR):
        assert await look(world) == MissingReport(verified=2, missing=1, reported=1, resolved=0)
        assert await look(world) == MissingReport(verified=2, missing=1, reported=0, resolved=0)
    assert [str(gone) in record.getMessage() for record in caplog.records] == [True]
    assert await world.key_of(gone) not in caplog.text
    (report,) = await world.rows(REPORTS)
    patient = await world.patient_of(gone)
    assert (report["id"], report["patient_ids"]) == (gone, [patient])
    assert await marked(world) == {gone}
    assert there not in await marked(world)


async def test_the_mark_goes_when_the_object_is_back_and_the_quarantine_begins_anew(world: World) -> None:
    gone = await lost_recording(world)
    await look(world)
    await world.storage.put_new(await world.key_of(gone), b"back", "video/mp4")
    await look(world)
    assert await marked(world) == set()
    await lose(world, gone)
    await world.move_to(world.time + QUARANTINE + DAY)
    assert (await look(world)).resolved == 0
    assert len(await world.rows(REPORTS)) == 2


async def test_past_its_quarantine_it_is_destroyed_with_its_certificate(world: World) -> None:
    gone = await lost_recording(world)
    await look(world)
    await world.move_to(world.time + QUARANTINE - timedelta(seconds=1))
    assert (await look(world)).resolved == 0
    await world.move_to(world.time + timedelta(seconds=1))
    assert (await look(world)).resolved == 1
    assert (await look(world)).resolved == 0
    (deletion,) = await world.rows(DELETIONS)
    assert (deletion["recording_id"], deletion["ground"]) == (gone, "MISSING")
    assert (await world.destroyer().run_once()).destroyed == 1
    assert await world.status_of(gone) == "DELETED"
    assert await look(world) == MissingReport(verified=0, missing=0, reported=0, resolved=0)


@pytest.mark.parametrize("ahead", ["database", "bucket"])
async def test_a_clock_that_runs_ahead_alone_ends_no_quarantine(world: World, ahead: str) -> None:
    await lost_recording(world)
    await look(world)
    first = world.time
    if ahead == "database":
        await world.move_to(first + 400 * DAY)
        world.store_time = first
    else:
        world.store_time = first + 400 * DAY
    assert (await look(world)).resolved == 0
    assert await world.rows(DELETIONS) == []


async def test_a_mark_set_while_the_bucket_was_ahead_is_as_young_as_the_bucket_said(world: World) -> None:
    await lost_recording(world)
    world.store_time = world.time + 10 * DAY
    await look(world)
    await world.move_to(world.time + QUARANTINE)
    world.store_time = None
    assert (await look(world)).resolved == 0
    await world.move_to(world.time + 10 * DAY)
    assert (await look(world)).resolved == 1


async def test_what_is_held_is_reported_and_kept_until_it_is_released(world: World) -> None:
    gone = await lost_recording(world)
    patient = await world.patient_of(gone)
    hold = await world.hold(patient_id=patient)
    await look(world)
    await world.move_to(world.time + 2 * QUARANTINE)
    assert (await look(world)).resolved == 0
    assert await world.rows(DELETIONS) == []
    await world.release(hold)
    assert (await look(world)).resolved == 1


async def test_a_video_whose_sound_is_there_is_left_to_people(world: World) -> None:
    gone = await world.recording()
    consultation = await world.value("select consultation_id from resguardo.recordings where id = %s", gone)
    sound = await world.recording(consultation, medium="SPEAKERS", video_id=gone)
    await lose(world, gone)
    await look(world)
    await world.move_to(world.time + 2 * QUARANTINE)
    assert (await look(world)).resolved == 0
    await lose(world, sound)
    assert (await look(world)).reported == 1
    assert (await look(world)).resolved == 0, "the sound has only been missing since today"
    await world.move_to(world.time + QUARANTINE)
    assert (await look(world)).resolved == 1
    assert [row["recording_id"] for row in await world.rows(DELETIONS)] == [gone]


async def test_a_sound_that_is_missing_alone_is_reported_and_its_video_stays(world: World) -> None:
    video = await world.recording()
    consultation = await world.value("select consultation_id from resguardo.recordings where id = %s", video)
    sound = await world.recording(consultation, medium="SPEAKERS", video_id=video)
    await lose(world, sound)
    await look(world)
    await world.move_to(world.time + 2 * QUARANTINE)
    assert (await look(world)).resolved == 0
    assert await marked(world) == {sound}
    assert await world.rows(DELETIONS) == []


async def test_too_many_at_once_are_neither_marked_nor_destroyed(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    early = await lost_recording(world)
    await look(world)
    await world.move_to(world.time + 2 * QUARANTINE)
    for _ in range(3):
        await lost_recording(world)
    monkeypatch.setattr(missing_objects, "FEW_MISSING", 3)
    with caplog.at_level(logging.ERROR):
        report = await look(world)
    assert report == MissingReport(verified=4, missing=4, reported=0, resolved=0, refusal=TOO_MANY_MISSING)
    assert TOO_MANY_MISSING in caplog.text
    assert await marked(world) == {early}
    assert await world.rows(DELETIONS) == []


async def test_another_bucket_is_not_compared(world: World) -> None:
    await lost_recording(world)
    looking = MissingObjects(world.worker, world.storage, deployment="other", quarantine=QUARANTINE)
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await looking.run_once()
    await world.storage.delete("deployment")
    with pytest.raises(Conflict, match="bucket_unmarked"):
        await look(world)
    assert await marked(world) == set()


async def test_every_page_and_both_prefixes_are_compared(world: World, emptied_store: ObjectStore) -> None:
    storage = SmallPages(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    storage.world = world
    recordings = [await world.recording() for _ in range(5)]
    await world.rows("update resguardo.retention_policies set status = 'SUPERSEDED'")
    recordings += [await world.recording() for _ in range(5)]
    keys = sorted([(await world.key_of(one), one) for one in recordings])
    assert [key.split("/")[0] for key, _ in keys] == ["keep"] * 5 + ["r"] * 5
    gone = {one for _, one in (keys[0], keys[1], keys[4], keys[5], keys[9])}
    for one in gone:
        await lose(world, one)
    try:
        assert (await look(world, storage)).missing == 5
    finally:
        storage.close()
    assert await marked(world) == gone


async def test_what_moves_while_the_list_is_read_is_not_missing(
    world: World, emptied_store: ObjectStore
) -> None:
    recording = await world.recording()

    class Moving(ClockedStorage):
        async def list_objects(self, prefix: str, *, page_size: int = 1000) -> AsyncIterator[ObjectPage]:
            async for page in super().list_objects(prefix, page_size=page_size):
                if prefix == "keep/":
                    key = await world.key_of(recording)
                    await world.storage.put_new(key.replace("r/d90/", "keep/"), b"moved", "video/mp4")
                    await world.rows(
                        "update private.recording_secrets set object_key = replace(object_key, 'r/d90/', 'keep/')"
                    )
                    await world.storage.delete(key)
                yield replace(page)

    storage = Moving(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    storage.world = world
    try:
        assert await look(world, storage) == MissingReport(verified=1, missing=1, reported=0, resolved=0)
    finally:
        storage.close()
    assert await marked(world) == set()


async def test_what_is_being_destroyed_is_not_missing(world: World) -> None:
    gone = await lost_recording(world)
    await world.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, status)"
        " select id, consultation_id, doctor_id, patient_id, 'RETENTION', 'DELETING' from resguardo.recordings"
        " where id = %s",
        gone,
    )
    assert (await look(world)).missing == 0
