"""Tests of the sweep, which deletes orphaned objects from the bucket, on a real object store and a real database.
The tests check which objects the sweep deletes and, above all, which objects it keeps.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import anyio
import psycopg
import pytest

from app.bucket import orphaned_objects
from app.bucket.orphaned_objects import TOO_MANY_ORPHANS, UPLOAD_QUARANTINE, OrphanedObjects, SweepReport
from app.deployment import mark_database
from app.errors import Conflict, UpstreamFailed
from app.integrations.storage import listing as storage_listing
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ObjectPage, UploadPage
from app.integrations.storage.objects import StoredObject
from app.postgres.database import Database as Pool
from devstack.object_store import ObjectStore
from tests.alerts import open_alerts
from tests.buckets import s3_client
from tests.databases import Database
from tests.practice import practice_of

pytestmark = pytest.mark.anyio

QUARANTINE = timedelta(days=30)
PAST = timedelta(days=31)
AUDITED = (
    "select action, outcome, reason, ("
    "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
    ")[1], actor_role, basis from audit.events"
    " where action like 'object.%' order by recorded_at, id"
)


class AgedStorage(Storage):
    """A storage client that reports every object as older by `age`, and whose clock is wrong by `clock_off`. A test
    cannot create old objects, because the object store sets the time of each object.
    """

    age = timedelta()
    clock_off = timedelta()

    async def head(self, key: str) -> StoredObject | None:
        stored = await super().head(key)
        return stored and replace(stored, last_modified=stored.last_modified - self.age)

    async def list_objects(
        self, prefix: str, *, page_size: int = storage_listing.PAGE_SIZE
    ) -> AsyncIterator[ObjectPage]:
        async for page in super().list_objects(prefix, page_size=page_size):
            aged = tuple(replace(one, last_modified=one.last_modified - self.age) for one in page.objects)
            yield replace(page, objects=aged, listed_at=page.listed_at + self.clock_off)

    async def list_uploads(
        self, prefix: str, *, page_size: int = storage_listing.PAGE_SIZE
    ) -> AsyncIterator[UploadPage]:
        async for page in super().list_uploads(prefix, page_size=page_size):
            aged = tuple(replace(one, initiated_at=one.initiated_at - self.age) for one in page.uploads)
            yield replace(page, uploads=aged, listed_at=page.listed_at + self.clock_off)


@dataclass
class BucketHarness:
    """A test harness with the sweeper, a bucket and a database with the same deployment mark, and one consultation."""

    database: Database
    worker: Pool
    storage: AgedStorage
    recorder: Any
    bucket: str
    consultation: UUID
    sweeper: OrphanedObjects

    def again(self) -> OrphanedObjects:
        """Return a second sweeper with the same bucket and database, as a second process would have it."""
        return OrphanedObjects(self.worker, self.storage, quarantine=QUARANTINE)

    def recording(self, status: str, object_key: str | None = None) -> UUID:
        """Insert a recording with this status and this object key. If no key is given, the recording gets a key
        that contains its id. Return its id.
        """
        recording = uuid4()
        with practice_of(self.database.superuser_url) as practice, practice.without_triggers():
            key = object_key or self.key(recording)
            return practice.recording(self.consultation, status, recording, object_key=key, content=b"film")

    def point(self, recording: UUID, object_key: str) -> None:
        """Store this object key as the key of the recording."""
        with psycopg.connect(self.database.superuser_url) as connection:
            connection.execute(
                "insert into private.recording_secrets (recording_id, object_key) values (%s, %s)"
                " on conflict (recording_id) do update set object_key = excluded.object_key",
                (recording, object_key),
            )

    def key(self, recording: UUID, name: str = "video.mp4") -> str:
        """Return the object key of a file of the recording."""
        return f"r/d90/{self.consultation}/{recording}/{name}"

    async def put(self, key: str) -> str:
        """Store an object under this key. Return the key."""
        assert await self.storage.put_new(key, b"film", "video/mp4")
        return key

    async def orphan(self) -> UUID:
        """Store an object with the id of a recording that does not exist. Return this id."""
        recording = uuid4()
        await self.put(self.key(recording))
        return recording

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload that the recorder never finishes. Return its id."""
        begun = self.recorder.create_multipart_upload(Bucket=self.bucket, Key=key)
        upload_id: str = begun["UploadId"]
        self.recorder.upload_part(Bucket=self.bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=b"film")
        return upload_id

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys in the bucket under this prefix."""
        return [one.key async for page in self.storage.list_objects(prefix) for one in page.objects]

    async def uploads(self) -> list[str]:
        """Return the object keys of the unfinished uploads in the bucket."""
        return [one.key async for page in self.storage.list_uploads("") for one in page.uploads]

    def audited(self) -> list[tuple[Any, ...]]:
        """Return the action, the outcome, the reason and the recording of each audit row that the sweep wrote. In
        each audit row of the sweep, the actor is the worker and the basis is `sweep_bucket`.
        """
        with psycopg.connect(self.database.superuser_url) as connection:
            rows = connection.execute(AUDITED).fetchall()
        assert {row[4:] for row in rows} <= {("resguardo_worker", "sweep_bucket")}
        return [row[:4] for row in rows]


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[BucketHarness]:
    async with _opened(database, emptied_store) as made:
        yield made


@asynccontextmanager
async def _opened(database: Database, store: ObjectStore) -> AsyncIterator[BucketHarness]:
    mark_database(database.owner_url, "practice")
    storage = AgedStorage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
    await storage.claim("practice")
    recorder = s3_client(store, store.recorder)
    worker = Pool(database.worker_url, application="test", max_size=4)
    await worker.open()
    try:
        yield BucketHarness(
            database,
            worker,
            storage,
            recorder,
            store.bucket,
            _consultation(database),
            OrphanedObjects(worker, storage, quarantine=QUARANTINE),
        )
    finally:
        await worker.close()
        recorder.close()
        storage.close()


def _consultation(database: Database) -> UUID:
    with practice_of(database.superuser_url) as practice:
        return practice.consultation(practice.member(uuid4()))


async def test_what_a_recording_has_stays_however_old(harness: BucketHarness) -> None:
    for status in ("READY", "LOST", "VERIFYING", "RECORDING"):
        await harness.put(harness.key(harness.recording(status)))
    harness.storage.age = 10 * PAST

    assert await harness.sweeper.run_once() == SweepReport(4, 0, 0, 0, 0)
    assert len(await harness.keys("r/")) == 4
    assert harness.audited() == []


@pytest.mark.parametrize(
    ("status", "egress_id", "has_it"),
    [("ABORTED", None, False), ("ABORTED", "EG_1", False), ("FAILED", None, False), ("FAILED", "EG_1", True)],
)
async def test_a_recording_given_up_before_anything_was_known_of_it_has_no_object(
    harness: BucketHarness, status: str, egress_id: str | None, has_it: bool
) -> None:
    recording = harness.recording(status)
    with psycopg.connect(harness.database.superuser_url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update resguardo.recordings set egress_id = %s where id = %s", (egress_id, recording)
        )
    await harness.put(harness.key(recording))
    harness.storage.age = PAST

    assert (await harness.sweeper.run_once()).orphans_swept == int(not has_it)
    assert len(await harness.keys("r/")) == int(has_it)


async def test_an_orphan_is_reported_once_and_waits_for_the_quarantine(
    harness: BucketHarness, caplog: pytest.LogCaptureFixture
) -> None:
    recording = await harness.orphan()
    harness.storage.age = QUARANTINE - timedelta(minutes=5)
    caplog.set_level(logging.INFO, "app.recordings")

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)
    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)

    assert harness.audited() == [("object.report_orphan", "ALLOWED", "no_recording_has_it", recording)]
    assert caplog.messages == [
        f"orphan in the bucket: no_recording_has_it: consultation={harness.consultation} recording={recording}"
    ]
    assert await harness.keys("r/") == [harness.key(recording)]


async def test_an_orphan_past_the_quarantine_goes_after_its_audit_row(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await harness.orphan()
    harness.storage.age = PAST
    at_deletion: list[list[tuple[Any, ...]]] = []

    async def delete(key: str) -> None:
        at_deletion.append(harness.audited())
        await Storage.delete(harness.storage, key)

    monkeypatch.setattr(harness.storage, "delete", delete)

    assert await harness.sweeper.run_once() == SweepReport(1, 0, 1, 0, 0)

    rows = [
        ("object.report_orphan", "ALLOWED", "no_recording_has_it", recording),
        ("object.sweep_orphan", "ALLOWED", "past_quarantine", recording),
    ]
    assert (at_deletion, harness.audited()) == ([rows], rows)
    assert await harness.keys("r/") == []
    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 0, 0)


async def test_an_orphan_that_came_by_multipart_goes_too(harness: BucketHarness) -> None:
    key = harness.key(uuid4())
    upload_id = harness.begin_upload(key)
    parts = harness.recorder.upload_part(
        Bucket=harness.bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=b"film"
    )
    harness.recorder.complete_multipart_upload(
        Bucket=harness.bucket,
        Key=key,
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": parts["ETag"]}]},
    )
    harness.storage.age = PAST

    assert await harness.sweeper.run_once() == SweepReport(1, 0, 1, 0, 0)


@pytest.mark.parametrize("place", ["r/d90", "r/d3650", "keep", "r/standard"])
async def test_an_orphan_goes_wherever_recordings_lie(harness: BucketHarness, place: str) -> None:
    orphan, known = (f"{place}/{harness.consultation}/{uuid4()}/video.mp4" for _ in range(2))
    await harness.put(orphan)
    harness.recording("READY", await harness.put(known))
    harness.storage.age = PAST

    assert await harness.sweeper.run_once() == SweepReport(2, 0, 1, 0, 0)
    assert await harness.keys(place + "/") == [known]


async def test_an_upload_that_nobody_finishes_ends_under_keep_too(harness: BucketHarness) -> None:
    harness.begin_upload(f"keep/{harness.consultation}/{uuid4()}/video.mp4")
    harness.storage.age = PAST

    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 0, 1)
    assert await harness.uploads() == []


async def test_nothing_outside_of_the_recordings_is_listed_or_touched(harness: BucketHarness) -> None:
    others = ["audit/1", "ledger/1", "exports/1", "keepsake", "recordings"]
    for key in others:
        await harness.put(key)
    harness.storage.age = 10 * PAST

    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 0, 0)
    assert await harness.keys() == sorted([*others, "deployment"])


@pytest.mark.parametrize(
    "key",
    [
        "r/readme.txt",
        "keep/readme.txt",
        "r/d90/not-an-id/not-an-id/video.mp4",
        f"r/d90/{UUID(int=7)}/{UUID(int=8)}/a/b",
        f"r/d90/{UUID(int=7)}/{UUID(int=8)}",
    ],
)
async def test_object_with_a_foreign_key_is_not_deleted(
    harness: BucketHarness, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    await harness.put(key)
    harness.storage.age = 10 * PAST

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)
    assert await harness.keys(key.partition("/")[0] + "/") == [key]
    assert caplog.messages == [
        "orphan in the bucket: no_recording_has_it: its key is not ours, so a person must decide"
    ]
    assert harness.audited() == []


async def test_a_clock_of_the_store_that_jumps_ahead_deletes_nothing(harness: BucketHarness) -> None:
    await harness.orphan()
    harness.storage.clock_off = 10 * PAST

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)


async def test_a_clock_of_the_database_that_jumps_ahead_deletes_nothing(harness: BucketHarness) -> None:
    await harness.orphan()
    harness.storage.age = PAST
    harness.storage.clock_off = (
        -PAST
    )  # The object is new by the store's clock and old by the database's clock

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("status", "is_settled"),
    [("RECORDING", False), ("VERIFYING", False), ("LOST", False), ("READY", True)],
)
async def test_superseded_object_is_swept_only_after_its_recording_is_finished(
    harness: BucketHarness, status: str, is_settled: bool
) -> None:
    recording = harness.recording(status)
    harness.point(recording, harness.key(recording, "video-2.mp4"))
    first = await harness.put(harness.key(recording))
    second = await harness.put(harness.key(recording, "video-2.mp4"))
    harness.storage.age = PAST

    assert (await harness.sweeper.run_once()).orphans_swept == int(is_settled)
    assert set(await harness.keys("r/")) == ({second} if is_settled else {first, second})


async def test_a_speakers_row_that_runs_saves_what_lies_beside_its_video(harness: BucketHarness) -> None:
    video = harness.recording("READY")
    speakers = harness.recording("RECORDING", harness.key(video, "speakers-2.ogg"))
    with psycopg.connect(harness.database.superuser_url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update resguardo.recordings set medium = 'SPEAKERS', video_id = %s where id = %s",
            (video, speakers),
        )
    await harness.put(harness.key(video, "speakers.ogg"))
    harness.storage.age = PAST

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)


async def test_object_is_kept_if_its_row_appears_before_the_deletion(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = harness.recording("READY", harness.key(uuid4()))
    key = await harness.put(harness.key(recording))
    harness.storage.age = PAST

    async def head(asked: str) -> StoredObject | None:
        harness.point(recording, key)
        return await AgedStorage.head(harness.storage, asked)

    monkeypatch.setattr(harness.storage, "head", head)

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)
    assert await harness.keys("r/") == [key]
    assert [row[0] for row in harness.audited()] == ["object.report_orphan"]


@pytest.mark.parametrize("body", [b"film", b"another"], ids=["same bytes", "other bytes"])
async def test_an_object_written_again_in_between_stays(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    recording = await harness.orphan()
    key = harness.key(recording)
    harness.storage.age = PAST

    async def head(asked: str) -> StoredObject | None:
        monkeypatch.undo()
        harness.recorder.put_object(Bucket=harness.bucket, Key=key, Body=body)
        stored = await Storage.head(harness.storage, asked)
        assert stored is not None
        is_same = body == b"film"
        return stored if is_same else replace(stored, last_modified=stored.last_modified - PAST)

    monkeypatch.setattr(harness.storage, "head", head)

    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)
    assert await harness.storage.get_small(key, 10) == body
    assert [row[0] for row in harness.audited()] == ["object.report_orphan"]


async def test_too_many_orphans_stop_the_sweep(
    harness: BucketHarness, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(21):
        await harness.orphan()
    upload = harness.key(uuid4())
    harness.begin_upload(upload)
    harness.storage.age = PAST

    report = await harness.sweeper.run_once()

    assert report == SweepReport(21, 21, 0, 1, 0, TOO_MANY_ORPHANS)
    assert [
        one.getMessage()
        for one in caplog.records
        if one.name == "app.bucket.orphaned_objects" and "nothing" in one.getMessage()
    ] == [
        "nothing is swept: too_many_orphans: 21 of 21 objects; is this the right database, or a restored one?"
    ]
    assert (len(await harness.keys("r/")), await harness.uploads()) == (21, [upload])
    assert {row[0] for row in harness.audited()} == {"object.report_orphan"}
    assert open_alerts(harness.database) == [("OBJECTS_ORPHANED_TOO_MANY", "")]
    for key in (await harness.keys("r/"))[:2]:
        await harness.storage.delete(key)
    await harness.sweeper.run_once()
    assert open_alerts(harness.database) == []


async def test_few_orphans_or_a_small_part_are_swept(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphaned_objects, "FEW_ORPHANS", 1)
    for status in ["READY"] * 18:
        await harness.put(harness.key(harness.recording(status)))
    for _ in range(2):
        await harness.orphan()
    harness.storage.age = PAST

    assert await harness.sweeper.run_once() == SweepReport(20, 0, 2, 0, 0)


async def test_one_pass_reports_and_sweeps_no_more_than_its_part(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphaned_objects, "AT_ONCE", 2)
    for _ in range(3):
        await harness.orphan()
    harness.storage.age = PAST

    assert await harness.sweeper.run_once() == SweepReport(3, 1, 2, 0, 0)
    assert await harness.sweeper.run_once() == SweepReport(1, 0, 1, 0, 0)
    assert [row[0] for row in harness.audited()].count("object.report_orphan") == 3


@pytest.mark.parametrize(
    ("mark", "reason"), [("other", "bucket_of_another_deployment"), (None, "bucket_unmarked")]
)
async def test_nothing_is_swept_in_the_bucket_of_another_deployment(
    harness: BucketHarness, mark: str | None, reason: str
) -> None:
    recording = await harness.orphan()
    harness.storage.age = PAST
    await harness.storage.delete("deployment")
    if mark is not None:
        await harness.storage.claim(mark)

    with pytest.raises(Conflict, match=reason):
        await harness.sweeper.run_once()

    assert (await harness.keys("r/"), harness.audited()) == ([harness.key(recording)], [])


async def test_two_sweepers_at_once_are_harmless(harness: BucketHarness) -> None:
    kept = await harness.put(harness.key(harness.recording("READY")))
    for _ in range(5):
        await harness.orphan()
    harness.begin_upload(harness.key(uuid4()))
    harness.storage.age = PAST
    reports: list[SweepReport] = []

    async def sweep() -> None:
        reports.append(await harness.again().run_once())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(sweep)

    assert (await harness.keys("r/"), await harness.uploads()) == ([kept], [])
    assert [(report.orphans_waiting, report.uploads_waiting) for report in reports] == [(0, 0)] * 3


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_sweep_cut_short_at_the_deletion_is_done_by_the_next(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    await harness.orphan()
    harness.storage.age = PAST

    async def cut_short(key: str) -> None:
        if is_deleted:
            await Storage.delete(harness.storage, key)
        raise UpstreamFailed("storage_unreachable")

    monkeypatch.setattr(harness.storage, "delete", cut_short)
    with pytest.raises(UpstreamFailed, match="storage_unreachable"):
        await harness.sweeper.run_once()
    monkeypatch.undo()

    assert (await harness.again().run_once()).orphans_swept == (0 if is_deleted else 1)
    assert await harness.keys("r/") == []


@pytest.mark.parametrize("reason", ["deletion_refused", "still_there"])
async def test_refused_deletion_is_reported_and_not_repeated(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    held, other = sorted([await harness.orphan(), await harness.orphan()], key=lambda one: harness.key(one))
    harness.storage.age = PAST
    asked: list[str] = []

    async def delete(key: str) -> None:
        asked.append(key)
        if key != harness.key(held):
            await Storage.delete(harness.storage, key)
        elif reason == "deletion_refused":
            raise UpstreamFailed("storage_credentials_refused", operation="delete", status=403)

    monkeypatch.setattr(harness.storage, "delete", delete)

    assert await harness.sweeper.run_once() == SweepReport(2, 1, 1, 0, 0)
    assert await harness.sweeper.run_once() == SweepReport(1, 1, 0, 0, 0)

    assert asked == [harness.key(held), harness.key(other)]
    assert ("object.sweep_orphan", "FAILED", reason, held) in harness.audited()


async def test_an_unfinished_upload_is_reported_and_aborted_past_its_quarantine(
    harness: BucketHarness,
) -> None:
    recording = harness.recording("FAILED")
    harness.begin_upload(harness.key(recording))
    harness.storage.age = UPLOAD_QUARANTINE - timedelta(minutes=5)

    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 1, 0)
    harness.storage.age = UPLOAD_QUARANTINE + timedelta(minutes=5)
    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 0, 1)
    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 0, 0)

    assert await harness.uploads() == []
    assert harness.audited() == [
        ("object.report_orphan", "ALLOWED", "unfinished_upload", recording),
        ("object.abort_upload", "ALLOWED", "past_quarantine", recording),
    ]


@pytest.mark.parametrize("status", ["REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING"])
async def test_an_upload_of_a_running_recording_is_never_aborted(harness: BucketHarness, status: str) -> None:
    recording = harness.recording(status)
    harness.begin_upload(harness.key(recording, "video-2.mp4"))
    harness.storage.age = 10 * PAST

    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 1, 0)
    assert len(await harness.uploads()) == 1
    assert harness.audited() == []


async def test_an_upload_whose_recording_begins_in_between_is_not_aborted(
    harness: BucketHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = harness.recording("FAILED")
    harness.begin_upload(harness.key(recording))
    harness.storage.age = PAST
    report = OrphanedObjects._report

    async def reported(self: OrphanedObjects, *arguments: Any) -> int:
        with psycopg.connect(harness.database.superuser_url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(
                "update resguardo.recordings set status = 'RECORDING' where id = %s", (recording,)
            )
        return await report(self, *arguments)

    monkeypatch.setattr(OrphanedObjects, "_report", reported)

    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 1, 0)
    assert len(await harness.uploads()) == 1


async def test_an_upload_elsewhere_or_not_ours_is_left(harness: BucketHarness) -> None:
    harness.begin_upload(f"keep/{uuid4()}")
    harness.begin_upload("r/readme")
    harness.storage.age = 10 * PAST

    assert await harness.sweeper.run_once() == SweepReport(0, 0, 0, 2, 0)
    assert len(await harness.uploads()) == 2
