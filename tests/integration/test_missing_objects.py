"""Tests of READY recordings whose object is missing from the bucket. Postgres and the object store are real, and
tests set their clocks.
"""

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
from tests.alerts import evaluated_alerts, open_alerts
from tests.databases import Database
from tests.integration.retention_harness import DAY, DEPLOYMENT, ClockedStorage, RetentionHarness, opened

pytestmark = pytest.mark.anyio

QUARANTINE = 30 * DAY
REPORTS = (
    "select ("
    "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
    ")[1] as id, patient_ids from audit.events where action = 'object.report_missing' order by id"
)
DELETIONS = "select recording_id, ground, status from resguardo.deletions"


class SmallPages(ClockedStorage):
    """A storage client that lists the bucket in pages of one object."""

    def list_objects(self, prefix: str, *, page_size: int = 1) -> AsyncIterator[ObjectPage]:
        return super().list_objects(prefix, page_size=1)


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def look(harness: RetentionHarness, storage: ClockedStorage | None = None) -> MissingReport:
    looking = MissingObjects(
        harness.worker, storage or harness.storage, deployment=DEPLOYMENT, quarantine=QUARANTINE
    )
    return await looking.run_once()


async def lose(harness: RetentionHarness, recording: UUID) -> None:
    await harness.storage.delete(await harness.key_of(recording))


async def lost_recording(harness: RetentionHarness) -> UUID:
    recording = await harness.recording()
    await lose(harness, recording)
    return recording


async def marked(harness: RetentionHarness) -> set[UUID]:
    rows = await harness.rows("select id from resguardo.recordings where missing_since is not null")
    return {row["id"] for row in rows}


async def test_a_missing_object_is_reported_once_and_marked(
    harness: RetentionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    there, gone = await harness.recording(), await lost_recording(harness)
    with caplog.at_level(logging.WARNING):
        assert await look(harness) == MissingReport(verified=2, missing=1, reported=1, resolved=0)
        assert await look(harness) == MissingReport(verified=2, missing=1, reported=0, resolved=0)
    assert [str(gone) in record.getMessage() for record in caplog.records] == [True]
    assert await harness.key_of(gone) not in caplog.text
    (report,) = await harness.rows(REPORTS)
    patient = await harness.patient_of(gone)
    assert (report["id"], report["patient_ids"]) == (gone, [patient])
    assert await marked(harness) == {gone}
    assert ("OBJECT_MISSING", str(gone)) in await evaluated_alerts(harness.database, harness.worker)
    assert there not in await marked(harness)


async def test_the_mark_goes_when_the_object_is_back_and_the_quarantine_begins_anew(
    harness: RetentionHarness,
) -> None:
    gone = await lost_recording(harness)
    await look(harness)
    await harness.storage.put_new(await harness.key_of(gone), b"back", "video/mp4")
    await look(harness)
    assert await marked(harness) == set()
    await lose(harness, gone)
    await harness.move_to(harness.time + QUARANTINE + DAY)
    assert (await look(harness)).resolved == 0
    assert len(await harness.rows(REPORTS)) == 2


async def test_missing_recording_is_destroyed_with_a_certificate_after_its_quarantine(
    harness: RetentionHarness,
) -> None:
    gone = await lost_recording(harness)
    await look(harness)
    await harness.move_to(harness.time + QUARANTINE - timedelta(seconds=1))
    assert (await look(harness)).resolved == 0
    await harness.move_to(harness.time + timedelta(seconds=1))
    assert (await look(harness)).resolved == 1
    assert (await look(harness)).resolved == 0
    (deletion,) = await harness.rows(DELETIONS)
    assert (deletion["recording_id"], deletion["ground"]) == (gone, "MISSING")
    assert (await harness.destroyer().run_once()).destroyed == 1
    assert await harness.status_of(gone) == "DELETED"
    assert await look(harness) == MissingReport(verified=0, missing=0, reported=0, resolved=0)


@pytest.mark.parametrize("ahead", ["database", "bucket"])
async def test_a_clock_that_runs_ahead_alone_ends_no_quarantine(
    harness: RetentionHarness, ahead: str
) -> None:
    await lost_recording(harness)
    await look(harness)
    first = harness.time
    if ahead == "database":
        await harness.move_to(first + 400 * DAY)
        harness.store_time = first
    else:
        harness.store_time = first + 400 * DAY
    assert (await look(harness)).resolved == 0
    assert await harness.rows(DELETIONS) == []


async def test_quarantine_counts_from_the_buckets_time_if_it_was_ahead(
    harness: RetentionHarness,
) -> None:
    await lost_recording(harness)
    harness.store_time = harness.time + 10 * DAY
    await look(harness)
    await harness.move_to(harness.time + QUARANTINE)
    harness.store_time = None
    assert (await look(harness)).resolved == 0
    await harness.move_to(harness.time + 10 * DAY)
    assert (await look(harness)).resolved == 1


async def test_what_is_held_is_reported_and_kept_until_it_is_released(harness: RetentionHarness) -> None:
    gone = await lost_recording(harness)
    patient = await harness.patient_of(gone)
    hold = await harness.hold(patient_id=patient)
    await look(harness)
    await harness.move_to(harness.time + 2 * QUARANTINE)
    assert (await look(harness)).resolved == 0
    assert await harness.rows(DELETIONS) == []
    await harness.release(hold)
    assert (await look(harness)).resolved == 1


async def test_missing_video_with_an_existing_sound_is_not_destroyed(harness: RetentionHarness) -> None:
    gone = await harness.recording()
    consultation = await harness.value("select consultation_id from resguardo.recordings where id = %s", gone)
    sound = await harness.recording(consultation, medium="SPEAKERS", video_id=gone)
    await lose(harness, gone)
    await look(harness)
    await harness.move_to(harness.time + 2 * QUARANTINE)
    assert (await look(harness)).resolved == 0
    await lose(harness, sound)
    assert (await look(harness)).reported == 1
    assert (await look(harness)).resolved == 0, "the sound has only been missing since today"
    await harness.move_to(harness.time + QUARANTINE)
    assert (await look(harness)).resolved == 1
    assert [row["recording_id"] for row in await harness.rows(DELETIONS)] == [gone]


async def test_a_sound_that_is_missing_alone_is_reported_and_its_video_stays(
    harness: RetentionHarness,
) -> None:
    video = await harness.recording()
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", video
    )
    sound = await harness.recording(consultation, medium="SPEAKERS", video_id=video)
    await lose(harness, sound)
    await look(harness)
    await harness.move_to(harness.time + 2 * QUARANTINE)
    assert (await look(harness)).resolved == 0
    assert await marked(harness) == {sound}
    assert await harness.rows(DELETIONS) == []


async def test_too_many_missing_recordings_are_neither_marked_nor_destroyed(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    early = await lost_recording(harness)
    await look(harness)
    await harness.move_to(harness.time + 2 * QUARANTINE)
    for _ in range(3):
        await lost_recording(harness)
    monkeypatch.setattr(missing_objects, "FEW_MISSING", 3)
    with caplog.at_level(logging.WARNING):
        report = await look(harness)
    assert report == MissingReport(verified=4, missing=4, reported=0, resolved=0, refusal=TOO_MANY_MISSING)
    assert TOO_MANY_MISSING in caplog.text
    assert await marked(harness) == {early}
    assert await harness.rows(DELETIONS) == []
    assert open_alerts(harness.database) == [("OBJECTS_MISSING_TOO_MANY", "")]
    for _ in range(5):
        await harness.recording()
    monkeypatch.undo()
    await look(harness)
    assert open_alerts(harness.database) == []


async def test_bucket_of_another_deployment_is_not_compared(harness: RetentionHarness) -> None:
    await lost_recording(harness)
    looking = MissingObjects(harness.worker, harness.storage, deployment="other", quarantine=QUARANTINE)
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await looking.run_once()
    await harness.storage.delete("deployment")
    with pytest.raises(Conflict, match="bucket_unmarked"):
        await look(harness)
    assert await marked(harness) == set()


async def test_every_page_and_both_prefixes_are_compared(
    harness: RetentionHarness, emptied_store: ObjectStore
) -> None:
    storage = SmallPages(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    storage.harness = harness
    recordings = [await harness.recording() for _ in range(5)]
    await harness.rows("update resguardo.retention_policies set status = 'SUPERSEDED'")
    recordings += [await harness.recording() for _ in range(5)]
    keys = sorted([(await harness.key_of(one), one) for one in recordings])
    assert [key.split("/")[0] for key, _ in keys] == ["keep"] * 5 + ["r"] * 5
    gone = {one for _, one in (keys[0], keys[1], keys[4], keys[5], keys[9])}
    for one in gone:
        await lose(harness, one)
    try:
        assert (await look(harness, storage)).missing == 5
    finally:
        storage.close()
    assert await marked(harness) == gone


async def test_object_that_is_moved_during_the_listing_is_not_missing(
    harness: RetentionHarness, emptied_store: ObjectStore
) -> None:
    recording = await harness.recording()

    class Moving(ClockedStorage):
        async def list_objects(self, prefix: str, *, page_size: int = 1000) -> AsyncIterator[ObjectPage]:
            async for page in super().list_objects(prefix, page_size=page_size):
                if prefix == "keep/":
                    key = await harness.key_of(recording)
                    await harness.storage.put_new(key.replace("r/d90/", "keep/"), b"moved", "video/mp4")
                    await harness.rows(
                        "update private.recording_secrets set object_key = replace(object_key, 'r/d90/', 'keep/')"
                    )
                    await harness.storage.delete(key)
                yield replace(page)

    storage = Moving(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    storage.harness = harness
    try:
        assert await look(harness, storage) == MissingReport(verified=1, missing=1, reported=0, resolved=0)
    finally:
        storage.close()
    assert await marked(harness) == set()


async def test_recording_in_destruction_is_not_missing(harness: RetentionHarness) -> None:
    gone = await lost_recording(harness)
    await harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, status)"
        " select id, consultation_id, doctor_id, patient_id, 'RETENTION', 'DELETING' from resguardo.recordings"
        " where id = %s",
        gone,
    )
    assert (await look(harness)).missing == 0
