"""Tests that the bucket's lifecycle rule deletes no object that is under a legal hold or whose retention term
became longer. Postgres and the object store are real, and tests set the clock.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.bucket.drifts import Drift, Prefix, find_hold_drifts
from app.errors import Conflict, UpstreamFailed
from app.holds.bucket_protection import BucketProtection, plan_locks
from app.integrations.cloudflare.client import MAX_LOCK_RULES, LockRule
from app.integrations.storage.objects import StoredObject
from devstack.object_store import ObjectStore
from tests.buckets import InterceptedStorage
from tests.databases import Database
from tests.integration.retention_harness import DAY, RetentionHarness, open_transactions, opened

pytestmark = pytest.mark.anyio

FIXED = LockRule("fixed-ledger", "ledger/")
FOREIGN = LockRule("of-somebody", "audit/", max_age_seconds=60)
AUDITED = (
    "select "
    "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
    " as entity_ids, patient_ids, consultation_ids from audit.events where action = 'object.keep' order by id"
)


@dataclass
class Locks:
    """Keeps the bucket's lock rules in memory, and counts how often they are replaced."""

    rules: list[LockRule] = field(default_factory=lambda: [FIXED, FOREIGN])
    replaced: int = 0

    async def read_locks(self) -> tuple[LockRule, ...]:
        return tuple(self.rules)

    async def replace_locks(self, rules: Sequence[LockRule]) -> None:
        self.rules = list(rules)
        self.replaced += 1

    @property
    def prefixes(self) -> list[str]:
        """Return the prefixes that are locked for legal holds."""
        return sorted(rule.prefix for rule in self.rules if rule.id.startswith("hold-"))


class Killed(BaseException):
    """A test raises this exception to end the worker between two lines of code, as the death of the process would."""


class TroubledStorage(InterceptedStorage):
    """A storage client that kills the worker before or after the n-th call to the object store. As in R2, a locked
    object cannot be deleted.
    """

    locks: Locks | None = None
    calls_left: float = float("inf")
    is_killed_after: bool = False

    async def _call(self, operation: str, work: Any) -> Any:
        self.calls_left -= 1
        if self.calls_left < 0 and not self.is_killed_after:
            raise Killed
        answer = await super()._call(operation, work)
        if self.calls_left < 0:
            raise Killed
        return answer

    async def delete(self, key: str) -> None:
        if self.locks is not None and any(key.startswith(rule.prefix) for rule in self.locks.rules):
            raise UpstreamFailed("storage_credentials_refused", operation="delete", status=403)
        await super().delete(key)


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


@pytest.fixture
def troubled(emptied_store: ObjectStore) -> Iterator[TroubledStorage]:
    storage = TroubledStorage(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    yield storage
    storage.close()


async def with_sound(harness: RetentionHarness, consultation: UUID | None = None) -> tuple[UUID, UUID]:
    video = await harness.recording(consultation, content=b"picture")
    of = await harness.value("select consultation_id from resguardo.recordings where id = %s", video)
    return video, await harness.recording(of, medium="SPEAKERS", video_id=video, content=b"sound")


async def is_settled(harness: RetentionHarness, *recordings: UUID) -> None:
    """Require that the object of each recording is under `keep/`, and that the bucket contains no other object
    under `keep/` or `r/`.
    """
    keys = [await harness.key_of(one) for one in recordings]
    assert all(key.startswith("keep/") for key in keys), keys
    assert sorted(await harness.keys_under("keep/")) == sorted(keys)
    assert await harness.keys_under("r/") == []
    assert await harness.rows("select recording_id from private.object_moves") == []
    classes = await harness.rows(
        "select retention_class from resguardo.recordings where id = any(%s)", [*recordings]
    )
    assert {row["retention_class"] for row in classes} == {"keep"}


async def test_what_is_held_moves_to_keep_with_its_sound_and_the_rest_stays(
    harness: RetentionHarness,
) -> None:
    video, sound = await with_sound(harness)
    other = await harness.recording()
    old_key = await harness.key_of(video)
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", video
    )
    await harness.hold(consultation_id=consultation)
    report = await harness.protection().run_once()
    assert (report.moved, report.locked, report.waiting) == (1, 0, 0)
    assert await harness.keys_under("r/") == [await harness.key_of(other)]
    await harness.storage.delete(await harness.key_of(other))
    await is_settled(harness, video, sound)
    assert await harness.key_of(video) == old_key.replace("r/d90/", "keep/")
    assert await harness.storage.get_small(await harness.key_of(video), 100) == b"picture"
    assert await harness.storage.get_small(await harness.key_of(sound), 100) == b"sound"
    stored = await harness.storage.head(await harness.key_of(video))
    assert stored is not None
    assert stored.content_type == "video/mp4"
    audited = await harness.rows(AUDITED)
    assert sorted(row["entity_ids"][0] for row in audited) == sorted((video, sound))
    assert {row["consultation_ids"][0] for row in audited} == {consultation}


async def test_an_open_access_request_protects_and_a_closed_one_does_not(harness: RetentionHarness) -> None:
    recordings = {status: await harness.recording() for status in ("OPEN", "APPROVED", "DENIED", "WITHDRAWN")}
    for status, recording in recordings.items():
        await harness.rows(
            "insert into resguardo.access_requests (patient_id, consultation_id, channel, filed_by, received_on,"
            " due_on, status, decided_by, decided_at, denial_ground)"
            " select patient_id, consultation_id, 'LOGIN', doctor_id, current_date, current_date + 30, %s,"
            " case when %s in ('APPROVED', 'DENIED') then doctor_id end,"
            " case when %s in ('APPROVED', 'DENIED') then now() end, case %s when 'DENIED' then 'EXCEPTED' end"
            " from resguardo.recordings where id = %s",
            status,
            status,
            status,
            status,
            recording,
        )
    assert (await harness.protection().run_once()).moved == 2
    kept = {status for status, one in recordings.items() if (await harness.key_of(one)).startswith("keep/")}
    assert kept == {"OPEN", "APPROVED"}


async def test_recording_with_a_longer_term_than_its_class_moves_to_keep(harness: RetentionHarness) -> None:
    outgrown, in_time = await harness.recording(), await harness.recording()
    await harness.rows(
        "update resguardo.recordings set due_at = due_at + interval '30 days' where id = %s", outgrown
    )
    assert (await harness.protection().run_once()).moved == 1
    assert (await harness.key_of(outgrown)).startswith("keep/")
    assert (await harness.key_of(in_time)).startswith("r/d90/")


async def test_a_hold_by_date_covers_from_the_first_moment_to_before_the_last(
    harness: RetentionHarness,
) -> None:
    first = await harness.recording()
    await harness.move_to(harness.time + DAY)
    behind = await harness.recording()
    await harness.hold(recorded_since=harness.time - DAY, recorded_until=harness.time)
    await harness.protection().run_once()
    assert (await harness.key_of(first)).startswith("keep/")
    assert (await harness.key_of(behind)).startswith("r/")


async def test_unfinished_recording_moves_after_it_is_finished(harness: RetentionHarness) -> None:
    recording = await harness.recording(status="VERIFYING")
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    assert (await harness.protection().run_once()).waiting == 1
    key = await harness.key_of(recording)
    assert key.startswith("r/d90/")
    await harness.storage.put_new(key, b"late", "video/mp4")
    await harness.rows("update resguardo.recordings set status = 'READY' where id = %s", recording)
    assert (await harness.protection().run_once()).moved == 1
    await is_settled(harness, recording)


async def test_recording_without_its_object_is_not_moved(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    await harness.storage.delete(await harness.key_of(recording))
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    guard = harness.protection()
    assert (await guard.run_once()).moved == 0
    assert (await guard.run_once()).waiting == 0
    assert (await harness.key_of(recording)).startswith("r/d90/")
    assert await harness.rows("select recording_id from private.object_moves") == []
    reads = "select id from audit.events where action = 'recording.read_key' and reason = 'object_move'"
    assert len(await harness.rows(reads)) == 1, "the second pass read the object key again"


@pytest.mark.parametrize("is_killed_after", [False, True])
async def test_protection_killed_at_any_call_leads_to_the_same_result(
    harness: RetentionHarness, troubled: TroubledStorage, is_killed_after: bool
) -> None:
    patient = await harness.patient()
    await harness.hold(patient_id=patient)
    calls, was_killed = 0, True
    while was_killed:
        for key in await harness.keys_under("keep/"):
            await harness.storage.delete(key)
        video, sound = await with_sound(harness, await harness.consultation(patient))
        troubled.calls_left, troubled.is_killed_after, was_killed = calls, is_killed_after, False
        try:
            await harness.protection(troubled).run_once()
        except Killed:
            was_killed = True
        for one in (video, sound):
            assert await harness.storage.head(await harness.key_of(one)) is not None, "an object is lost"
        await harness.protection().run_once()
        await is_settled(harness, video, sound)
        calls += 1
    assert calls > 8


async def test_two_concurrent_passes_lead_to_the_same_result(harness: RetentionHarness) -> None:
    patient = await harness.patient()
    made = [await with_sound(harness, await harness.consultation(patient)) for _ in range(3)]
    await harness.hold(patient_id=patient)
    await asyncio.gather(*(harness.protection().run_once() for _ in range(3)))
    await harness.protection().run_once()
    await is_settled(harness, *(one for pair in made for one in pair))
    for video, _ in made:
        assert await harness.storage.get_small(await harness.key_of(video), 100) == b"picture"


async def test_recording_in_destruction_is_not_moved_and_leaves_no_copy(
    harness: RetentionHarness, troubled: TroubledStorage
) -> None:
    recording = await harness.recording()
    await harness.rows(
        "update resguardo.recordings set due_at = due_at + interval '30 days' where id = %s", recording
    )
    key = await harness.key_of(recording)
    stored = await harness.storage.head(key)
    assert stored is not None
    await harness.rows("select * from private.begin_move(%s)", recording)
    await harness.storage.copy(key, key.replace("r/d90/", "keep/"), stored)
    await harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, status)"
        " select id, consultation_id, doctor_id, patient_id, 'RETENTION', 'DELETING' from resguardo.recordings"
        " where id = %s",
        recording,
    )
    assert (await harness.protection().run_once()).moved == 0
    assert await harness.keys_under("keep/") == []
    assert await harness.keys_under("r/") == [key] == [await harness.key_of(recording)]
    assert await harness.rows("select recording_id from private.object_moves") == []


async def test_copy_is_kept_if_the_bucket_deleted_its_source(
    harness: RetentionHarness,
) -> None:
    recording = await harness.recording()
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    key = await harness.key_of(recording)
    stored = await harness.storage.head(key)
    assert stored is not None
    await harness.rows("select * from private.begin_move(%s)", recording)
    await harness.storage.copy(key, key.replace("r/d90/", "keep/"), stored)
    await harness.storage.delete(key)
    assert (await harness.protection().run_once()).moved == 1
    await is_settled(harness, recording)


async def test_another_bucket_is_left_alone(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await BucketProtection(harness.worker, harness.storage, None, deployment="other").run_once()
    assert (await harness.key_of(recording)).startswith("r/d90/")


async def test_a_consultation_that_is_wholly_held_is_locked_and_unlocked_with_its_last_hold(
    harness: RetentionHarness, troubled: TroubledStorage
) -> None:
    video, _ = await with_sound(harness)
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", video
    )
    patient = await harness.patient_of(video)
    holds = [await harness.hold(consultation_id=consultation), await harness.hold(patient_id=patient)]
    locks = Locks()
    troubled.locks = locks
    guard = harness.protection(troubled, locks)
    for _ in range(2):
        report = await guard.run_once()
        assert (report.locked, report.moved, report.waiting) == (1, 0, 0)
    assert locks.prefixes == [f"r/d90/{consultation}/"]
    assert locks.replaced == 1
    assert set(locks.rules) > {FIXED, FOREIGN}
    await harness.release(holds[0])
    await guard.run_once()
    assert locks.prefixes == [f"r/d90/{consultation}/"]
    await harness.release(holds[1])
    await guard.run_once()
    assert locks.rules == [FIXED, FOREIGN]
    assert len(await harness.keys_under("r/")) == 2


async def test_a_consultation_that_is_held_in_part_is_not_locked_what_is_held_moves(
    harness: RetentionHarness, troubled: TroubledStorage
) -> None:
    consultation = await harness.consultation()
    await harness.rows("update resguardo.consultations set scheduled_at = scheduled_at - interval '30 days'")
    held = await harness.recording(consultation)
    locks = Locks()
    troubled.locks = locks
    guard = harness.protection(troubled, locks)
    await harness.hold(recorded_since=harness.time, recorded_until=harness.time + DAY)
    assert (await guard.run_once()).locked == 1
    await harness.move_to(harness.time + 2 * DAY)
    free = await harness.recording(consultation)
    report = await guard.run_once()
    assert (report.locked, report.moved) == (0, 1)
    assert locks.prefixes == []
    await guard.run_once()
    assert await harness.keys_under("r/") == [await harness.key_of(free)]
    assert (await harness.key_of(held)).startswith("keep/")


async def test_what_is_locked_and_outgrows_its_class_moves_and_loses_its_lock_then_its_source(
    harness: RetentionHarness, troubled: TroubledStorage
) -> None:
    recording = await harness.recording()
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    locks = Locks()
    troubled.locks = locks
    guard = harness.protection(troubled, locks)
    await guard.run_once()
    await harness.rows(
        "update resguardo.recordings set due_at = due_at + interval '1 year' where id = %s", recording
    )
    assert (await guard.run_once()).moved == 1
    assert (await harness.key_of(recording)).startswith("keep/")
    assert len(await harness.keys_under("r/")) == 1
    assert locks.prefixes == []
    await guard.run_once()
    await is_settled(harness, recording)


async def test_recordings_beyond_the_limit_of_lock_rules_move_to_keep(
    harness: RetentionHarness, troubled: TroubledStorage
) -> None:
    recordings = []
    for _ in range(3):
        recordings.append(await harness.recording())
        await harness.move_to(harness.time + timedelta(hours=1))
    await harness.hold(recorded_since=harness.time - DAY, recorded_until=harness.time + DAY)
    locks = Locks([LockRule(f"other-{n}", f"x/{n}/") for n in range(MAX_LOCK_RULES - 2)])
    troubled.locks = locks
    report = await harness.protection(troubled, locks).run_once()
    assert (report.locked, report.moved, report.waiting) == (2, 1, 0)
    assert len(locks.rules) == MAX_LOCK_RULES
    assert (await harness.key_of(recordings[2])).startswith("keep/")
    assert len(await harness.keys_under("r/")) == 2


async def test_no_transaction_is_open_while_cloudflare_answers(harness: RetentionHarness) -> None:
    """No database transaction may stay open while Cloudflare answers slowly."""
    seen: list[int] = []

    class WatchedLocks(Locks):
        async def read_locks(self) -> tuple[LockRule, ...]:
            seen.append(open_transactions(harness.database))
            return await super().read_locks()

        async def replace_locks(self, rules: Sequence[LockRule]) -> None:
            seen.append(open_transactions(harness.database))
            await super().replace_locks(rules)

    recording = await harness.recording()
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    await harness.hold(consultation_id=consultation)
    locks = WatchedLocks()
    assert (await harness.protection(locks=locks).run_once()).locked == 1
    assert seen == [0, 0]


async def test_law_7_rules_are_not_written_by_a_process_that_lost_its_turn(harness: RetentionHarness) -> None:
    """If a process is frozen after it has read the lock rules, it must not write them back later, because another
    process may have changed the rules in between.
    """

    class Overtaken(Locks):
        async def read_locks(self) -> tuple[LockRule, ...]:
            await harness.rows("update private.turns set holder = gen_random_uuid() where of = 'bucket'")
            return await super().read_locks()

    recording = await harness.recording()
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    await harness.hold(consultation_id=consultation)
    locks = Overtaken()
    with pytest.raises(Conflict, match="bucket_rules_busy"):
        await harness.protection(locks=locks).run_once()
    assert locks.replaced == 0


def test_planned_locks_keep_existing_locks_first_and_repair_disabled_ones() -> None:
    standing = plan_locks([FIXED], ["r/d90/a/", "r/d90/b/"])
    assert plan_locks(standing, ["r/d90/b/", "r/d90/c/"])[1].prefix == "r/d90/b/"
    room = [LockRule(f"x-{n}", f"x/{n}/") for n in range(MAX_LOCK_RULES - 1)]
    full = plan_locks(room, ["r/d90/a/"])
    assert plan_locks(full, ["r/d90/new/", "r/d90/a/"]) == full, "a new lock replaced an existing lock"
    lifted = [replace(standing[1], enabled=False), replace(standing[2], max_age_seconds=60)]
    mended = plan_locks([FIXED, *lifted], ["r/d90/a/", "r/d90/b/"])
    assert all(rule.enabled and rule.is_indefinite for rule in mended)
    assert len({rule.id for rule in mended}) == len(mended) == 3


async def test_query_of_one_recording_and_query_of_all_agree_on_holds(harness: RetentionHarness) -> None:
    patient = await harness.patient()
    consultation = await harness.consultation(patient)
    recordings = [
        await harness.recording(consultation),
        await harness.recording(await harness.consultation(patient)),
    ]
    await harness.move_to(harness.time + DAY)
    recordings += [await harness.recording(), await harness.recording()]
    for scope in (
        {"consultation_id": consultation},
        {"patient_id": patient},
        {"recorded_since": harness.time, "recorded_until": harness.time + DAY},
    ):
        hold = await harness.hold(**scope)
        singly = await harness.rows("select id from resguardo.recordings where private.is_held(id)")
        together = await harness.rows("select h.id from private.held_videos() as h (id)")
        assert {row["id"] for row in singly} == {row["id"] for row in together}
        assert singly
        await harness.release(hold)
    assert await harness.rows("select h.id from private.held_videos() as h (id)") == []


@pytest.mark.parametrize("has_left_source", [False, True])
async def test_moved_recording_is_destroyed_completely_after_its_release(
    harness: RetentionHarness, has_left_source: bool
) -> None:
    video, sound = await with_sound(harness)
    patient = await harness.patient_of(video)
    old_keys = [await harness.key_of(one) for one in (video, sound)]
    hold = await harness.hold(patient_id=patient)
    await harness.protection().run_once()
    if has_left_source:
        for recording, key in zip((video, sound), old_keys, strict=True):
            await harness.storage.put_new(key, b"held by a lock until now", "video/mp4")
            await harness.rows(
                "insert into private.object_moves (recording_id, source_key, target_key, kept_at)"
                " select recording_id, %s, object_key, now() from private.recording_secrets where recording_id = %s",
                key,
                recording,
            )
    await harness.move_to(harness.time + 200 * DAY)
    assert (await harness.destroyer().run_once()).destroyed == 0
    await harness.release(hold)
    if has_left_source:
        assert (await harness.destroyer().run_once()).destroyed == 0, (
            "the move of one of its objects has not ended"
        )
        await harness.protection().run_once()
    assert (await harness.destroyer().run_once()).destroyed == 1
    assert await harness.keys_under("keep/") == await harness.keys_under("r/") == []
    assert await harness.rows("select recording_id from private.object_moves") == []
    assert (await harness.protection().run_once()).moved == 0


@pytest.mark.parametrize("has_locks", [False, True])
async def test_protected_and_released_recordings_are_no_drift(
    harness: RetentionHarness, troubled: TroubledStorage, has_locks: bool
) -> None:
    """The hourly check of the bucket uses its own SQL query to decide which objects need protection. The query of
    the hourly check must select the same objects as the query of the service that protects objects.
    """
    patient = await harness.patient()
    await with_sound(harness, await harness.consultation(patient))
    await harness.recording(await harness.consultation(patient), status="FAILED")
    shared = await harness.consultation(patient)
    await harness.rows(
        "update resguardo.consultations set scheduled_at = scheduled_at - interval '30 days' where id = %s",
        shared,
    )
    held = await harness.recording(shared)
    hold = await harness.hold(recorded_since=harness.time - DAY, recorded_until=harness.time + DAY)
    await harness.move_to(harness.time + 2 * DAY)
    free = await harness.recording(shared)
    locks = Locks() if has_locks else None
    troubled.locks = locks
    guard = harness.protection(troubled, locks)
    assert (await guard.run_once()).waiting == 0
    rules = tuple(locks.rules) if locks else None
    assert await drifts(harness, rules) == []
    assert (await harness.key_of(held)).startswith("keep/")
    assert (await harness.key_of(free)).startswith("r/")
    await harness.release(hold)
    assert len(await drifts(harness, rules)) == (2 if has_locks else 0), (
        "the lock rules of a released hold are a drift"
    )
    await guard.run_once()
    assert await drifts(harness, tuple(locks.rules) if locks else None) == []


async def drifts(harness: RetentionHarness, rules: tuple[LockRule, ...] | None) -> list[Drift]:
    held = [Prefix(**row) for row in await harness.rows("select * from private.protected_prefixes()")]
    return find_hold_drifts(held, [], rules)


async def test_recording_does_not_get_a_key_without_a_stored_move(harness: RetentionHarness) -> None:
    recording, other = await harness.recording(), await harness.recording()
    key = await harness.key_of(recording)
    keep = "select private.keep_object(%s, %s, %s)"
    assert await harness.value(keep, recording, key, key.replace("r/d90/", "keep/")) is False
    await harness.rows("select * from private.begin_move(%s)", recording)
    for wrong in (f"keep/{uuid4()}", await harness.key_of(other)):
        assert await harness.value(keep, recording, key, wrong) is False
    assert (
        await harness.value(keep, other, await harness.key_of(other), key.replace("r/d90/", "keep/")) is False
    )
    assert await harness.key_of(recording) == key


async def test_what_failed_without_an_object_is_kept_by_its_row_alone(harness: RetentionHarness) -> None:
    recording = await harness.recording(status="FAILED")
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    assert (await harness.protection().run_once()).moved == 1
    assert (await harness.key_of(recording)).startswith("keep/")
    assert await harness.keys_under("keep/") == []
    assert await harness.rows("select recording_id from private.object_moves") == []


async def test_recording_with_a_key_without_a_class_moves_too(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    old, new = await harness.key_of(recording), f"r/standard/{uuid4()}/{recording}/video.mp4"
    await harness.storage.put_new(new, b"old", "video/mp4")
    await harness.storage.delete(old)
    await harness.rows(
        "update private.recording_secrets set object_key = %s where recording_id = %s", new, recording
    )
    await harness.rows("update resguardo.recordings set retention_class = 'keep' where id = %s", recording)
    patient = await harness.patient_of(recording)
    await harness.hold(patient_id=patient)
    assert (await harness.protection().run_once()).moved == 1
    await is_settled(harness, recording)
    assert await harness.key_of(recording) == new.replace("r/standard/", "keep/")


async def test_a_large_object_is_copied_in_parts_and_a_replaced_one_is_refused(
    harness: RetentionHarness,
) -> None:
    content = bytes(range(256)) * 4096 * 11  # 11 MiB
    await harness.storage.put_new("r/d90/large", content, "video/mp4")
    stored = await harness.storage.head("r/d90/large")
    assert stored is not None
    await harness.storage.copy("r/d90/large", "keep/large", stored, part_bytes=5 * 1024 * 1024)
    copied = await harness.storage.head("keep/large")
    assert copied is not None
    assert (copied.size_bytes, copied.content_type) == (len(content), "video/mp4")
    assert await harness.storage.sha256("keep/large", copied) == await harness.storage.sha256(
        "r/d90/large", stored
    )
    assert [one async for page in harness.storage.list_uploads("") for one in page.uploads] == []
    for parts in (5 * 1024 * 1024, 64 * 1024 * 1024):
        await _refused(harness, "r/d90/large", replace(stored, etag="0" * 32), parts)
        await _refused(harness, "r/d90/none", stored, parts)


async def _refused(harness: RetentionHarness, source: str, stored: StoredObject, part_bytes: int) -> None:
    with pytest.raises(Conflict, match="storage_object_changed"):
        await harness.storage.copy(source, "keep/refused", stored, part_bytes=part_bytes)
    assert await harness.storage.head("keep/refused") is None
    assert [one async for page in harness.storage.list_uploads("") for one in page.uploads] == []
