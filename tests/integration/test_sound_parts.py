"""Tests that a sound recording beside a video, whatever its status, is treated like the video: both are destroyed,
put under a legal hold, moved, searched for and exported together.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from app.bucket.missing_objects import MissingObjects, MissingReport
from app.bucket.orphaned_objects import OrphanedObjects
from app.certificates.model import Certificate
from app.certificates.signing import check
from app.deletions.destroyer import DestructionReport
from app.recordings import store
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.retention_harness import DAY, DEPLOYMENT, SIGNER, START, RetentionHarness, opened

pytestmark = pytest.mark.anyio

TERM = 90 * DAY
QUARANTINE = 3650 * DAY
"""Longer than the difference between the clock of the test harness and the store's own times."""
SEVEN = ("READY", "FAILED", "READY", "LOST", "ABORTED", "READY", "READY")


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def certificate_of(harness: RetentionHarness, recording: UUID) -> Certificate:
    document = await harness.value(
        "select document from resguardo.certificates where recording_id = %s", recording
    )
    return check(document.encode(), SIGNER.public_key)


async def statuses(harness: RetentionHarness, video: UUID) -> list[str]:
    rows = await harness.rows(
        "select status from resguardo.recordings where video_id = %s order by created_at, id", video
    )
    return [row["status"] for row in rows]


async def left_of(harness: RetentionHarness, *recordings: UUID) -> int:
    """Return the number of database rows that still contain object keys of the given recordings."""
    return int(
        await harness.value(
            "select count(*) from private.recording_secrets where recording_id = any(%s)", [*recordings]
        )
    )


class TestDeletion:
    async def test_every_sound_is_destroyed_with_its_video_and_named_in_the_certificate(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        sounds = await harness.microphones(video, *SEVEN)
        folder = (await harness.key_of(video)).rpartition("/")[0]
        await harness.storage.put_new(f"{folder}/microphone-{sounds[0]}-2.mp4", b"earlier ask", "video/mp4")
        expected = {
            "video.mp4",
            f"microphone-{sounds[0]}-2.mp4",
            *(
                f"microphone-{one}.mp4"
                for one, status in zip(sounds, SEVEN, strict=True)
                if status == "READY"
            ),
        }
        await harness.move_to(START + TERM)
        assert await harness.destroyer().run_once() == DestructionReport(destroyed=1, failed=0)
        assert await harness.keys_under("r/") == []
        assert await statuses(harness, video) == ["DELETED"] * 7
        assert await left_of(harness, video, *sounds) == 0
        certificate = await certificate_of(harness, video)
        assert {one.kind for one in certificate.objects} == expected
        assert all(one.head_status == 404 for one in certificate.objects)

    async def test_audit_rows_of_a_destruction_name_the_video_and_every_sound(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        sounds = await harness.microphones(video, *SEVEN)
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        rows = await harness.rows(
            "select reason, "
            "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
            " as entity_ids, row_count from audit.events where action = 'recording.destroy'"
            " order by recorded_at"
        )
        assert [(row["reason"], row["row_count"]) for row in rows] == [("begun", 1), ("proven", 1)]
        for row in rows:
            assert set(row["entity_ids"]) == {video, *sounds}

    async def test_unfinished_sound_delays_the_destruction_until_it_has_ended(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        *_, last = await harness.microphones(video, "READY", "LOST", "VERIFYING")
        await harness.move_to(START + TERM)
        assert (await harness.destroyer().run_once()).destroyed == 0
        await harness.rows("update resguardo.recordings set status = 'LOST' where id = %s", last)
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await statuses(harness, video) == ["DELETED"] * 3

    @pytest.mark.parametrize("shredded", [False, True])
    async def test_lost_sound_that_appears_during_the_destruction_is_destroyed(
        self, harness: RetentionHarness, shredded: bool
    ) -> None:
        video = await harness.recording()
        (sound,) = await harness.microphones(video, "LOST")
        key = await harness.key_of(sound)
        await harness.move_to(START + TERM)
        destroyer = harness.destroyer()
        claims, clock = await destroyer._claim()
        if not shredded:
            await harness.storage.put_new(key, b"late", "video/mp4")
            await harness.rows("update resguardo.recordings set status = 'READY' where id = %s", sound)
        assert await destroyer._destroy(claims, clock) == 1
        if shredded:
            await harness.storage.put_new(key, b"late", "video/mp4")
            async with harness.worker.as_service("verify_recording") as tx:
                locked = await store.lock(tx, sound)
            assert locked is not None
            assert locked.status == "DELETED"
            sweeper = OrphanedObjects(harness.worker, harness.storage, quarantine=QUARANTINE)
            assert (await sweeper.run_once()).orphans_swept == 1
            swept = await harness.rows(
                "select reason, "
                "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
                " as entity_ids from audit.events where action = 'object.sweep_orphan'"
            )
            assert [(row["reason"], row["entity_ids"]) for row in swept] == [("recording_deleted", [video])]
        assert await harness.keys_under("r/") == []
        assert await statuses(harness, video) == ["DELETED"]

    async def test_late_object_of_a_destroyed_recording_waits_for_a_hold(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        consultation = await harness.value(
            "select consultation_id from resguardo.recordings where id = %s", video
        )
        key = await harness.key_of(video)
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        await harness.storage.put_new(key, b"late", "video/mp4")
        hold = await harness.hold(consultation_id=consultation)
        sweeper = OrphanedObjects(harness.worker, harness.storage, quarantine=QUARANTINE)
        assert (await sweeper.run_once()).orphans_swept == 0
        await harness.release(hold)
        assert (await sweeper.run_once()).orphans_swept == 1

    async def test_object_of_an_unknown_sound_of_a_kept_recording_is_quarantined(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        await harness.microphones(video, "READY")
        folder = (await harness.key_of(video)).rpartition("/")[0]
        await harness.storage.put_new(f"{folder}/microphone-{UUID(int=7)}.mp4", b"whose?", "video/mp4")
        sweeper = OrphanedObjects(harness.worker, harness.storage, quarantine=QUARANTINE)
        report = await sweeper.run_once()
        assert (report.orphans_waiting, report.orphans_swept) == (1, 0)


class TestHolds:
    async def test_hold_moves_the_video_and_every_sound_that_has_ended(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        sounds = await harness.microphones(video, *SEVEN)
        patient = await harness.patient_of(video)
        await harness.hold(patient_id=patient)
        protection = harness.protection()
        assert (await protection.run_once()).moved == 1
        assert await harness.keys_under("r/") == []
        lost = sounds[SEVEN.index("LOST")]
        for one in (video, *sounds):
            assert (await harness.key_of(one)).startswith("r/" if one == lost else "keep/")
        (row,) = await harness.rows(
            "select "
            "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
            " as entity_ids from audit.events where action = 'recording.read_key' and reason = 'object_move'"
        )
        assert set(row["entity_ids"]) == {video, *sounds} - {lost}

    async def test_lost_sound_that_appears_after_the_move_is_moved_to_its_video(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        ready, lost = await harness.microphones(video, "READY", "LOST")
        patient = await harness.patient_of(video)
        await harness.hold(patient_id=patient)
        protection = harness.protection()
        await protection.run_once()
        await harness.storage.delete(await harness.key_of(ready))
        before = await harness.value("select count(*) from audit.events where action = 'recording.read_key'")
        assert (await protection.run_once()).moved == 0
        after = await harness.value("select count(*) from audit.events where action = 'recording.read_key'")
        assert after == before, "the second pass read the key of a sound that cannot move yet"
        await harness.storage.put_new(await harness.key_of(lost), b"late", "video/mp4")
        await harness.rows("update resguardo.recordings set status = 'READY' where id = %s", lost)
        assert (await protection.run_once()).moved == 1
        assert (await harness.key_of(lost)).startswith("keep/")
        assert await harness.keys_under("r/") == []

    async def test_late_sound_is_moved_although_its_video_is_missing(self, harness: RetentionHarness) -> None:
        video = await harness.recording()
        (lost,) = await harness.microphones(video, "LOST")
        patient = await harness.patient_of(video)
        await harness.storage.delete(await harness.key_of(video))
        await harness.hold(patient_id=patient)
        protection = harness.protection()
        assert (await protection.run_once()).moved == 0
        await harness.storage.put_new(await harness.key_of(lost), b"late", "video/mp4")
        await harness.rows("update resguardo.recordings set status = 'READY' where id = %s", lost)
        assert (await protection.run_once()).moved == 1
        assert (await harness.key_of(lost)).startswith("keep/")

    async def test_held_video_with_many_sounds_is_listed_once(self, harness: RetentionHarness) -> None:
        video = await harness.recording()
        await harness.microphones(video, *SEVEN)
        patient = await harness.patient_of(video)
        await harness.hold(patient_id=patient)
        rows = await harness.rows("select id, may_move, movable from private.unprotected_videos()")
        assert rows == [{"id": video, "may_move": True, "movable": 7}]

    async def test_unfinished_sound_delays_the_move_until_it_has_ended(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        _, sound = await harness.microphones(video, "READY", "VERIFYING")
        patient = await harness.patient_of(video)
        await harness.hold(patient_id=patient)
        protection = harness.protection()
        report = await protection.run_once()
        assert (report.moved, report.waiting) == (0, 1)
        await harness.rows("update resguardo.recordings set status = 'LOST' where id = %s", sound)
        assert (await protection.run_once()).moved == 1

    async def test_hold_range_that_covers_only_a_sound_holds_its_video(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        await harness.move_to(START + DAY)
        await harness.microphones(video, "READY", "READY")
        other = await harness.recording(await harness.consultation())
        await harness.rows(
            "update resguardo.consultations as c set scheduled_at = %s from resguardo.recordings as r"
            " where r.id = %s and c.id = r.consultation_id",
            START + 3 * DAY,
            other,
        )
        await harness.rows(
            "update resguardo.recordings set created_at = %s where id = %s", START + 3 * DAY, other
        )
        hold = await harness.hold(recorded_since=START + DAY, recorded_until=START + 2 * DAY)
        assert await harness.rows("select v.id from private.held_videos() as v (id)") == [{"id": video}]
        assert await harness.value("select private.holds_on(%s)", video) == [hold]
        assert await harness.value("select private.is_held(%s)", other) is False


async def look_for_missing(harness: RetentionHarness) -> MissingReport:
    missing = MissingObjects(harness.worker, harness.storage, deployment=DEPLOYMENT, quarantine=30 * DAY)
    return await missing.run_once()


class TestMissing:
    async def test_each_missing_sound_is_reported_and_its_video_is_kept(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        sounds = await harness.microphones(video, "READY", "READY", "READY", "LOST")
        for one in sounds[:2]:
            await harness.storage.delete(await harness.key_of(one))
        assert await look_for_missing(harness) == MissingReport(verified=4, missing=2, reported=2, resolved=0)
        await harness.move_to(harness.time + 60 * DAY)
        assert (await look_for_missing(harness)).resolved == 0

    async def test_video_with_one_sound_left_of_seven_needs_a_decision(
        self, harness: RetentionHarness
    ) -> None:
        for _ in range(8):
            await harness.recording()
        video = await harness.recording()
        sounds = await harness.microphones(video, *SEVEN)
        ready = [one for one, status in zip(sounds, SEVEN, strict=True) if status == "READY"]
        for one in (video, *ready[1:]):
            await harness.storage.delete(await harness.key_of(one))
        await look_for_missing(harness)
        await harness.move_to(harness.time + 31 * DAY)
        assert (await look_for_missing(harness)).resolved == 0
        await harness.storage.delete(await harness.key_of(ready[0]))
        await look_for_missing(harness)
        await harness.move_to(harness.time + 31 * DAY)
        assert (await look_for_missing(harness)).resolved == 1
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await statuses(harness, video) == ["DELETED"] * 7


class TestReports:
    async def test_bytes_of_the_video_and_of_every_sound_are_counted_once(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording(content=bytes(1000))
        await harness.microphones(video, "READY", "READY", "FAILED")
        bare = await harness.recording(content=bytes(10))
        proposed = await harness.value(
            "insert into resguardo.retention_policies (name, sha256, status, source, terms, shortens)"
            " select 'next', repeat('b', 64), 'PROPOSED', '', terms || '{\"applies_to_existing\": true}', true"
            " from resguardo.retention_policies returning id"
        )
        rows = await harness.rows("select recordings, size_bytes from private.policy_effects(%s)", proposed)
        assert bare is not None
        assert rows == [{"recordings": 2, "size_bytes": 1000 + 10 + 3 * 64}]


class TestRestore:
    async def test_moved_sounds_are_found_again_after_a_restore(self, harness: RetentionHarness) -> None:
        video = await harness.recording()
        sounds = await harness.microphones(video, "READY", "READY", "FAILED")
        former = {one: await harness.key_of(one) for one in (video, *sounds)}
        patient = await harness.patient_of(video)
        await harness.hold(patient_id=patient)
        await harness.protection().run_once()
        for one, key in former.items():
            await harness.rows(
                "update private.recording_secrets set object_key = %s where recording_id = %s", key, one
            )
        assert (await harness.restore_check().run(repeat=True)).moved == 3
        for one in (video, *sounds[:2]):
            assert (await harness.key_of(one)).startswith("keep/")

    async def test_destruction_is_repeated_with_every_sound_that_a_backup_brought_back(
        self, harness: RetentionHarness
    ) -> None:
        video = await harness.recording()
        sounds = await harness.microphones(video, "READY", "LOST", "READY")
        backup = await harness.rows(
            "select row_to_json(r)::text as row, s.object_key from resguardo.recordings as r"
            " join private.recording_secrets as s on s.recording_id = r.id where %s in (r.id, r.video_id)",
            video,
        )
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        await harness.rows("set session_replication_role = replica")
        await harness.rows("delete from resguardo.certificates where recording_id = %s", video)
        await harness.rows("delete from resguardo.deletions where recording_id = %s", video)
        await harness.rows("delete from resguardo.recordings where %s in (id, video_id)", video)
        for one in backup:
            await harness.rows(
                "insert into resguardo.recordings"
                " select * from json_populate_record(null::resguardo.recordings, %s::json)",
                one["row"],
            )
            await harness.rows(
                "insert into private.recording_secrets select (%s::json ->> 'id')::uuid, %s",
                one["row"],
                one["object_key"],
            )
        await harness.rows("set session_replication_role = origin")
        report = await harness.restore_check().run(repeat=True)
        assert report.repeated == [video]
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await statuses(harness, video) == ["DELETED"] * 3
        assert await left_of(harness, video, *sounds) == 0
