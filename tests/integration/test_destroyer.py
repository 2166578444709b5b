"""Tests of the destruction of recordings. Every due recording is destroyed completely and gets a certificate, and
every held recording stays, even if the process dies.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

import pytest
from psycopg import sql

from app.certificates.model import Certificate, Ground
from app.certificates.signing import check
from app.deletions.destroyer import DestructionReport
from app.errors import Conflict, Timeout
from app.integrations.storage.objects import StoredObject
from devstack.object_store import ObjectStore
from tests.alerts import evaluated_alerts
from tests.databases import Database
from tests.integration.retention_harness import DAY, SIGNER, START, ClockedStorage, RetentionHarness, opened

pytestmark = pytest.mark.anyio
TERM = 90 * DAY


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def certificates(harness: RetentionHarness, recording: UUID) -> list[Certificate]:
    """Return all stored certificates of a recording, after checking the signature of each."""
    rows = await harness.rows(
        "select document from resguardo.certificates where recording_id = %s order by number", recording
    )
    return [check(row["document"].encode(), SIGNER.public_key) for row in rows]


async def traces(harness: RetentionHarness, recording: UUID) -> int:
    """Return the number of database rows that still contain an object key of the recording or its data key."""
    return int(
        await harness.value(
            "select (select count(*) from private.recording_secrets where recording_id = %s)"
            " + (select count(*) from private.recording_keys where recording_id = %s)"
            " + (select count(*) from private.deletion_objects)",
            recording,
            recording,
        )
    )


async def test_due_recording_is_destroyed_and_proven(harness: RetentionHarness) -> None:
    recording = await harness.recording(content=b"consultation")
    key = await harness.key_of(recording)
    wrapped = await harness.value(
        "select wrapped_key from private.recording_keys where recording_id = %s", recording
    )
    await harness.move_to(START + TERM + timedelta(hours=1))
    assert await harness.destroyer().run_once() == DestructionReport(destroyed=1, failed=0)
    assert await harness.status_of(recording) == "DELETED"
    assert await harness.keys_under("r/") == []
    assert await traces(harness, recording) == 0
    (certificate,) = await certificates(harness, recording)
    assert certificate.recording_id == recording
    assert certificate.ground is Ground.RETENTION
    assert certificate.policy is not None
    assert (certificate.policy.term_days, certificate.policy.due_at) == (90, START + TERM)
    assert certificate.hold_check.checked_at == harness.time
    (destroyed,) = certificate.objects
    assert destroyed.key_sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert (destroyed.kind, destroyed.size_bytes) == ("video.mp4", 12)
    assert destroyed.sha256 == hashlib.sha256(b"consultation").hexdigest()
    (shredded,) = certificate.keys
    assert shredded.wrapped_key_sha256 == hashlib.sha256(wrapped).hexdigest()
    assert certificate.backups_until == (harness.time + 35 * DAY).date()


async def test_certificate_has_the_time_of_the_database_if_the_workers_clock_differs(
    harness: RetentionHarness,
) -> None:
    """The times in the certificate come from the database's clock, which the test sets to a different time than the
    machine's clock.
    """
    recording = await harness.recording()
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    (certificate,) = await certificates(harness, recording)
    (destroyed,) = certificate.objects
    assert harness.time <= destroyed.deleted_at <= destroyed.head_at < harness.time + timedelta(minutes=5)


async def test_ledger_has_the_certificate_and_no_key_or_name(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    key = await harness.key_of(recording)
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    (entry,) = await harness.keys_under("ledger/")
    assert entry == f"ledger/{recording}/1.json"
    file = await harness.storage.get_small(entry, 100_000)
    assert file is not None
    document = await harness.value(
        "select document from resguardo.certificates where recording_id = %s", recording
    )
    assert file.decode() == document
    assert key not in document


async def test_recording_that_is_not_due_stays(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    await harness.move_to(START + TERM - timedelta(seconds=1))
    assert await harness.destroyer().run_once() == DestructionReport(0, 0)
    assert await harness.status_of(recording) == "READY"
    assert len(await harness.keys_under("r/")) == 1


async def test_destruction_deletes_all_data_of_a_recording(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    speakers = await harness.recording(consultation, medium="SPEAKERS", video_id=recording)
    folder = (await harness.key_of(recording)).rsplit("/", 1)[0]
    await harness.storage.put_new(f"{folder}/video-2.mp4", b"a stray", "video/mp4")
    await harness.storage.put_new(f"{folder}/poster.webp", b"a picture", "image/webp")
    neighbour = await harness.recording(consultation)
    await harness.move_to(START + TERM)
    await harness.rows(
        "update resguardo.recordings set due_at = due_at + interval '1 day' where id = %s", neighbour
    )
    await harness.destroyer().run_once()
    assert await harness.keys_under("r/") == [await harness.key_of(neighbour)]
    assert await harness.status_of(speakers) == "DELETED"
    assert await traces(harness, speakers) == 0
    (certificate,) = await certificates(harness, recording)
    assert sorted(one.kind for one in certificate.objects) == [
        "poster.webp",
        "speakers.ogg",
        "video-2.mp4",
        "video.mp4",
    ]


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "LOST"])
async def test_recording_without_an_object_is_destroyed_too(harness: RetentionHarness, status: str) -> None:
    recording = await harness.recording(status=status)
    await harness.move_to(START + TERM)
    assert (await harness.destroyer().run_once()).destroyed == 1
    (certificate,) = await certificates(harness, recording)
    assert certificate.objects == ()
    assert await harness.status_of(recording) == "DELETED"


async def test_destruction_deletes_every_copy_that_contains_the_recording(
    harness: RetentionHarness,
) -> None:
    recording, other = await harness.recording(), await harness.recording()
    requests = {}
    for one in (recording, other):
        requests[one] = await harness.value(
            "insert into resguardo.access_requests (patient_id, channel, filed_by, received_on, due_on, status,"
            " fulfilled_at, export_status) select r.patient_id, 'LOGIN', r.patient_id, private.today(),"
            " private.today() + 30, 'FULFILLED', private.now(), 'READY' from resguardo.recordings as r"
            " where r.id = %s returning id",
            one,
        )
        await harness.rows(
            "insert into private.access_exports (request_id, object_key, recording_ids, files)"
            " values (%s, %s, array[%s], 1)",
            requests[one],
            f"exports/{requests[one]}/{UUID(int=2)}.zip",
            one,
        )
        for number in (1, 2):
            key = f"exports/{requests[one]}/{UUID(int=number)}.zip"
            await harness.storage.put_new(key, b"a copy", "application/zip")
    await harness.move_to(START + TERM)
    await harness.rows(
        "update resguardo.recordings set due_at = due_at + interval '1 day' where id = %s", other
    )
    assert await harness.destroyer().run_once() == DestructionReport(1, 0)
    assert await harness.keys_under("exports/") == [
        f"exports/{requests[other]}/{UUID(int=number)}.zip" for number in (1, 2)
    ]
    (certificate,) = await certificates(harness, recording)
    assert len(certificate.objects) == 3


async def test_recording_with_an_unfinished_sound_is_not_destroyed(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    await harness.recording(consultation, medium="SPEAKERS", video_id=recording, status="VERIFYING")
    await harness.move_to(START + TERM)
    assert (await harness.destroyer().run_once()).destroyed == 0
    assert await harness.status_of(recording) == "READY"


class TestHolds:
    async def test_law_7_nothing_under_hold_is_destroyed(self, harness: RetentionHarness) -> None:
        patient = await harness.patient()
        of_patient = await harness.recording(await harness.consultation(patient))
        consultation = await harness.consultation()
        of_consultation, free = await harness.recording(consultation), await harness.recording()
        await harness.move_to(START + DAY)
        in_range = await harness.recording()
        holds = [
            await harness.hold(patient_id=patient),
            await harness.hold(consultation_id=consultation),
            await harness.hold(recorded_since=START + DAY, recorded_until=START + 2 * DAY),
        ]
        await harness.move_to(START + 10 * TERM)
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await harness.status_of(free) == "DELETED"
        for recording, hold in zip((of_patient, of_consultation, in_range), holds, strict=True):
            assert await harness.status_of(recording) == "READY"
            assert await harness.storage.head(await harness.key_of(recording)) is not None
            await harness.release(hold)
            assert (await harness.destroyer().run_once()).destroyed == 1
            assert await harness.status_of(recording) == "DELETED"

    async def test_law_7_recording_of_an_open_access_request_is_not_destroyed(
        self, harness: RetentionHarness
    ) -> None:
        patient = await harness.patient()
        recording = await harness.recording(await harness.consultation(patient))
        await harness.rows(
            "insert into resguardo.access_requests (id, patient_id, channel, filed_by, received_on, due_on, status)"
            " values (gen_random_uuid(), %s, 'LOGIN', %s, current_date, current_date + 30, 'OPEN')",
            patient,
            harness.doctor,
        )
        await harness.move_to(START + TERM)
        assert (await harness.destroyer().run_once()).destroyed == 0
        await harness.rows("update resguardo.access_requests set status = 'WITHDRAWN'")
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await harness.status_of(recording) == "DELETED"

    async def test_law_7_hold_between_two_attempts_stops_the_second(self, harness: RetentionHarness) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)
        failing = failing_storage(harness, "delete")
        assert (await harness.destroyer(failing).run_once()).failed == 1
        await harness.hold(consultation_id=await consultation_of(harness, recording))
        await harness.move_to(harness.time + DAY)
        assert await harness.destroyer().run_once() == DestructionReport(0, 0)
        assert await harness.storage.head(await harness.key_of(recording)) is not None

    async def test_law_7_hold_moves_the_objects_that_a_failed_attempt_left(
        self, harness: RetentionHarness
    ) -> None:
        recording = await harness.recording()
        stray = f"{(await harness.key_of(recording)).rsplit('/', 1)[0]}/video-2.mp4"
        await harness.storage.put_new(stray, b"stray", "video/mp4")
        await harness.move_to(START + TERM)
        assert (await harness.destroyer(failing_storage(harness, "delete")).run_once()).failed == 1
        hold = await harness.hold(consultation_id=await consultation_of(harness, recording))
        protection = harness.protection()
        await protection.run_once()
        assert (await harness.key_of(recording)).startswith("r/d90/"), (
            "the failed destruction may still be running"
        )
        await harness.move_to(harness.time + timedelta(hours=1))
        await protection.run_once()
        assert await harness.keys_under("r/") == [stray]
        assert await harness.keys_under("keep/") == [await harness.key_of(recording)]
        await harness.release(hold)
        assert await harness.destroyer().run_once() == DestructionReport(1, 0)
        (certificate,) = await certificates(harness, recording)
        assert sorted(one.kind for one in certificate.objects) == ["video-2.mp4", "video.mp4"]
        assert len(certificate.keys) == 1
        assert await harness.keys_under("keep/") + await harness.keys_under("r/") == []

    async def test_law_7_no_destruction_begins_while_a_hold_is_being_placed(
        self, harness: RetentionHarness
    ) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)
        consultation = await consultation_of(harness, recording)
        async with harness.superuser.transaction():
            await harness.rows("select private.lock_keeping(true)")
            pass_ = asyncio.create_task(harness.destroyer().run_once())
            await asyncio.sleep(0.3)
            assert not pass_.done()
            await harness.hold(consultation_id=consultation)
        assert await pass_ == DestructionReport(0, 0)
        assert await harness.status_of(recording) == "READY"

    async def test_law_7_the_database_refuses_deleted_without_a_destruction(
        self, harness: RetentionHarness
    ) -> None:
        recording = await harness.recording()
        with pytest.raises(Conflict, match="recording_not_destroyed"):
            async with harness.worker.as_service("test") as tx:
                await tx.run(
                    "update resguardo.recordings set status = 'DELETED' where id = %(id)s", {"id": recording}
                )


class TestClocks:
    async def test_a_database_clock_that_jumps_ahead_destroys_nothing(
        self, harness: RetentionHarness
    ) -> None:
        await harness.recording()
        await harness.move_to(START + 365 * DAY)
        harness.store_time = START + DAY
        assert (await harness.destroyer().run_once()).destroyed == 0

    async def test_a_bucket_clock_that_jumps_ahead_destroys_nothing(self, harness: RetentionHarness) -> None:
        await harness.recording()
        harness.store_time = START + 365 * DAY
        assert (await harness.destroyer().run_once()).destroyed == 0

    async def test_a_clock_that_jumps_back_a_year_deletes_nothing_early(
        self, harness: RetentionHarness
    ) -> None:
        await harness.move_to(START - 365 * DAY)
        consultation = await harness.consultation()
        harness.time = START  # The clocks of the recorder and the bucket are right
        recording = await harness.recording(consultation)
        await harness.move_to(START + TERM - DAY)
        assert (await harness.destroyer().run_once()).destroyed == 0
        await harness.move_to(START + TERM)
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await harness.status_of(recording) == "DELETED"

    async def test_attempt_with_a_future_time_is_continued_after_the_clock_is_right(
        self, harness: RetentionHarness
    ) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM + 365 * DAY)
        assert (await harness.destroyer(failing_storage(harness, "delete")).run_once()).failed == 1
        await harness.move_to(START + TERM)
        assert (await harness.destroyer().run_once()).destroyed == 1
        assert await harness.status_of(recording) == "DELETED"


class _Killed(BaseException):
    """A test raises this exception to end the worker, as the death of the process would."""


class _Broken(ClockedStorage):
    """A storage client of which one method fails. The method raises `error` before it calls the object store, or
    after the call if `after` is true.
    """

    broken: str
    error: BaseException
    after = False
    only: str = ""

    async def _broken_call(self, name: str, key: str, call: Callable[[], Awaitable[object]]) -> object:
        hit = name == self.broken and key.startswith(self.only)
        if hit and not self.after:
            raise self.error
        done = await call()
        if hit:
            raise self.error
        return done

    async def delete(self, key: str) -> None:
        await self._broken_call("delete", key, lambda: ClockedStorage.delete(self, key))

    async def head(self, key: str) -> StoredObject | None:
        found = await self._broken_call("head", key, lambda: ClockedStorage.head(self, key))
        assert found is None or isinstance(found, StoredObject)
        return found

    async def put_new(self, key: str, body: bytes, content_type: str) -> bool:
        return bool(
            await self._broken_call(
                "put_new", key, lambda: ClockedStorage.put_new(self, key, body, content_type)
            )
        )


def failing_storage(
    harness: RetentionHarness,
    call: str,
    error: BaseException | None = None,
    *,
    after: bool = False,
    only: str = "",
) -> _Broken:
    """Return a storage client whose method `call` fails for object keys that start with `only`."""
    storage = _Broken.__new__(_Broken)
    storage.__dict__.update(harness.storage.__dict__)
    storage.broken, storage.error = call, error or Timeout("storage_timeout", operation=call)
    storage.after, storage.only = after, only
    return storage


async def consultation_of(harness: RetentionHarness, recording: UUID) -> UUID:
    found: UUID = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    return found


class TestFailures:
    @pytest.mark.parametrize(("call", "only"), [("delete", "r/"), ("head", "r/"), ("put_new", "ledger/")])
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    async def test_failed_deletion_is_retried_within_the_hour(
        self,
        harness: RetentionHarness,
        call: str,
        only: str,
        *,
        after: bool,
    ) -> None:
        recording, other = await harness.recording(), await harness.recording()
        await harness.move_to(START + TERM)
        broken = failing_storage(harness, call, after=after, only=only)
        for attempt in range(1, 2 if (call, after) == ("delete", True) else 4):
            await harness.move_to(harness.time + timedelta(hours=1))
            assert await harness.destroyer(broken).run_once() == DestructionReport(0, 2)
            rows = await harness.rows("select status, attempts, error from resguardo.deletions")
            assert [tuple(row.values()) for row in rows] == [("DELETING", attempt, "storage_timeout")] * 2
        failing = [
            kind
            for kind, _ in await evaluated_alerts(harness.database, harness.worker)
            if kind == "DELETION_FAILING"
        ]
        assert len(failing) == (2 if attempt == 3 else 0)
        await harness.move_to(harness.time + timedelta(hours=1))
        assert await harness.destroyer().run_once() == DestructionReport(2, 0)
        alerts = await evaluated_alerts(harness.database, harness.worker)
        assert "DELETION_FAILING" not in dict(alerts)
        for one in (recording, other):
            (certificate,) = await certificates(harness, one)
            assert len(certificate.objects) == 1
            assert len(certificate.keys) == 1

    @pytest.mark.parametrize(("call", "only"), [("delete", "r/"), ("head", "r/"), ("put_new", "ledger/")])
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    async def test_worker_killed_at_any_call_leads_to_the_same_result(
        self, harness: RetentionHarness, call: str, only: str, *, after: bool
    ) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)
        broken = failing_storage(harness, call, _Killed(), after=after, only=only)
        with pytest.raises(BaseExceptionGroup):
            await harness.destroyer(broken).run_once()
        assert await harness.destroyer().run_once() == DestructionReport(0, 0), (
            "another worker may still destroy it"
        )
        await harness.move_to(harness.time + timedelta(minutes=16))
        assert await harness.destroyer().run_once() == DestructionReport(1, 0)
        (certificate,) = await certificates(harness, recording)
        assert (len(certificate.objects), len(certificate.keys)) == (1, 1)
        assert await harness.keys_under("ledger/") == [f"ledger/{recording}/1.json"]
        assert await traces(harness, recording) == 0

    @pytest.mark.parametrize("function", ["keep_inventory", "shred_keys", "finish_deletions"])
    async def test_lost_transaction_is_repeated(self, harness: RetentionHarness, function: str) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)
        name = sql.SQL("private.{}").format(sql.Identifier(function))
        await harness.superuser.execute(
            sql.SQL("revoke execute on function {} from resguardo_worker").format(name)
        )
        with pytest.raises(Exception, match="not_permitted"):
            await harness.destroyer().run_once()
        await harness.superuser.execute(
            sql.SQL("grant execute on function {} to resguardo_worker").format(name)
        )
        await harness.move_to(harness.time + timedelta(minutes=16))
        assert await harness.destroyer().run_once() == DestructionReport(1, 0)
        (certificate,) = await certificates(harness, recording)
        assert (len(certificate.objects), len(certificate.keys)) == (1, 1)

    async def test_failed_deletion_does_not_delay_others(self, harness: RetentionHarness) -> None:
        stuck, other = await harness.recording(), await harness.recording()
        await harness.move_to(START + TERM)
        broken = failing_storage(harness, "delete", only=await harness.key_of(stuck))
        assert await harness.destroyer(broken).run_once() == DestructionReport(1, 1)
        assert (await harness.status_of(stuck), await harness.status_of(other)) == ("READY", "DELETED")

    async def test_an_object_that_is_still_there_is_never_certified(self, harness: RetentionHarness) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)

        class Locked(ClockedStorage):
            async def delete(self, key: str) -> None:
                """Report success without deleting."""

        storage = Locked.__new__(Locked)
        storage.__dict__.update(harness.storage.__dict__)
        assert await harness.destroyer(storage).run_once() == DestructionReport(0, 1)
        assert await harness.value("select error from resguardo.deletions") == "object_still_there"
        assert await certificates(harness, recording) == []
        assert await harness.value("select count(*) from private.recording_keys") == 1

    async def test_a_bucket_of_another_deployment_is_not_touched(self, harness: RetentionHarness) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)
        await harness.storage.delete("deployment")
        await harness.storage.claim("another")
        with pytest.raises(Conflict, match="bucket_of_another_deployment"):
            await harness.destroyer().run_once()
        assert await harness.status_of(recording) == "READY"

    async def test_a_foreign_entry_in_the_ledger_is_not_taken_for_ours(
        self, harness: RetentionHarness
    ) -> None:
        recording = await harness.recording()
        await harness.storage.put_new(f"ledger/{recording}/1.json", b"{}", "application/json")
        await harness.move_to(START + TERM)
        assert await harness.destroyer().run_once() == DestructionReport(0, 1)
        assert await harness.value("select error from resguardo.deletions") == "ledger_entry_foreign"
        assert await harness.status_of(recording) == "READY"


async def test_two_workers_at_once_destroy_each_once(harness: RetentionHarness) -> None:
    recordings = [await harness.recording() for _ in range(12)]
    await harness.move_to(START + TERM)
    reports = await asyncio.gather(*(harness.destroyer().run_once() for _ in range(3)))
    assert sum(report.destroyed for report in reports) == 12
    for recording in recordings:
        assert len(await certificates(harness, recording)) == 1
    assert len(await harness.keys_under("ledger/")) == 12


async def test_every_step_leaves_its_audit_row(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    await harness.move_to(START + TERM)
    await harness.destroyer().run_once()
    rows = await harness.rows(
        "select action, reason, actor_role, basis, "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids from audit.events where %s = any ("
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid))"
        " order by recorded_at, id",
        recording,
    )
    told = [(row["action"], row["reason"]) for row in rows if row["action"] != "recording.make_key"]
    assert told[-3:] == [
        ("recording.destroy", "begun"),
        ("recording.destroy", "proven"),
        ("recording.transition", "READY>DELETED"),
    ]
    assert {row["basis"] for row in rows[-3:]} == {"destroy_recordings"}


async def test_ground_missing_destroys_only_a_missing_recording(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    for expected in (False, True):
        async with harness.worker.as_service("test") as tx:
            begun = await tx.value("select private.destroy_missing(%(id)s)", {"id": recording})
        assert begun is expected
        await harness.storage.delete(await harness.key_of(recording))
        await harness.rows(
            "update resguardo.recordings set missing_since = private.now() where id = %s", recording
        )
    assert (await harness.destroyer().run_once()).destroyed == 1
    (certificate,) = await certificates(harness, recording)
    assert (certificate.ground, certificate.objects) == (Ground.MISSING, ())


class TestRestore:
    async def test_a_deletion_that_a_restore_undid_is_repeated(self, harness: RetentionHarness) -> None:
        recording, kept = await harness.recording(), await harness.recording()
        before = await snapshot(harness, recording)
        await harness.rows(
            "update resguardo.recordings set due_at = due_at + interval '1 year' where id = %s", kept
        )
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        await restore(harness, recording, before)
        await harness.rows("update resguardo.recordings set due_at = due_at + interval '1 year'")
        found = await harness.restore_check().run(repeat=False)
        assert (found.entries, found.undone, found.repeated, found.is_clean) == (1, [recording], [], False)
        assert await harness.status_of(recording) == "READY"
        again = await harness.restore_check().run(repeat=True)
        assert (again.repeated, again.is_clean) == ([recording], True)
        await harness.move_to(harness.time + timedelta(hours=1))
        assert (await harness.destroyer().run_once()).destroyed == 1
        first, second = await certificates(harness, recording)
        assert (second.ground, second.number) == (Ground.RESTORE, 2)
        ledger = await harness.storage.get_small(f"ledger/{recording}/1.json", 100_000)
        assert second.repeats == hashlib.sha256(ledger or b"").hexdigest()
        assert first.number == 1
        assert await traces(harness, recording) == 0
        assert (await harness.restore_check().run(repeat=True)).undone == []
        assert await harness.status_of(kept) == "READY"

    async def test_ledger_entry_of_an_unknown_recording_is_reported(self, harness: RetentionHarness) -> None:
        recording = await harness.recording()
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        await harness.rows("delete from resguardo.certificates where recording_id = %s", recording)
        await harness.rows("delete from resguardo.deletions where recording_id = %s", recording)
        await harness.rows("delete from resguardo.transcripts where recording_id = %s", recording)
        await harness.rows("delete from private.cost_entries where recording_id = %s", recording)
        await harness.rows("delete from resguardo.recordings where id = %s", recording)
        report = await harness.restore_check().run(repeat=True)
        assert (report.unknown, report.undone, report.is_clean) == ([recording], [], True)

    async def test_altered_ledger_entry_is_refused(self, harness: RetentionHarness) -> None:
        victim = await harness.recording()
        other = await harness.recording()
        await harness.rows("update resguardo.recordings set due_at = null where id = %s", victim)
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        genuine = await harness.storage.get_small(f"ledger/{other}/1.json", 100_000)
        assert genuine is not None
        await harness.storage.put_new(f"ledger/{victim}/1.json", genuine, "application/json")
        await harness.storage.put_new("ledger/notes.txt", b"x", "text/plain")
        report = await harness.restore_check().run(repeat=True)
        assert (report.foreign, report.foreign_keys, report.is_clean) == ([victim], 1, False)
        assert await harness.status_of(victim) == "READY"
        assert (
            await harness.value("select count(*) from resguardo.deletions where recording_id = %s", victim)
            == 0
        )

    async def test_destruction_of_a_held_recording_is_not_repeated(self, harness: RetentionHarness) -> None:
        recording = await harness.recording()
        before = await snapshot(harness, recording)
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        await restore(harness, recording, before)
        await harness.hold(consultation_id=await consultation_of(harness, recording))
        report = await harness.restore_check().run(repeat=True)
        assert (report.held, report.repeated, report.is_clean) == ([recording], [], False)

    async def test_an_object_that_was_moved_after_the_backup_is_found(
        self, harness: RetentionHarness
    ) -> None:
        recording, other = await harness.recording(content=b"moved"), await harness.recording()
        old = await harness.key_of(recording)
        kept = f"keep/{old.split('/', 2)[2]}"
        await harness.storage.put_new(kept, b"moved", "video/mp4")
        await harness.storage.delete(old)
        await harness.storage.put_new(
            f"keep/{(await harness.key_of(other)).split('/', 2)[2]}", b"other size", "video/mp4"
        )
        assert (await harness.restore_check().run(repeat=False)).moved == 0
        assert (await harness.restore_check().run(repeat=True)).moved == 1
        assert await harness.key_of(recording) == kept
        assert (await harness.key_of(other)).startswith("r/d90/")
        assert (await harness.restore_check().run(repeat=True)).moved == 0
        await harness.move_to(START + TERM)
        await harness.destroyer().run_once()
        assert kept not in await harness.keys_under("keep/")


async def snapshot(harness: RetentionHarness, recording: UUID) -> list[str]:
    """Return the database rows of a recording as JSON, as a backup would contain them."""
    statements: tuple[LiteralString, ...] = (
        "select row_to_json(t) from resguardo.recordings as t where id = %s",
        "select row_to_json(t) from private.recording_secrets as t where recording_id = %s",
        "select row_to_json(t) from private.recording_keys as t where recording_id = %s",
    )
    return [json.dumps(await harness.value(statement, recording)) for statement in statements]


async def restore(harness: RetentionHarness, recording: UUID, backup: list[str]) -> None:
    """Restore the rows of a recording from a backup, and delete the rows that were written after the backup."""
    await harness.rows("delete from resguardo.certificates where recording_id = %s", recording)
    await harness.rows("delete from resguardo.deletions where recording_id = %s", recording)
    await harness.rows("set session_replication_role = replica")
    await harness.rows("delete from resguardo.transcripts where recording_id = %s", recording)
    await harness.rows("delete from resguardo.recordings where id = %s", recording)
    statements: tuple[LiteralString, ...] = (
        "insert into resguardo.recordings select * from json_populate_record(null::resguardo.recordings, %s)",
        "insert into private.recording_secrets select * from json_populate_record(null::private.recording_secrets, %s)",
        "insert into private.recording_keys select * from json_populate_record(null::private.recording_keys, %s)",
    )
    for statement, row in zip(statements, backup, strict=True):
        await harness.rows(statement, row)
    await harness.rows("set session_replication_role = origin")
