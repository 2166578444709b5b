"""Every sound beside a video, with any status, is destroyed, held, moved, searched for and exported together with
the video.
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
from tests.integration.keeping_world import DAY, DEPLOYMENT, SIGNER, START, World, opened

pytestmark = pytest.mark.anyio

TERM = 90 * DAY
QUARANTINE = 3650 * DAY
"""Longer than the difference between the clock of the test world and the store's own times."""
SEVEN = ("READY", "FAILED", "READY", "LOST", "ABORTED", "READY", "READY")


@pytest.fixture
async def world(database: Database, emptied_store: ObjectStore) -> AsyncIterator[World]:
    async with opened(database, emptied_store) as world:
        await world.adopt()
        yield world


async def certificate_of(world: World, recording: UUID) -> Certificate:
    document = await world.value(
        "select document from resguardo.certificates where recording_id = %s", recording
    )
    return check(document.encode(), SIGNER.public_key)


async def statuses(world: World, video: UUID) -> list[str]:
    rows = await world.rows(
        "select status from resguardo.recordings where video_id = %s order by created_at, id", video
    )
    return [row["status"] for row in rows]


async def left_of(world: World, *recordings: UUID) -> int:
    """Return the number of rows that still name objects of these recordings."""
    return int(
        await world.value(
            "select count(*) from private.recording_secrets where recording_id = any(%s)", [*recordings]
        )
    )


class TestDeletion:
    async def test_every_sound_is_destroyed_with_its_video_and_named_in_the_certificate(
        self, world: World
    ) -> None:
        video = await world.recording()
        sounds = await world.microphones(video, *SEVEN)
        folder = (await world.key_of(video)).rpartition("/")[0]
        await world.storage.put_new(f"{folder}/microphone-{sounds[0]}-2.mp4", b"earlier ask", "video/mp4")
        expected = {
            "video.mp4",
            f"microphone-{sounds[0]}-2.mp4",
            *(
                f"microphone-{one}.mp4"
                for one, status in zip(sounds, SEVEN, strict=True)
                if status == "READY"
            ),
        }
        await world.move_to(START + TERM)
        assert await world.destroyer().run_once() == DestructionReport(destroyed=1, failed=0)
        assert await world.keys_under("r/") == []
        assert await statuses(world, video) == ["DELETED"] * 7
        assert await left_of(world, video, *sounds) == 0
        certificate = await certificate_of(world, video)
        assert {one.kind for one in certificate.objects} == expected
        assert all(one.head_status == 404 for one in certificate.objects)

    async def test_audit_rows_of_a_destruction_name_the_video_and_every_sound(self, world: World) -> None:
        video = await world.recording()
        sounds = await world.microphones(video, *SEVEN)
        await world.move_to(START + TERM)
        await world.destroyer().run_once()
        rows = await world.rows(
            "select reason, entity_ids, row_count from audit.events where action = 'recording.destroy'"
            " order by recorded_at"
        )
        assert [(row["reason"], row["row_count"]) for row in rows] == [("begun", 1), ("proven", 1)]
        for row in rows:
            assert row["entity_ids"][0] == video
            assert set(row["entity_ids"]) == {video, *sounds}

    async def test_unfinished_sound_delays_the_destruction_until_it_has_ended(self, world: World) -> None:
        video = await world.recording()
        *_, last = await world.microphones(video, "READY", "LOST", "VERIFYING")
        await world.move_to(START + TERM)
        assert (await world.destroyer().run_once()).destroyed == 0
        await world.rows("update resguardo.recordings set status = 'LOST' where id = %s", last)
        assert (await world.destroyer().run_once()).destroyed == 1
        assert await statuses(world, video) == ["DELETED"] * 3

    @pytest.mark.parametrize("shredded", [False, True])
    async def test_lost_sound_that_turns_up_during_the_destruction_is_destroyed(
        self, world: World, shredded: bool
    ) -> None:
        video = await world.recording()
        (sound,) = await world.microphones(video, "LOST")
        key = await world.key_of(sound)
        await world.move_to(START + TERM)
        destroyer = world.destroyer()
        claims, clock = await destroyer._claim()
        if not shredded:
            await world.storage.put_new(key, b"late", "video/mp4")
            await world.rows("update resguardo.recordings set status = 'READY' where id = %s", sound)
        assert await destroyer._destroy(claims, clock) == 1
        if shredded:
            await world.storage.put_new(key, b"late", "video/mp4")
            async with world.worker.as_service("verify_recording") as tx:
                locked = await store.lock(tx, sound)
            assert locked is not None
            assert locked.status == "DELETED"
            sweeper = OrphanedObjects(world.worker, world.storage, quarantine=QUARANTINE)
            assert (await sweeper.run_once()).orphans_swept == 1
            swept = await world.rows(
                "select reason, entity_ids from audit.events where action = 'object.sweep_orphan'"
            )
            assert [(row["reason"], row["entity_ids"]) for row in swept] == [("recording_deleted", [video])]
        assert await world.keys_under("r/") == []
        assert await statuses(world, video) == ["DELETED"]

    async def test_late_object_of_a_destroyed_recording_waits_for_a_hold(self, world: World) -> None:
        video = await world.recording()
        consultation = await world.value(
            "select consultation_id from resguardo.recordings where id = %s", video
        )
        key = await world.key_of(video)
        await world.move_to(START + TERM)
        await world.destroyer().run_once()
        await world.storage.put_new(key, b"late", "video/mp4")
        hold = await world.hold(consultation_id=consultation)
        sweeper = OrphanedObjects(world.worker, world.storage, quarantine=QUARANTINE)
        assert (await sweeper.run_once()).orphans_swept == 0
        await world.release(hold)
        assert (await sweeper.run_once()).orphans_swept == 1

    async def test_object_of_an_unknown_sound_of_a_kept_recording_has_its_quarantine(
        self, world: World
    ) -> None:
        video = await world.recording()
        await world.microphones(video, "READY")
        folder = (await world.key_of(video)).rpartition("/")[0]
        await world.storage.put_new(f"{folder}/microphone-{UUID(int=7)}.mp4", b"whose?", "video/mp4")
        sweeper = OrphanedObjects(world.worker, world.storage, quarantine=QUARANTINE)
        report = await sweeper.run_once()
        assert (report.orphans_waiting, report.orphans_swept) == (1, 0)


class TestHolds:
    async def test_hold_moves_the_video_and_every_sound_that_has_ended(self, world: World) -> None:
        video = await world.recording()
        sounds = await world.microphones(video, *SEVEN)
        patient = await world.patient_of(video)
        await world.hold(patient_id=patient)
        protection = world.protection()
        assert (await protection.run_once()).moved == 1
        assert await world.keys_under("r/") == []
        lost = sounds[SEVEN.index("LOST")]
        for one in (video, *sounds):
            assert (await world.key_of(one)).startswith("r/" if one == lost else "keep/")
        (row,) = await world.rows(
            "select entity_ids from audit.events where action = 'recording.read_key' and reason = 'object_move'"
        )
        assert set(row["entity_ids"]) == {video, *sounds} - {lost}

    async def test_lost_sound_that_turns_up_after_the_move_follows_its_video(self, world: World) -> None:
        video = await world.recording()
        ready, lost = await world.microphones(video, "READY", "LOST")
        patient = await world.patient_of(video)
        await world.hold(patient_id=patient)
        protection = world.protection()
        await protection.run_once()
        await world.storage.delete(await world.key_of(ready))
        before = await world.value("select count(*) from audit.events where action = 'recording.read_key'")
        assert (await protection.run_once()).moved == 0
        after = await world.value("select count(*) from audit.events where action = 'recording.read_key'")
        assert after == before, "the second pass read the key of a sound that cannot move yet"
        await world.storage.put_new(await world.key_of(lost), b"late", "video/mp4")
        await world.rows("update resguardo.recordings set status = 'READY' where id = %s", lost)
        assert (await protection.run_once()).moved == 1
        assert (await world.key_of(lost)).startswith("keep/")
        assert await world.keys_under("r/") == []

    async def test_sound_that_turns_up_is_moved_though_its_video_was_found_missing(
        self, world: World
    ) -> None:
        video = await world.recording()
        (lost,) = await world.microphones(video, "LOST")
        patient = await world.patient_of(video)
        await world.storage.delete(await world.key_of(video))
        await world.hold(patient_id=patient)
        protection = world.protection()
        assert (await protection.run_once()).moved == 0
        await world.storage.put_new(await world.key_of(lost), b"late", "video/mp4")
        await world.rows("update resguardo.recordings set status = 'READY' where id = %s", lost)
        assert (await protection.run_once()).moved == 1
        assert (await world.key_of(lost)).startswith("keep/")

    async def test_held_video_with_many_sounds_is_listed_once(self, world: World) -> None:
        video = await world.recording()
        await world.microphones(video, *SEVEN)
        patient = await world.patient_of(video)
        await world.hold(patient_id=patient)
        rows = await world.rows("select id, may_move, movable from private.unprotected_videos()")
        assert rows == [{"id": video, "may_move": True, "movable": 7}]

    async def test_unfinished_sound_delays_the_move_until_it_has_ended(self, world: World) -> None:
        video = await world.recording()
        _, sound = await world.microphones(video, "READY", "VERIFYING")
        patient = await world.patient_of(video)
        await world.hold(patient_id=patient)
        protection = world.protection()
        report = await protection.run_once()
        assert (report.moved, report.waiting) == (0, 1)
        await world.rows("update resguardo.recordings set status = 'LOST' where id = %s", sound)
        assert (await protection.run_once()).moved == 1

    async def test_range_that_covers_a_sound_alone_holds_its_video(self, world: World) -> None:
        video = await world.recording()
        await world.move_to(START + DAY)
        await world.microphones(video, "READY", "READY")
        other = await world.recording(await world.consultation())
        await world.rows(
            "update resguardo.consultations as c set scheduled_at = %s from resguardo.recordings as r"
            " where r.id = %s and c.id = r.consultation_id",
            START + 3 * DAY,
            other,
        )
        await world.rows(
            "update resguardo.recordings set created_at = %s where id = %s", START + 3 * DAY, other
        )
        hold = await world.hold(recorded_since=START + DAY, recorded_until=START + 2 * DAY)
        assert await world.rows("select v.id from private.held_videos() as v (id)") == [{"id": video}]
        assert await world.value("select private.holds_on(%s)", video) == [hold]
        assert await world.value("select private.is_held(%s)", other) is False


async def look_for_missing(world: World) -> MissingReport:
    missing = MissingObjects(world.worker, world.storage, deployment=DEPLOYMENT, quarantine=30 * DAY)
    return await missing.run_once()


class TestMissing:
    async def test_each_missing_sound_is_reported_and_its_video_stays(self, world: World) -> None:
        video = await world.recording()
        sounds = await world.microphones(video, "READY", "READY", "READY", "LOST")
        for one in sounds[:2]:
            await world.storage.delete(await world.key_of(one))
        assert await look_for_missing(world) == MissingReport(verified=4, missing=2, reported=2, resolved=0)
        await world.move_to(world.time + 60 * DAY)
        assert (await look_for_missing(world)).resolved == 0

    async def test_video_with_one_sound_left_of_seven_is_left_to_people(self, world: World) -> None:
        for _ in range(8):
            await world.recording()
        video = await world.recording()
        sounds = await world.microphones(video, *SEVEN)
        ready = [one for one, status in zip(sounds, SEVEN, strict=True) if status == "READY"]
        for one in (video, *ready[1:]):
            await world.storage.delete(await world.key_of(one))
        await look_for_missing(world)
        await world.move_to(world.time + 31 * DAY)
        assert (await look_for_missing(world)).resolved == 0
        await world.storage.delete(await world.key_of(ready[0]))
        await look_for_missing(world)
        await world.move_to(world.time + 31 * DAY)
        assert (await look_for_missing(world)).resolved == 1
        assert (await world.destroyer().run_once()).destroyed == 1
        assert await statuses(world, video) == ["DELETED"] * 7


class TestReports:
    async def test_bytes_of_every_sound_are_counted_once_and_the_video_once(self, world: World) -> None:
        video = await world.recording(content=bytes(1000))
        await world.microphones(video, "READY", "READY", "FAILED")
        bare = await world.recording(content=bytes(10))
        proposed = await world.value(
            "insert into resguardo.retention_policies (name, sha256, status, source, terms, shortens)"
            " select 'next', repeat('b', 64), 'PROPOSED', '', terms || '{\"applies_to_existing\": true}', true"
            " from resguardo.retention_policies returning id"
        )
        rows = await world.rows("select recordings, size_bytes from private.policy_effects(%s)", proposed)
        assert bare is not None
        assert rows == [{"recordings": 2, "size_bytes": 1000 + 10 + 3 * 64}]


class TestRestore:
    async def test_moved_sounds_are_found_again_after_a_restore(self, world: World) -> None:
        video = await world.recording()
        sounds = await world.microphones(video, "READY", "READY", "FAILED")
        former = {one: await world.key_of(one) for one in (video, *sounds)}
        patient = await world.patient_of(video)
        await world.hold(patient_id=patient)
        await world.protection().run_once()
        for one, key in former.items():
            await world.rows(
                "update private.recording_secrets set object_key = %s where recording_id = %s", key, one
            )
        assert (await world.restore_check().run(repeat=True)).moved == 3
        for one in (video, *sounds[:2]):
            assert (await world.key_of(one)).startswith("keep/")

    async def test_destruction_is_repeated_with_every_sound_that_a_backup_brought_back(
        self, world: World
    ) -> None:
        video = await world.recording()
        sounds = await world.microphones(video, "READY", "LOST", "READY")
        backup = await world.rows(
            "select row_to_json(r)::text as row, s.object_key from resguardo.recordings as r"
            " join private.recording_secrets as s on s.recording_id = r.id where %s in (r.id, r.video_id)",
            video,
        )
        await world.move_to(START + TERM)
        await world.destroyer().run_once()
        await world.rows("set session_replication_role = replica")
        await world.rows("delete from resguardo.certificates where recording_id = %s", video)
        await world.rows("delete from resguardo.deletions where recording_id = %s", video)
        await world.rows("delete from resguardo.recordings where %s in (id, video_id)", video)
        for one in backup:
            await world.rows(
                "insert into resguardo.recordings"
                " select * from json_populate_record(null::resguardo.recordings, %s::json)",
                one["row"],
            )
            await world.rows(
                "insert into private.recording_secrets select (%s::json ->> 'id')::uuid, %s",
                one["row"],
                one["object_key"],
            )
        await world.rows("set session_replication_role = origin")
        report = await world.restore_check().run(repeat=True)
        assert report.repeated == [video]
        assert (await world.destroyer().run_once()).destroyed == 1
        assert await statuses(world, video) == ["DELETED"] * 3
        assert await left_of(world, video, *sounds) == 0
