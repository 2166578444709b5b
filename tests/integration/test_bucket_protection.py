"""Tests that objects under a legal hold or with a longer term survive the bucket's lifecycle rule, on a real
Postgres and a real store with a moved clock.
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
from tests.integration.keeping_world import DAY, World, open_transactions, opened

pytestmark = pytest.mark.anyio

FIXED = LockRule("fixed-ledger", "ledger/")
FOREIGN = LockRule("of-somebody", "audit/", max_age_seconds=60)
AUDITED = "select entity_ids, patient_ids, consultation_ids from audit.events where action = 'object.keep' order by id"


@dataclass
class Locks:
    """The bucket's lock rules, with a count of their replacements."""

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
    """Raised in place of the death of the process between two lines."""


class TroubledStorage(InterceptedStorage):
    """An object store that kills its worker before or after its n-th call. A locked object cannot be deleted, as in
    R2.
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
async def world(database: Database, emptied_store: ObjectStore) -> AsyncIterator[World]:
    async with opened(database, emptied_store) as world:
        await world.adopt()
        yield world


@pytest.fixture
def troubled(emptied_store: ObjectStore) -> Iterator[TroubledStorage]:
    storage = TroubledStorage(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    yield storage
    storage.close()


async def with_sound(world: World, consultation: UUID | None = None) -> tuple[UUID, UUID]:
    video = await world.recording(consultation, content=b"picture")
    of = await world.value("select consultation_id from resguardo.recordings where id = %s", video)
    return video, await world.recording(of, medium="SPEAKERS", video_id=video, content=b"sound")


async def is_settled(world: World, *recordings: UUID) -> None:
    """Require that the object of each recording is under `keep/`, and that no other copy exists."""
    keys = [await world.key_of(one) for one in recordings]
    assert all(key.startswith("keep/") for key in keys), keys
    assert sorted(await world.keys_under("keep/")) == sorted(keys)
    assert await world.keys_under("r/") == []
    assert await world.rows("select recording_id from private.object_moves") == []
    classes = await world.rows(
        "select retention_class from resguardo.recordings where id = any(%s)", [*recordings]
    )
    assert {row["retention_class"] for row in classes} == {"keep"}


async def test_what_is_held_moves_to_keep_with_its_sound_and_the_rest_stays(world: World) -> None:
    video, sound = await with_sound(world)
    other = await world.recording()
    old_key = await world.key_of(video)
    consultation = await world.value("select consultation_id from resguardo.recordings where id = %s", video)
    await world.hold(consultation_id=consultation)
    report = await world.protection().run_once()
    assert (report.moved, report.locked, report.waiting) == (1, 0, 0)
    assert await world.keys_under("r/") == [await world.key_of(other)]
    await world.storage.delete(await world.key_of(other))
    await is_settled(world, video, sound)
    assert await world.key_of(video) == old_key.replace("r/d90/", "keep/")
    assert await world.storage.get_small(await world.key_of(video), 100) == b"picture"
    assert await world.storage.get_small(await world.key_of(sound), 100) == b"sound"
    stored = await world.storage.head(await world.key_of(video))
    assert stored is not None
    assert stored.content_type == "video/mp4"
    audited = await world.rows(AUDITED)
    assert sorted(row["entity_ids"][0] for row in audited) == sorted((video, sound))
    assert {row["consultation_ids"][0] for row in audited} == {consultation}


async def test_an_open_access_request_protects_and_a_closed_one_does_not(world: World) -> None:
    recordings = {status: await world.recording() for status in ("OPEN", "APPROVED", "DENIED", "WITHDRAWN")}
    for status, recording in recordings.items():
        await world.rows(
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
    assert (await world.protection().run_once()).moved == 2
    kept = {status for status, one in recordings.items() if (await world.key_of(one)).startswith("keep/")}
    assert kept == {"OPEN", "APPROVED"}


async def test_what_has_outgrown_its_class_moves_to_keep(world: World) -> None:
    outgrown, in_time = await world.recording(), await world.recording()
    await world.rows(
        "update resguardo.recordings set due_at = due_at + interval '30 days' where id = %s", outgrown
    )
    assert (await world.protection().run_once()).moved == 1
    assert (await world.key_of(outgrown)).startswith("keep/")
    assert (await world.key_of(in_time)).startswith("r/d90/")


async def test_a_hold_by_date_covers_from_the_first_moment_to_before_the_last(world: World) -> None:
    first = await world.recording()
    await world.move_to(world.time + DAY)
    behind = await world.recording()
    await world.hold(recorded_since=world.time - DAY, recorded_until=world.time)
    await world.protection().run_once()
    assert (await world.key_of(first)).startswith("keep/")
    assert (await world.key_of(behind)).startswith("r/")


async def test_what_is_not_finished_waits_and_moves_when_it_is(world: World) -> None:
    recording = await world.recording(status="VERIFYING")
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    assert (await world.protection().run_once()).waiting == 1
    key = await world.key_of(recording)
    assert key.startswith("r/d90/")
    await world.storage.put_new(key, b"late", "video/mp4")
    await world.rows("update resguardo.recordings set status = 'READY' where id = %s", recording)
    assert (await world.protection().run_once()).moved == 1
    await is_settled(world, recording)


async def test_what_lost_its_object_is_left_where_it_is(world: World) -> None:
    recording = await world.recording()
    await world.storage.delete(await world.key_of(recording))
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    guard = world.protection()
    assert (await guard.run_once()).moved == 0
    assert (await guard.run_once()).waiting == 0
    assert (await world.key_of(recording)).startswith("r/d90/")
    assert await world.rows("select recording_id from private.object_moves") == []
    reads = "select id from audit.events where action = 'recording.read_key' and reason = 'object_move'"
    assert len(await world.rows(reads)) == 1, "the second pass read the object key again"


@pytest.mark.parametrize("is_killed_after", [False, True])
async def test_killed_at_any_call_and_run_again_it_ends_the_same(
    world: World, troubled: TroubledStorage, is_killed_after: bool
) -> None:
    patient = await world.patient()
    await world.hold(patient_id=patient)
    calls, was_killed = 0, True
    while was_killed:
        for key in await world.keys_under("keep/"):
            await world.storage.delete(key)
        video, sound = await with_sound(world, await world.consultation(patient))
        troubled.calls_left, troubled.is_killed_after, was_killed = calls, is_killed_after, False
        try:
            await world.protection(troubled).run_once()
        except Killed:
            was_killed = True
        for one in (video, sound):
            assert await world.storage.head(await world.key_of(one)) is not None, "an object is lost"
        await world.protection().run_once()
        await is_settled(world, video, sound)
        calls += 1
    assert calls > 8


async def test_two_at_once_come_to_the_same(world: World) -> None:
    patient = await world.patient()
    made = [await with_sound(world, await world.consultation(patient)) for _ in range(3)]
    await world.hold(patient_id=patient)
    await asyncio.gather(*(world.protection().run_once() for _ in range(3)))
    await world.protection().run_once()
    await is_settled(world, *(one for pair in made for one in pair))
    for video, _ in made:
        assert await world.storage.get_small(await world.key_of(video), 100) == b"picture"


async def test_what_is_being_destroyed_is_not_moved_and_leaves_no_copy(
    world: World, troubled: TroubledStorage
) -> None:
    recording = await world.recording()
    await world.rows(
        "update resguardo.recordings set due_at = due_at + interval '30 days' where id = %s", recording
    )
    key = await world.key_of(recording)
    stored = await world.storage.head(key)
    assert stored is not None
    await world.rows("select * from private.begin_move(%s)", recording)
    await world.storage.copy(key, key.replace("r/d90/", "keep/"), stored)
    await world.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, status)"
        " select id, consultation_id, doctor_id, patient_id, 'RETENTION', 'DELETING' from resguardo.recordings"
        " where id = %s",
        recording,
    )
    assert (await world.protection().run_once()).moved == 0
    assert await world.keys_under("keep/") == []
    assert await world.keys_under("r/") == [key] == [await world.key_of(recording)]
    assert await world.rows("select recording_id from private.object_moves") == []


async def test_a_copy_whose_source_the_bucket_dropped_is_all_there_is_and_is_kept(world: World) -> None:
    recording = await world.recording()
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    key = await world.key_of(recording)
    stored = await world.storage.head(key)
    assert stored is not None
    await world.rows("select * from private.begin_move(%s)", recording)
    await world.storage.copy(key, key.replace("r/d90/", "keep/"), stored)
    await world.storage.delete(key)
    assert (await world.protection().run_once()).moved == 1
    await is_settled(world, recording)


async def test_another_bucket_is_left_alone(world: World) -> None:
    recording = await world.recording()
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await BucketProtection(world.worker, world.storage, None, deployment="other").run_once()
    assert (await world.key_of(recording)).startswith("r/d90/")


async def test_a_consultation_that_is_wholly_held_is_locked_and_unlocked_with_its_last_hold(
    world: World, troubled: TroubledStorage
) -> None:
    video, _ = await with_sound(world)
    consultation = await world.value("select consultation_id from resguardo.recordings where id = %s", video)
    patient = await world.patient_of(video)
    holds = [await world.hold(consultation_id=consultation), await world.hold(patient_id=patient)]
    locks = Locks()
    troubled.locks = locks
    guard = world.protection(troubled, locks)
    for _ in range(2):
        report = await guard.run_once()
        assert (report.locked, report.moved, report.waiting) == (1, 0, 0)
    assert locks.prefixes == [f"r/d90/{consultation}/"]
    assert locks.replaced == 1
    assert set(locks.rules) > {FIXED, FOREIGN}
    await world.release(holds[0])
    await guard.run_once()
    assert locks.prefixes == [f"r/d90/{consultation}/"]
    await world.release(holds[1])
    await guard.run_once()
    assert locks.rules == [FIXED, FOREIGN]
    assert len(await world.keys_under("r/")) == 2


async def test_a_consultation_that_is_held_in_part_is_not_locked_what_is_held_moves(
    world: World, troubled: TroubledStorage
) -> None:
    consultation = await world.consultation()
    await world.rows("update resguardo.consultations set scheduled_at = scheduled_at - interval '30 days'")
    held = await world.recording(consultation)
    locks = Locks()
    troubled.locks = locks
    guard = world.protection(troubled, locks)
    await world.hold(recorded_since=world.time, recorded_until=world.time + DAY)
    assert (await guard.run_once()).locked == 1
    await world.move_to(world.time + 2 * DAY)
    free = await world.recording(consultation)
    report = await guard.run_once()
    assert (report.locked, report.moved) == (0, 1)
    assert locks.prefixes == []
    await guard.run_once()
    assert await world.keys_under("r/") == [await world.key_of(free)]
    assert (await world.key_of(held)).startswith("keep/")


async def test_what_is_locked_and_outgrows_its_class_moves_and_loses_its_lock_then_its_source(
    world: World, troubled: TroubledStorage
) -> None:
    recording = await world.recording()
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    locks = Locks()
    troubled.locks = locks
    guard = world.protection(troubled, locks)
    await guard.run_once()
    await world.rows(
        "update resguardo.recordings set due_at = due_at + interval '1 year' where id = %s", recording
    )
    assert (await guard.run_once()).moved == 1
    assert (await world.key_of(recording)).startswith("keep/")
    assert len(await world.keys_under("r/")) == 1
    assert locks.prefixes == []
    await guard.run_once()
    await is_settled(world, recording)


async def test_past_the_rules_that_a_bucket_may_have_the_rest_moves(
    world: World, troubled: TroubledStorage
) -> None:
    recordings = []
    for _ in range(3):
        recordings.append(await world.recording())
        await world.move_to(world.time + timedelta(hours=1))
    await world.hold(recorded_since=world.time - DAY, recorded_until=world.time + DAY)
    locks = Locks([LockRule(f"other-{n}", f"x/{n}/") for n in range(MAX_LOCK_RULES - 2)])
    troubled.locks = locks
    report = await world.protection(troubled, locks).run_once()
    assert (report.locked, report.moved, report.waiting) == (2, 1, 0)
    assert len(locks.rules) == MAX_LOCK_RULES
    assert (await world.key_of(recordings[2])).startswith("keep/")
    assert len(await world.keys_under("r/")) == 2


async def test_no_transaction_is_open_while_cloudflare_answers(world: World) -> None:
    """A slow vendor must not keep a database transaction open."""
    seen: list[int] = []

    class WatchedLocks(Locks):
        async def read_locks(self) -> tuple[LockRule, ...]:
            seen.append(open_transactions(world.database))
            return await super().read_locks()

        async def replace_locks(self, rules: Sequence[LockRule]) -> None:
            seen.append(open_transactions(world.database))
            await super().replace_locks(rules)

    recording = await world.recording()
    consultation = await world.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    await world.hold(consultation_id=consultation)
    locks = WatchedLocks()
    assert (await world.protection(locks=locks).run_once()).locked == 1
    assert seen == [0, 0]


async def test_law_7_rules_are_not_written_by_a_process_that_lost_its_turn(world: World) -> None:
    """A process that is frozen after it read the rules must not write them back over a newer change."""

    class Overtaken(Locks):
        async def read_locks(self) -> tuple[LockRule, ...]:
            await world.rows("update private.turns set holder = gen_random_uuid() where of = 'bucket'")
            return await super().read_locks()

    recording = await world.recording()
    consultation = await world.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    await world.hold(consultation_id=consultation)
    locks = Overtaken()
    with pytest.raises(Conflict, match="bucket_rules_busy"):
        await world.protection(locks=locks).run_once()
    assert locks.replaced == 0


def test_locks_planned_keep_what_stands_first_and_mend_what_is_none() -> None:
    standing = plan_locks([FIXED], ["r/d90/a/", "r/d90/b/"])
    assert plan_locks(standing, ["r/d90/b/", "r/d90/c/"])[1].prefix == "r/d90/b/"
    room = [LockRule(f"x-{n}", f"x/{n}/") for n in range(MAX_LOCK_RULES - 1)]
    full = plan_locks(room, ["r/d90/a/"])
    assert plan_locks(full, ["r/d90/new/", "r/d90/a/"]) == full, "a new lock replaced an existing lock"
    lifted = [replace(standing[1], enabled=False), replace(standing[2], max_age_seconds=60)]
    mended = plan_locks([FIXED, *lifted], ["r/d90/a/", "r/d90/b/"])
    assert all(rule.enabled and rule.is_indefinite for rule in mended)
    assert len({rule.id for rule in mended}) == len(mended) == 3


async def test_held_is_said_alike_of_one_and_of_all(world: World) -> None:
    patient = await world.patient()
    consultation = await world.consultation(patient)
    recordings = [
        await world.recording(consultation),
        await world.recording(await world.consultation(patient)),
    ]
    await world.move_to(world.time + DAY)
    recordings += [await world.recording(), await world.recording()]
    for scope in (
        {"consultation_id": consultation},
        {"patient_id": patient},
        {"recorded_since": world.time, "recorded_until": world.time + DAY},
    ):
        hold = await world.hold(**scope)
        singly = await world.rows("select id from resguardo.recordings where private.is_held(id)")
        together = await world.rows("select h.id from private.held_videos() as h (id)")
        assert {row["id"] for row in singly} == {row["id"] for row in together}
        assert singly
        await world.release(hold)
    assert await world.rows("select h.id from private.held_videos() as h (id)") == []


@pytest.mark.parametrize("has_left_source", [False, True])
async def test_what_was_moved_is_destroyed_whole_once_it_is_due_and_released(
    world: World, has_left_source: bool
) -> None:
    video, sound = await with_sound(world)
    patient = await world.patient_of(video)
    old_keys = [await world.key_of(one) for one in (video, sound)]
    hold = await world.hold(patient_id=patient)
    await world.protection().run_once()
    if has_left_source:
        for recording, key in zip((video, sound), old_keys, strict=True):
            await world.storage.put_new(key, b"held by a lock until now", "video/mp4")
            await world.rows(
                "insert into private.object_moves (recording_id, source_key, target_key, kept_at)"
                " select recording_id, %s, object_key, now() from private.recording_secrets where recording_id = %s",
                key,
                recording,
            )
    await world.move_to(world.time + 200 * DAY)
    assert (await world.destroyer().run_once()).destroyed == 0
    await world.release(hold)
    if has_left_source:
        assert (await world.destroyer().run_once()).destroyed == 0, (
            "the move of one of its objects has not ended"
        )
        await world.protection().run_once()
    assert (await world.destroyer().run_once()).destroyed == 1
    assert await world.keys_under("keep/") == await world.keys_under("r/") == []
    assert await world.rows("select recording_id from private.object_moves") == []
    assert (await world.protection().run_once()).moved == 0


@pytest.mark.parametrize("has_locks", [False, True])
async def test_what_is_protected_is_no_drift_and_what_is_released_neither(
    world: World, troubled: TroubledStorage, has_locks: bool
) -> None:
    """The hourly check of the bucket decides with its own query which objects need protection. The check's query
    must agree with the query of the protection service.
    """
    patient = await world.patient()
    await with_sound(world, await world.consultation(patient))
    await world.recording(await world.consultation(patient), status="FAILED")
    shared = await world.consultation(patient)
    await world.rows(
        "update resguardo.consultations set scheduled_at = scheduled_at - interval '30 days' where id = %s",
        shared,
    )
    held = await world.recording(shared)
    hold = await world.hold(recorded_since=world.time - DAY, recorded_until=world.time + DAY)
    await world.move_to(world.time + 2 * DAY)
    free = await world.recording(shared)
    locks = Locks() if has_locks else None
    troubled.locks = locks
    guard = world.protection(troubled, locks)
    assert (await guard.run_once()).waiting == 0
    rules = tuple(locks.rules) if locks else None
    assert await drifts(world, rules) == []
    assert (await world.key_of(held)).startswith("keep/")
    assert (await world.key_of(free)).startswith("r/")
    await world.release(hold)
    assert len(await drifts(world, rules)) == (2 if has_locks else 0), (
        "the lock rules of a released hold are a drift"
    )
    await guard.run_once()
    assert await drifts(world, tuple(locks.rules) if locks else None) == []


async def drifts(world: World, rules: tuple[LockRule, ...] | None) -> list[Drift]:
    held = [Prefix(**row) for row in await world.rows("select * from private.protected_prefixes()")]
    return find_hold_drifts(held, [], rules)


async def test_a_key_is_not_moved_where_no_move_leads(world: World) -> None:
    recording, other = await world.recording(), await world.recording()
    key = await world.key_of(recording)
    keep = "select private.keep_object(%s, %s, %s)"
    assert await world.value(keep, recording, key, key.replace("r/d90/", "keep/")) is False
    await world.rows("select * from private.begin_move(%s)", recording)
    for wrong in (f"keep/{uuid4()}", await world.key_of(other)):
        assert await world.value(keep, recording, key, wrong) is False
    assert await world.value(keep, other, await world.key_of(other), key.replace("r/d90/", "keep/")) is False
    assert await world.key_of(recording) == key


async def test_what_failed_without_an_object_is_kept_by_its_row_alone(world: World) -> None:
    recording = await world.recording(status="FAILED")
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    assert (await world.protection().run_once()).moved == 1
    assert (await world.key_of(recording)).startswith("keep/")
    assert await world.keys_under("keep/") == []
    assert await world.rows("select recording_id from private.object_moves") == []


async def test_what_lies_where_it_lay_before_there_were_classes_moves_too(world: World) -> None:
    recording = await world.recording()
    old, new = await world.key_of(recording), f"r/standard/{uuid4()}/{recording}/video.mp4"
    await world.storage.put_new(new, b"old", "video/mp4")
    await world.storage.delete(old)
    await world.rows(
        "update private.recording_secrets set object_key = %s where recording_id = %s", new, recording
    )
    await world.rows("update resguardo.recordings set retention_class = 'keep' where id = %s", recording)
    patient = await world.patient_of(recording)
    await world.hold(patient_id=patient)
    assert (await world.protection().run_once()).moved == 1
    await is_settled(world, recording)
    assert await world.key_of(recording) == new.replace("r/standard/", "keep/")


async def test_a_large_object_is_copied_in_parts_and_a_replaced_one_is_refused(world: World) -> None:
    content = bytes(range(256)) * 4096 * 11  # 11 MiB
    await world.storage.put_new("r/d90/large", content, "video/mp4")
    stored = await world.storage.head("r/d90/large")
    assert stored is not None
    await world.storage.copy("r/d90/large", "keep/large", stored, part_bytes=5 * 1024 * 1024)
    copied = await world.storage.head("keep/large")
    assert copied is not None
    assert (copied.size_bytes, copied.content_type) == (len(content), "video/mp4")
    assert await world.storage.sha256("keep/large", copied) == await world.storage.sha256(
        "r/d90/large", stored
    )
    assert [one async for page in world.storage.list_uploads("") for one in page.uploads] == []
    for parts in (5 * 1024 * 1024, 64 * 1024 * 1024):
        await _refused(world, "r/d90/large", replace(stored, etag="0" * 32), parts)
        await _refused(world, "r/d90/none", stored, parts)


async def _refused(world: World, source: str, stored: StoredObject, part_bytes: int) -> None:
    with pytest.raises(Conflict, match="storage_object_changed"):
        await world.storage.copy(source, "keep/refused", stored, part_bytes=part_bytes)
    assert await world.storage.head("keep/refused") is None
    assert [one async for page in world.storage.list_uploads("") for one in page.uploads] == []
