"""Tests of attacks and accidents during the destruction of recordings: stalled calls, wrong clocks, objects that
arrive late, and forged ledger entries.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString
from uuid import uuid4

import pytest

from app.bucket.missing_objects import MissingObjects
from app.deletions.destroyer import DestructionReport
from app.integrations.storage.listing import ObjectPage
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.retention_harness import (
    DAY,
    DEPLOYMENT,
    SIGNER,
    START,
    ClockedStorage,
    RetentionHarness,
    opened,
)
from tests.integration.test_destroyer import (
    TERM,
    certificates,
    consultation_of,
    failing_storage,
    restore,
    snapshot,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def as_doctor(harness: RetentionHarness, sql: LiteralString, *values: object) -> None:
    """Run one SQL statement as the doctor of the recordings, with the database role that doctors have."""
    if not await harness.rows("select id from auth.users where id = %s", harness.doctor):
        harness.practice.user(harness.doctor)
    session = harness.practice.session(harness.doctor)
    claims = {"sub": str(harness.doctor), "aal": "aal2", "session_id": str(session), "exp": 4_102_444_800}
    async with harness.superuser.transaction():
        await harness.rows(
            "select private.describe_request(%s::jsonb, gen_random_uuid(), null, 'TREATMENT', 10000)",
            json.dumps(claims),
        )
        await harness.rows("set local role clinician")
        await harness.rows(sql, *values)


REQUEST: LiteralString = "select private.request_deletion(%s, 'DUPLICATE')"
UNDO: LiteralString = "select private.undo_deletion(%s)"


def of(harness: RetentionHarness, kind: type[ClockedStorage]) -> ClockedStorage:
    """Return a storage client of the test harness's bucket, as an instance of the class `kind`."""
    storage = kind.__new__(kind)
    storage.__dict__.update(harness.storage.__dict__)
    return storage


async def test_law_7_stalled_pass_destroys_no_recording_that_is_held_since(
    harness: RetentionHarness,
) -> None:
    recording = await harness.recording()
    await harness.move_to(START + TERM)
    reached, go = asyncio.Event(), asyncio.Event()

    class Stalled(ClockedStorage):
        async def list_objects(self, prefix: str, *, page_size: int = 1000) -> AsyncIterator[ObjectPage]:
            async for page in ClockedStorage.list_objects(self, prefix, page_size=page_size):
                if prefix.startswith("r/"):
                    reached.set()
                    await go.wait()
                yield page

    passing = asyncio.create_task(harness.destroyer(of(harness, Stalled)).run_once())
    await reached.wait()
    await harness.move_to(harness.time + timedelta(minutes=16))
    await harness.hold(consultation_id=await consultation_of(harness, recording))
    assert (await harness.protection().run_once()).moved == 1
    go.set()
    assert (await passing).destroyed == 0
    assert await harness.status_of(recording) == "READY"
    assert await harness.keys_under("keep/") == [await harness.key_of(recording)]
    assert await harness.value("select count(*) from private.recording_keys") == 1


async def test_large_hold_does_not_delay_destructions_of_other_recordings(
    harness: RetentionHarness,
) -> None:
    patient = await harness.patient()
    consultation = await harness.consultation(patient)
    await harness.rows(
        "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name, status,"
        " sha256, size_bytes, due_at, retention_policy) select gen_random_uuid(), c.id, c.doctor_id, c.patient_id,"
        " c.doctor_id, c.room_name, 'READY', repeat('a', 64), 1, %s, 1 from resguardo.consultations as c,"
        " generate_series(1, 3000) where c.id = %s",
        START,
        consultation,
    )
    await harness.hold(patient_id=patient)
    free = await harness.recording()
    await harness.move_to(START + TERM)
    assert await harness.destroyer().run_once() == DestructionReport(1, 0)
    assert await harness.status_of(free) == "DELETED"


async def test_missing_object_that_returned_is_not_destroyed(harness: RetentionHarness) -> None:
    recording, _ = await harness.recording(content=b"the only copy"), await harness.recording()
    key = await harness.key_of(recording)
    await harness.storage.delete(key)
    missing = MissingObjects(harness.worker, harness.storage, deployment=DEPLOYMENT, quarantine=30 * DAY)
    await harness.move_to(START + DAY)
    await missing.run_once()
    await harness.move_to(START + 32 * DAY)
    assert (await missing.run_once()).resolved == 1
    await harness.storage.put_new(key, b"the only copy", "video/mp4")
    assert (await harness.destroyer().run_once()).destroyed == 0
    assert await harness.storage.head(key) is not None
    assert await harness.value("select status from resguardo.deletions") == "UNDONE"
    assert (
        await harness.value("select missing_since from resguardo.recordings where id = %s", recording) is None
    )


async def test_emptied_bucket_of_a_small_practice_destroys_nothing(harness: RetentionHarness) -> None:
    for _ in range(5):
        await harness.storage.delete(await harness.key_of(await harness.recording()))
    missing = MissingObjects(harness.worker, harness.storage, deployment=DEPLOYMENT, quarantine=30 * DAY)
    for days in (1, 32):
        await harness.move_to(START + days * DAY)
        assert (await missing.run_once()).refusal == "too_many_missing"
    assert (await harness.destroyer().run_once()).destroyed == 0


async def test_grace_period_is_complete_although_the_clock_was_behind(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    await harness.move_to(START + 20 * DAY)
    await harness.destroyer().run_once()
    await harness.rows("update moved.clock set at = %s", START - 345 * DAY)
    await as_doctor(harness, REQUEST, recording)
    await harness.move_to(START + 20 * DAY + timedelta(minutes=5))
    assert await harness.destroyer().run_once() == DestructionReport(0, 0)
    await harness.move_to(START + 28 * DAY)
    assert await harness.destroyer().run_once() == DestructionReport(1, 0)


async def test_undo_cancels_the_newest_request_whatever_the_clocks_said(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    await harness.move_to(START + 50 * DAY)
    await as_doctor(harness, REQUEST, recording)
    await as_doctor(harness, UNDO, recording)
    await harness.move_to(START + DAY)
    await as_doctor(harness, REQUEST, recording)
    await as_doctor(harness, UNDO, recording)
    await harness.move_to(START + 60 * DAY)
    assert await harness.destroyer().run_once() == DestructionReport(0, 0)


async def test_failed_deletion_is_cancelled_if_the_recording_becomes_due_later(
    harness: RetentionHarness,
) -> None:
    recording = await harness.recording()
    await harness.move_to(START + TERM)
    assert (await harness.destroyer(failing_storage(harness, "delete")).run_once()).failed == 1
    await harness.rows(
        "update resguardo.recordings set due_at = due_at + interval '11 years' where id = %s", recording
    )
    await harness.move_to(harness.time + DAY)
    assert await harness.destroyer().run_once() == DestructionReport(0, 0)
    assert await harness.value("select status from resguardo.deletions") == "UNDONE"
    assert await harness.value("select count(*) from private.deletion_objects") == 0
    assert await harness.storage.head(await harness.key_of(recording)) is not None


async def test_certificate_states_a_hold_check_before_the_keys_were_destroyed(
    harness: RetentionHarness,
) -> None:
    recording = await harness.recording()
    await harness.move_to(START + TERM)
    assert (
        await harness.destroyer(failing_storage(harness, "put_new", only="ledger/")).run_once()
    ).failed == 1
    placed = harness.time + timedelta(hours=1)
    await harness.move_to(placed)
    await harness.hold(consultation_id=await consultation_of(harness, recording))
    await harness.move_to(placed + timedelta(hours=5))
    assert (await harness.destroyer().run_once()).destroyed == 1
    (certificate,) = await certificates(harness, recording)
    assert certificate.hold_check.checked_at < placed
    assert certificate.objects[0].head_at <= certificate.destroyed_at


async def test_certificate_gets_the_number_after_the_entry_of_a_forgotten_destruction(
    harness: RetentionHarness,
) -> None:
    recording = await harness.recording()
    backup = await snapshot(harness, recording)
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    await restore(harness, recording, backup)
    await harness.move_to(START + TERM + 60 * DAY)
    assert await harness.destroyer().run_once() == DestructionReport(0, 1)
    assert await harness.value("select error from resguardo.deletions") == "ledger_number_taken"
    await harness.move_to(harness.time + timedelta(hours=1))
    assert await harness.destroyer().run_once() == DestructionReport(1, 0)
    first, second = await certificates(harness, recording)
    assert (first.destroyed_at, second.number) == (START + TERM, 2)
    assert second.destroyed_at == START + TERM + 60 * DAY
    assert second.repeats is not None


async def test_large_foreign_entry_does_not_stop_the_restore_check(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    backup = await snapshot(harness, recording)
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    await restore(harness, recording, backup)
    for _ in range(3):
        await harness.storage.put_new(f"ledger/{uuid4()}/1.json", b"x" * 3_000_000, "application/json")
    report = await harness.restore_check().run(repeat=True)
    assert (report.repeated, len(report.foreign)) == ([recording], 3)


async def test_ledger_entry_of_another_deployment_is_refused(harness: RetentionHarness) -> None:
    victim, other = await harness.recording(), await harness.recording()
    await harness.rows("update resguardo.recordings set due_at = null where id = %s", victim)
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    (genuine,) = await certificates(harness, other)
    forged = SIGNER.sign(replace(genuine, recording_id=victim, deployment="staging"))
    await harness.storage.put_new(f"ledger/{victim}/1.json", forged.file, "application/json")
    report = await harness.restore_check().run(repeat=True)
    assert (report.repeated, report.foreign) == ([], [victim])


async def test_unfinished_upload_is_aborted_before_the_certificate(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    client = harness.storage._s3.client
    bucket, key = harness.storage._s3.bucket, await harness.key_of(recording)
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"a" * 100)
    await harness.move_to(START + TERM)
    assert (await harness.destroyer().run_once()).destroyed == 1
    assert [one async for page in harness.storage.list_uploads("r/") for one in page.uploads] == []


async def test_object_that_arrives_late_is_in_the_certificate(harness: RetentionHarness) -> None:
    recording = await harness.recording(status="FAILED")
    key = await harness.key_of(recording)
    await harness.move_to(START + TERM)

    class Late(ClockedStorage):
        async def head(self, wanted: str) -> object:  # type: ignore[override]
            found = await ClockedStorage.head(self, wanted)
            await ClockedStorage.put_new(self, key, b"uploaded late", "video/mp4")
            return found

    assert await harness.destroyer(of(harness, Late)).run_once() == DestructionReport(0, 1)
    await harness.move_to(harness.time + timedelta(hours=1))
    assert await harness.destroyer().run_once() == DestructionReport(1, 0)
    (certificate,) = await certificates(harness, recording)
    assert [one.size_bytes for one in certificate.objects] == [13]


async def test_lost_recording_whose_object_came_after_all_is_moved_when_it_is_held(
    harness: RetentionHarness,
) -> None:
    consultation = await harness.consultation()
    recording = await harness.recording(consultation, status="LOST")
    await harness.storage.put_new(await harness.key_of(recording), b"turned up late", "video/mp4")
    await harness.hold(consultation_id=consultation)
    protection = harness.protection()
    assert (await protection.run_once()).waiting == 1
    await harness.move_to(START + 10 * DAY)
    assert (await protection.run_once()).moved == 1
    assert await harness.keys_under("r/") == []


async def test_range_of_days_holds_what_was_recorded_then_whenever_its_row_was_made(
    harness: RetentionHarness,
) -> None:
    consultation = await harness.consultation()
    await harness.move_to(START + 60 * DAY)
    recording = await harness.recording(consultation)
    await harness.hold(recorded_since=START - DAY, recorded_until=START + DAY)
    await harness.move_to(START + 60 * DAY + TERM)
    assert await harness.destroyer().run_once() == DestructionReport(0, 0)
    assert await harness.status_of(recording) == "READY"


async def test_refused_repetition_leaves_the_request_unchanged(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    await as_doctor(harness, REQUEST, recording)
    await harness.hold(consultation_id=await consultation_of(harness, recording))
    async with harness.worker.as_service("test") as tx:
        assert await tx.value("select private.repeat_deletion(%(id)s, '{}')", {"id": recording}) is False
    assert await harness.value("select status from resguardo.deletions") == "REQUESTED"
