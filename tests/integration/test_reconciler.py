"""Without any webhook, the reconciler updates each recording to the state that LiveKit's list and the bucket show,
and no recording stays in an unfinished state forever.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import httpx
import pytest
from livekit.protocol.egress import EgressStatus

from app.bucket.lost_objects import LostObjects
from app.consultations.model import ParticipantKind
from app.errors import Timeout, UpstreamFailed
from app.integrations.livekit.client import EgressSnapshot, LiveKit, S3Target
from app.recordings.deadlines import Deadlines
from app.recordings.egress_liveness import MISSES, RECORDER_GONE, RECORDER_SILENT
from app.recordings.egress_stops import STOP_PAUSE
from app.recordings.model import Medium, RecordingStatus, SoundMode
from app.recordings.reconcile_report import ReconcileReport
from app.recordings.transitions import TRANSITIONS, mark_failed, mark_lost
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.recording_harness import DOCTOR, KEY, SECRET, RecordingHarness, asker, opened
from tests.practice import practice_of

pytestmark = pytest.mark.anyio

DEADLINES = Deadlines()
A_MOMENT = timedelta(seconds=1)
STRAYS = "select reason from audit.events where action = 'egress.stop_stray' order by recorded_at"


@pytest.fixture
async def harness(database: Database, object_store: ObjectStore) -> AsyncIterator[RecordingHarness]:
    async with opened(database, object_store) as made:
        yield made


async def _until(
    harness: RecordingHarness, recording_id: UUID, *statuses: RecordingStatus
) -> ReconcileReport:
    """Run passes of the reconciler until the recording has one of these statuses. Return the report of the
    reconciler's final pass.
    """
    async with asyncio.timeout(20):
        while True:
            report = await harness.reconciler.run_once()
            if (await harness.read(recording_id)).status in statuses:
                return report
            await asyncio.sleep(0.02)


async def _ask_in_vain(harness: RecordingHarness, recording_id: UUID) -> None:
    """Request the start of an egress, while LiveKit neither answers the request nor starts the egress."""
    harness.order("hang_start", seconds=60)
    async with LiveKit(harness.livekit_url, KEY, SECRET, start_timeout_seconds=0.2) as hasty:
        with pytest.raises(Timeout):
            await harness.jobs_of(hasty).starter.start(recording_id)


async def _missed(harness: RecordingHarness, gone_for: timedelta) -> None:
    """Run as many passes of the reconciler as it needs to declare an egress dead. The passes of the reconciler are
    spread over the duration `gone_for`.
    """
    for _ in range(MISSES):
        await harness.reconciler.run_once()
        harness.ahead += gone_for / (MISSES - 1)
    await harness.reconciler.run_once()


async def test_recording_of_which_no_webhook_ever_comes_is_ready_all_the_same(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    await harness.jobs.starter.start(recording_id)
    await _until(harness, recording_id, RecordingStatus.RECORDING)
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.jobs.updates.stop(recording_id)
    await _until(harness, recording_id, RecordingStatus.VERIFYING)
    assert harness.queued().count("verify_recording") == 1
    await harness.jobs.verifier.verify(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.READY


async def test_pass_changes_nothing_if_all_states_agree(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    await harness.reconciler.run_once()  # Stores the SID of the recorder in the room
    before = await harness.read(recording_id)
    report = await harness.reconciler.run_once()
    assert (report.egresses, report.unfinished, report.problems) == (1, 1, 0)
    assert (report.moved, report.strays_stopped, report.missing, report.stopped_for_consent) == (0, 0, 0, 0)
    assert await harness.read(recording_id) == before


async def test_start_whose_answer_never_came_is_adopted_by_the_pass(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    await _until(harness, recording_id, RecordingStatus.RECORDING)
    (egress,) = await harness.egresses()
    assert (await harness.read(recording_id)).egress_id == egress.egress_id


async def test_start_without_an_egress_fails_and_frees_the_consultation(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, recording_id)
    harness.ahead = DEADLINES.unlisted_start + A_MOMENT
    await harness.reconciler.run_once()
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "egress_start_unknown")
    harness.ahead = timedelta()
    await harness.recording()


async def test_egress_that_turns_up_after_its_start_was_given_up_is_stopped(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    await harness.jobs.transitions.apply(
        recording_id, lambda current, _: mark_failed(current, "egress_start_unknown")
    )
    report = await harness.reconciler.run_once()
    assert report.strays_stopped == 1
    assert (await harness.until_egress("complete", "aborted")).is_over
    assert harness.rows(STRAYS) == [("no_intent",)]
    assert (await harness.read(recording_id)).status is RecordingStatus.FAILED


async def test_second_egress_of_one_recording_is_stopped_and_its_object_is_another(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    key = (await harness.object_key(recording_id)).replace("video.mp4", "video-2.mp4")
    second = await harness.livekit.start_room_composite(
        room_name=harness.consultation.room_name, object_key=key, upload=await harness._target(key)
    )
    async with asyncio.timeout(20):
        while not (await harness.livekit.list_egress(egress_id=second.egress_id))[0].is_over:
            await harness.reconciler.run_once()
            await asyncio.sleep(0.02)
    assert harness.rows(STRAYS) == [("not_its_recording",)]
    assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING
    assert (await harness.object_key(recording_id)).endswith("/video.mp4")


async def test_second_ask_has_a_key_of_its_own_and_a_late_first_is_adopted_with_its_key(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, recording_id)
    first = await harness.object_key(recording_id)
    harness.ahead = timedelta(seconds=61)
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    assert (await harness.object_key(recording_id)).endswith("/video-2.mp4")
    async with AsyncExitStack() as stack:
        late = await harness.livekit.start_room_composite(
            room_name=harness.consultation.room_name, object_key=first, upload=await harness._target(first)
        )
        stack.push_async_callback(harness.livekit.stop_egress, late.egress_id)
        await _until(harness, recording_id, RecordingStatus.RECORDING, RecordingStatus.STARTING)
        await harness.reconciler.run_once()
        adopted = await harness.read(recording_id)
        listed = {one.egress_id: one for one in await harness.egresses()}
        assert adopted.egress_id in listed
        assert listed[adopted.egress_id].object_key == await harness.object_key(recording_id)
        others = [one for one in listed.values() if one.egress_id != adopted.egress_id]
        assert [one.status in ("starting", "active") for one in others] == [False]


async def test_start_of_an_outage_is_neither_failed_nor_lost_before_half_an_hour(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    await harness.jobs.starter.give_up(recording_id, "livekit_unavailable")
    for at in (DEADLINES.unlisted_start, DEADLINES.unreadable_start - timedelta(minutes=1)):
        harness.ahead = at + A_MOMENT
        harness.order("list_unavailable")
        with pytest.raises(UpstreamFailed):
            await harness.reconciler.run_once()
        assert (await harness.read(recording_id)).status is RecordingStatus.STARTING
    harness.ahead = timedelta()
    await _until(harness, recording_id, RecordingStatus.RECORDING)


async def test_start_of_a_long_outage_is_lost_and_its_object_stays_its_own(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    harness.ahead = DEADLINES.unreadable_start + A_MOMENT
    harness.order("list_unavailable")
    with pytest.raises(UpstreamFailed):
        await harness.reconciler.run_once()
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_start_unknown")
    key = await harness.object_key(recording_id)
    assert harness.rows("select private.unknown_object_keys(array[%s])", key) == [([],)]


async def test_end_of_an_earlier_ask_is_not_adopted_while_a_later_one_is_on_its_way(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, recording_id)
    first, start = await harness.object_key(recording_id), harness.livekit.start_room_composite
    harness.ahead = timedelta(seconds=61)

    async def late(*, room_name: str, object_key: str, upload: S3Target) -> EgressSnapshot:
        harness.order("abort_start")
        await start(room_name=room_name, object_key=first, upload=await harness._target(first))
        await harness.until_egress("aborted")
        await harness.reconciler.run_once()
        return await start(room_name=room_name, object_key=object_key, upload=upload)

    monkeypatch.setattr(harness.livekit, "start_room_composite", late)
    await harness.jobs.starter.start(recording_id)
    recording = await _until(harness, recording_id, RecordingStatus.RECORDING)
    assert (await harness.object_key(recording_id)).endswith("/video-2.mp4"), recording


async def test_start_that_is_answered_after_its_end_is_stopped_at_once(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()
    start = harness.livekit.start_room_composite

    async def late(*, room_name: str, object_key: str, upload: S3Target) -> EgressSnapshot:
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        harness.ahead = DEADLINES.unlisted_start + A_MOMENT
        await harness.reconciler.run_once()
        return await start(room_name=room_name, object_key=object_key, upload=upload)

    monkeypatch.setattr(harness.livekit, "start_room_composite", late)
    await harness.jobs.starter.start(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.ABORTED
    assert (await harness.until_egress("ending", "complete", "aborted")).status != "active"


async def test_bucket_that_cannot_be_asked_suspends_no_deadline(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.recording()
    await harness.recordings.stop(asker(DOCTOR), recording_id)

    async def head(_: str) -> None:
        raise UpstreamFailed("storage_unreachable")

    monkeypatch.setattr(harness.storage, "head", head)
    await _recorder_leaves(harness)
    harness.order("list_empty", count=MISSES + 1)
    await _missed(harness, DEADLINES.stopping + A_MOMENT)
    assert (await harness.read(recording_id)).status is RecordingStatus.LOST


async def test_pass_detects_a_withdrawal_of_an_absent_participant(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    await harness.leave()
    await harness.withdraw()
    assert (await harness.reconciler.run_once()).stopped_for_consent == 1
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.STOPPING, "consent_withdrawn")
    await harness.jobs.transitions.apply(recording_id, lambda current, _: mark_lost(current, "stop_overdue"))
    assert (await harness.read(recording_id)).error == "consent_withdrawn"


async def test_sound_of_a_video_that_was_ended_by_hand_is_stopped(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, separate_speakers=True) as harness:
        recording_id = await harness.recording()
        (sound,) = await harness.sound_of(recording_id)
        await harness.jobs.starter.start(sound.id)
        harness.rows(
            "update resguardo.recordings set status = 'ABORTED' where id = %s returning id", recording_id
        )
        await _until(
            harness, sound.id, RecordingStatus.STOPPING, RecordingStatus.ABORTED, RecordingStatus.VERIFYING
        )


async def test_egress_in_a_room_of_ours_without_any_intent_is_stopped_and_reported_once(
    harness: RecordingHarness,
) -> None:
    key = f"keep/{harness.consultation.id}/{uuid4()}/video.mp4"
    await harness.livekit.start_room_composite(
        room_name=harness.consultation.room_name, object_key=key, upload=await harness._target(key)
    )
    await harness.reconciler.run_once()
    await harness.until_egress("complete", "aborted", "ending")
    await harness.reconciler.run_once()
    assert harness.rows(STRAYS) == [("no_intent",)]


@pytest.mark.parametrize("is_stray", [True, False])
async def test_egress_that_never_ends_is_asked_to_stop_with_growing_pauses_and_logged_once(
    harness: RecordingHarness,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_stray: bool,
) -> None:
    if is_stray:
        key = f"keep/{harness.consultation.id}/{uuid4()}/video.mp4"
        egress_id = (
            await harness.livekit.start_room_composite(
                room_name=harness.consultation.room_name, object_key=key, upload=await harness._target(key)
            )
        ).egress_id
    else:
        recording_id = await harness.recording()
        egress_id = (await harness.egresses())[0].egress_id
        await harness.recordings.stop(asker(DOCTOR), recording_id)
    asked: list[float] = []

    async def stop(_: LiveKit, asked_for: str) -> str:
        assert asked_for == egress_id
        asked.append(harness.ahead.total_seconds())
        raise Timeout("livekit_timeout")

    monkeypatch.setattr(LiveKit, "stop_egress", stop)
    for _ in range(75):  # Within the half hour that a stop may take
        await harness.reconciler.run_once()
        harness.ahead += timedelta(seconds=20)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == sorted(pauses)
    assert pauses[:2] == [20, STOP_PAUSE.total_seconds()]
    assert 4 <= len(asked) <= 6
    assert sum("livekit_timeout" in record.getMessage() for record in caplog.records) == 1


async def test_rooms_of_other_applications_are_not_changed(harness: RecordingHarness) -> None:
    async with LiveKit(harness.livekit_url, KEY, SECRET) as others:
        token = others.join_token(identity="p", room="another_room", metadata="{}")
        await _enter(harness, token)
        target = await harness._target("x.mp4")
        egress = await others.start_room_composite(
            room_name="another_room", object_key="x.mp4", upload=target
        )
        report = await harness.reconciler.run_once()
        assert (report.egresses, report.strays_stopped) == (0, 0)
        (listed,) = await others.list_egress(egress_id=egress.egress_id)
        assert not listed.is_over


async def _enter(harness: RecordingHarness, token: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{harness.livekit_url}/stand-in/join", json={"token": token})
    assert answer.is_success


async def test_egress_that_is_listed_no_more_is_lost_only_after_several_passes(
    harness: RecordingHarness,
) -> None:
    harness.order("forget")
    recording_id = await _begun(harness)
    for _ in range(MISSES - 1):
        report = await harness.reconciler.run_once()
        assert (report.missing, report.lost) == (0, 0)  # The recorder is still in the room
    await _recorder_leaves(harness)
    await _missed(harness, timedelta(minutes=1))
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_lost")


async def _begun(harness: RecordingHarness) -> UUID:
    recording_id = await harness.request()
    await harness.jobs.starter.start(recording_id)
    return recording_id


async def _recorder_leaves(harness: RecordingHarness) -> None:
    room = harness.consultation.room_name
    for one in await harness.livekit.participants(room):
        if one.kind == "egress":
            harness.stand_in.rooms.leave_recorder(room, one.identity)


async def test_recorder_that_comes_back_into_its_room_marks_the_recording_interrupted(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    await harness.reconciler.run_once()
    assert not (await harness.read(recording_id)).interrupted
    await _recorder_leaves(harness)
    await harness.reconciler.run_once()
    (egress,) = await harness.egresses()
    harness.stand_in.rooms.join_recorder(harness.consultation.room_name, egress.egress_id)
    await harness.reconciler.run_once()
    assert (await harness.read(recording_id)).interrupted
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.jobs.updates.stop(recording_id)
    await _until(harness, recording_id, RecordingStatus.VERIFYING)
    await harness.jobs.verifier.verify(recording_id)
    ready = await harness.read(recording_id)
    assert (ready.status, ready.interrupted, ready.truncated) == (RecordingStatus.READY, True, False)


async def test_list_that_is_empty_once_or_fails_proves_nothing(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    before = await harness.read(recording_id)
    await _recorder_leaves(harness)
    harness.order("list_empty")
    assert (await harness.reconciler.run_once()).missing == 1
    harness.ahead = timedelta(hours=1)
    harness.order("list_unavailable")
    with pytest.raises(UpstreamFailed):
        await harness.reconciler.run_once()
    harness.ahead = timedelta(hours=2)
    await harness.reconciler.run_once()
    harness.order("list_empty")
    assert (await harness.reconciler.run_once()).missing == 1
    assert await harness.read(recording_id) == before


@pytest.fixture
def says_nothing_of_recorders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a LiveKit server that does not report whether an egress's recorder is connected."""

    async def recorder_answers(*_: object) -> None:
        return None

    monkeypatch.setattr(LiveKit, "recorder_answers", recorder_answers)


@pytest.mark.usefixtures("says_nothing_of_recorders")
async def test_zombie_in_a_room_that_is_gone_is_lost_after_five_minutes(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, departure_timeout_seconds=0.05) as harness:
        harness.order("die")
        recording_id = await _begun(harness)
        await _until(harness, recording_id, RecordingStatus.RECORDING)
        await harness.leave()
        async with asyncio.timeout(20):
            while await harness.livekit.rooms([harness.consultation.room_name]):  # noqa: ASYNC110 - no event comes
                await asyncio.sleep(0.02)
        await _missed(harness, RECORDER_GONE / 2)
        assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING
        harness.ahead += RECORDER_GONE
        await harness.reconciler.run_once()
        recording = await harness.read(recording_id)
        assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_lost")


@pytest.mark.usefixtures("says_nothing_of_recorders")
async def test_egress_that_is_gone_from_its_room_is_lost_though_it_is_listed_and_people_are_there(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    room = harness.consultation.room_name
    await harness.reconciler.run_once()
    await _node_dies(harness)
    await _missed(harness, RECORDER_GONE / 2)
    assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING
    harness.ahead += RECORDER_GONE
    await harness.reconciler.run_once()
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_lost")
    (listed,) = await harness.egresses()
    assert (listed.status, await harness.livekit.rooms([room]) != []) == ("active", True)


async def _until_recorder(harness: RecordingHarness, *, is_there: bool) -> None:
    """Wait until the egress's recorder is connected to the room. If `is_there` is false, wait until the recorder is
    no longer connected.
    """
    room = harness.consultation.room_name
    async with asyncio.timeout(20):
        while any(one.kind == "egress" for one in await harness.livekit.connected(room)) is not is_there:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _node_dies(harness: RecordingHarness) -> EgressSnapshot:
    """Let the server that runs the egress's recorder die, and wait until LiveKit has noticed the death. Return the
    egress as LiveKit listed it before the death of this server.
    """
    (egress,) = await harness.egresses()
    harness.stand_in.recorder.die(egress.egress_id)
    await _until_recorder(harness, is_there=False)
    return egress


async def _pass_by(harness: RecordingHarness, duration: timedelta, passes: int) -> None:
    """Run this number of passes of the reconciler, spread evenly over `duration`."""
    for _ in range(passes - 1):
        await harness.reconciler.run_once()
        harness.ahead += duration / (passes - 1)
    await harness.reconciler.run_once()


async def test_ghost_recorder_is_lost_within_two_minutes_and_the_doctor_can_record_again(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    await harness.stand_in.crash(with_recorders=True)
    (egress,) = await harness.egresses()
    there = {one.identity for one in await harness.livekit.participants(harness.consultation.room_name)}
    assert (egress.status, egress.egress_id in there) == ("active", True)
    await _pass_by(harness, timedelta(seconds=100), 6)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_lost")
    await harness.join()
    assert await harness.recording() != recording_id


async def test_recorder_of_a_dead_node_is_lost_within_two_minutes_though_somebody_stops_it(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    await _node_dies(harness)
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await _pass_by(harness, timedelta(seconds=100), 6)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_lost")


async def test_recorder_that_dies_while_it_uploads_is_lost_within_two_minutes(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    egress = await _node_dies(harness)
    harness.stand_in.recorder.rows.row(egress.egress_id).info.status = EgressStatus.EGRESS_ENDING
    await _pass_by(harness, timedelta(seconds=100), 6)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "egress_lost")


async def test_recorder_that_lives_through_a_crash_of_the_server_records_on_and_is_interrupted(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    await harness.reconciler.run_once()
    await harness.stand_in.crash()
    await _until_recorder(harness, is_there=True)
    await _pass_by(harness, timedelta(hours=1), 20)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.interrupted) == (RecordingStatus.RECORDING, True)


async def test_recorder_that_answers_is_never_lost_though_it_is_gone_from_its_room(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    await harness.reconciler.run_once()
    await _recorder_leaves(harness)
    await _pass_by(harness, timedelta(hours=3), 20)
    assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING


async def test_recorder_that_is_connected_is_never_lost_though_it_does_not_answer(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.recording()

    async def recorder_answers(*_: object) -> bool:
        return False

    monkeypatch.setattr(LiveKit, "recorder_answers", recorder_answers)
    await _pass_by(harness, timedelta(hours=3), 20)
    assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING


async def test_recorder_silent_in_fewer_passes_than_it_takes_is_not_lost_by_a_leap_of_the_clock(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.recording()
    answers = LiveKit.recorder_answers

    async def silent(*_: object) -> bool:
        return False

    await _recorder_leaves(harness)
    for _ in range(5):
        monkeypatch.setattr(LiveKit, "recorder_answers", silent)
        await _pass_by(harness, timedelta(minutes=30), MISSES - 1)
        monkeypatch.setattr(LiveKit, "recorder_answers", answers)
        await harness.reconciler.run_once()
    assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING


async def test_dead_recorder_is_not_lost_before_a_minute_of_silence(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    await harness.stand_in.crash(with_recorders=True)
    await _pass_by(harness, RECORDER_SILENT / 2, 10)
    assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING
    harness.ahead += RECORDER_SILENT
    await harness.reconciler.run_once()
    assert (await harness.read(recording_id)).status is RecordingStatus.LOST


async def test_room_records_by_itself_only_once_its_people_are_there_and_no_ghosts(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, auto_record=True) as harness:
        await harness.stand_in.crash()
        await harness.join(harness.participant(ParticipantKind.PATIENT))
        assert (await harness.reconciler.run_once()).started_by_themselves == 0
        await harness.join()
        assert (await harness.reconciler.run_once()).started_by_themselves == 1


async def test_impossible_value_affects_only_its_own_recording(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.recording()
    (egress,) = await harness.egresses()
    wrong = replace(egress, updated_at=_later(egress), duration_seconds=-1)

    async def list_egress(**_: object) -> list[EgressSnapshot]:
        return [wrong]

    monkeypatch.setattr(harness.livekit, "list_egress", list_egress)
    harness.ahead = DEADLINES.recording + A_MOMENT
    report = await harness.reconciler.run_once()
    assert (report.problems, report.overdue) == (1, 1)
    assert (await harness.read(recording_id)).status is RecordingStatus.STOPPING


async def test_unknown_egress_status_is_logged_and_changes_nothing(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.recording()
    await harness.reconciler.run_once()  # Stores the SID of the recorder in the room
    (egress,) = await harness.egresses()
    before, strange = await harness.read(recording_id), replace(egress, status="unknown")

    async def list_egress(**_: object) -> list[EgressSnapshot]:
        return [strange]

    monkeypatch.setattr(harness.livekit, "list_egress", list_egress)
    report = await harness.reconciler.run_once()
    assert (report.problems, report.missing, report.strays_stopped) == (1, 0, 0)
    assert await harness.read(recording_id) == before


async def test_object_of_a_given_up_start_belongs_to_no_recording(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    key = await harness.object_key(recording_id)
    unknown = "select private.unknown_object_keys(array[%s])"
    assert harness.rows(unknown, key) == [([],)]
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.jobs.transitions.apply(
        recording_id, lambda current, _: replace(current, status=RecordingStatus.ABORTED)
    )
    assert harness.rows(unknown, key) == [([key],)]


def _later(egress: EgressSnapshot) -> datetime:
    assert egress.updated_at is not None
    return egress.updated_at + A_MOMENT


async def test_dead_egress_whose_object_is_there_is_verified_and_ready(harness: RecordingHarness) -> None:
    recording_id = await _lost_with(harness, await _media(harness))
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.VERIFYING, "egress_lost")
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.truncated) == (RecordingStatus.READY, True)


async def test_lost_recording_whose_object_turns_up_is_ready(harness: RecordingHarness) -> None:
    recording_id = await _lost_with(harness, None)
    assert (await harness.read(recording_id)).status is RecordingStatus.LOST
    looks = LostObjects(harness.worker, harness.storage, clock=harness.clock)
    assert await looks.run_once() == 0
    await harness.storage.put_new(await harness.object_key(recording_id), await _media(harness), "video/mp4")
    assert await looks.run_once() == 0
    harness.ahead += timedelta(minutes=5)
    assert await looks.run_once() == 1
    assert harness.queued()[-1] == "verify_recording"
    await harness.jobs.verifier.verify(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.READY
    assert harness.transitions(recording_id)[-1] == "LOST>READY:egress_lost"


async def test_lost_recording_whose_object_is_no_recording_stays_lost_and_is_looked_at_once(
    harness: RecordingHarness,
) -> None:
    recording_id = await _lost_with(harness, None)
    await harness.storage.put_new(await harness.object_key(recording_id), b"#EXTM3U\n", "video/mp4")
    looks, found = LostObjects(harness.worker, harness.storage, clock=harness.clock), []
    for _ in range(3):
        found.append(await looks.run_once())
        harness.ahead += timedelta(hours=1)
    assert found == [1, 0, 0]
    await harness.jobs.verifier.verify(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.LOST


async def _media(harness: RecordingHarness) -> bytes:
    return await asyncio.to_thread(harness.stand_in.recorder.media.path.read_bytes)


async def _lost_with(harness: RecordingHarness, content: bytes | None) -> UUID:
    harness.order("forget")
    recording_id = await _begun(harness)
    await asyncio.sleep(0.1)
    await _recorder_leaves(harness)
    if content is not None:
        await harness.storage.put_new(await harness.object_key(recording_id), content, "video/mp4")
    await _missed(harness, timedelta(minutes=1))
    return recording_id


async def test_start_that_never_gets_going_is_stopped_and_fails(harness: RecordingHarness) -> None:
    harness.order("no_start_signal")
    recording_id = await _begun(harness)
    await harness.reconciler.run_once()
    assert (await harness.read(recording_id)).status is RecordingStatus.STARTING
    harness.ahead = DEADLINES.start + A_MOMENT
    report = await harness.reconciler.run_once()
    assert report.overdue == 1
    assert (await harness.read(recording_id)).status is RecordingStatus.STOPPING
    await harness.jobs.updates.stop(recording_id)
    await _until(harness, recording_id, RecordingStatus.FAILED)
    assert (await harness.read(recording_id)).error == "start_overdue"


async def test_recording_over_the_limit_is_stopped_with_an_error(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    harness.ahead = DEADLINES.recording + A_MOMENT
    await harness.reconciler.run_once()
    harness.ahead = timedelta()
    await harness.jobs.updates.stop(recording_id)
    await _until(harness, recording_id, RecordingStatus.VERIFYING)
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.truncated, recording.error) == (
        RecordingStatus.READY,
        True,
        "limit_reached",
    )


async def test_stop_that_livekit_forgot_is_asked_again(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    harness.ahead = timedelta(seconds=61)
    await _until(harness, recording_id, RecordingStatus.VERIFYING)


async def test_late_joiner_without_consent_stops_the_recording_and_the_doctor_can_see_why(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.recording()
    with practice_of(harness.database.superuser_url) as practice:
        guest = practice.participant(
            harness.consultation.id, "GUEST", guest_role="INTERPRETER", joined_at=practice.now()
        )
    await harness.join(guest)
    report = await harness.reconciler.run_once()
    assert report.stopped_for_consent == 1
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.STOPPING, "consent_missing")


async def test_identity_that_is_not_ours_stops_the_recording(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    await harness.join("somebody")
    await harness.reconciler.run_once()
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.STOPPING, "unknown_participant")


async def test_nothing_is_started_with_a_stranger_in_the_room(harness: RecordingHarness) -> None:
    await harness.join("somebody")
    recording_id = await _begun(harness)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "unknown_participant")
    assert await harness.egresses() == []


async def test_consultation_that_is_recorded_by_itself_is_recorded_once(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, auto_record=True) as harness:
        assert (
            await harness.reconciler.run_once()
        ).started_by_themselves == 0  # The patient is not there yet
        await harness.join(harness.participant(ParticipantKind.PATIENT))
        looks = await asyncio.gather(*(harness.reconciler.run_once() for _ in range(3)))
        assert sum(look.started_by_themselves for look in looks) == 1
        ((recording_id,),) = harness.rows("select id from resguardo.recordings")
        await harness.jobs.starter.start(recording_id)
        await harness.until(recording_id, RecordingStatus.RECORDING)
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        assert (await harness.reconciler.run_once()).started_by_themselves == 0
        assert len(harness.rows("select id from resguardo.recordings")) == 1


async def test_consultation_without_consent_is_not_recorded_by_itself(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, auto_record=True) as harness:
        await harness.withdraw()
        await harness.join(harness.participant(ParticipantKind.PATIENT))
        assert (await harness.reconciler.run_once()).started_by_themselves == 0
        assert harness.rows("select id from resguardo.recordings") == []


async def test_microphones_are_recorded_beside_the_video_and_stop_with_it(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, separate_speakers=True) as harness:
        await harness.join(harness.participant(ParticipantKind.PATIENT))
        recording_id = await harness.recording()
        parts = [part.id for part in await harness.sound_of(recording_id)]
        assert len(parts) == 2
        for part in parts:
            await harness.jobs.starter.start(part)
            await _until(harness, part, RecordingStatus.RECORDING)
        assert len(await harness.egresses()) == 3
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        await harness.jobs.updates.stop(recording_id)
        for part in parts:
            assert (await harness.read(part)).status is RecordingStatus.STOPPING
            await harness.jobs.updates.stop(part)
        for each in (recording_id, *parts):
            await _until(harness, each, RecordingStatus.VERIFYING)
            await harness.jobs.verifier.verify(each)
            assert (await harness.read(each)).status is RecordingStatus.READY
        keys = [(await harness.object_key(each)).rpartition("/") for each in (recording_id, *parts)]
        assert [name for _, _, name in keys] == ["video.mp4", *(f"microphone-{part}.mp4" for part in parts)]
        assert len({folder for folder, _, _ in keys}) == 1


async def test_video_alone_is_enough_when_a_microphone_fails(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, separate_speakers=True) as harness:
        recording_id = await harness.recording()
        (part,) = await harness.sound_of(recording_id)
        harness.order("refuse_start", code="resource_exhausted")
        await harness.jobs.starter.start(part.id)
        assert (await harness.read(part.id)).status is RecordingStatus.FAILED
        assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING


async def test_microphone_that_is_unpublished_ends_by_itself(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(database, object_store, separate_speakers=True) as harness:
        recording_id = await harness.recording()
        (part,) = await harness.sound_of(recording_id)
        await harness.jobs.starter.start(part.id)
        await _until(harness, part.id, RecordingStatus.RECORDING)
        await harness.republish()
        await _until(harness, part.id, RecordingStatus.VERIFYING)
        await harness.jobs.verifier.verify(part.id)
        new = [one for one in await harness.sound_of(recording_id) if one.id != part.id]
        assert (await harness.read(part.id)).status is RecordingStatus.READY
        assert [one.participant_id for one in new] == [part.participant_id]
        assert part.track_sid not in {one.track_sid for one in new}
        assert (await harness.read(recording_id)).status is RecordingStatus.RECORDING


async def test_speakers_are_recorded_by_routes_where_they_are_set(
    database: Database, object_store: ObjectStore
) -> None:
    async with opened(
        database, object_store, sound=SoundMode(is_routed=True), separate_speakers=True
    ) as harness:
        await harness.join(harness.participant(ParticipantKind.PATIENT))
        recording_id = await harness.recording()
        (speakers,) = await harness.sound_of(recording_id)
        await harness.jobs.starter.start(speakers.id)
        await _until(harness, speakers.id, RecordingStatus.RECORDING)
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        await harness.jobs.updates.stop(recording_id)
        await harness.jobs.updates.stop(speakers.id)
        await _until(harness, speakers.id, RecordingStatus.VERIFYING)
        await harness.jobs.verifier.verify(speakers.id)
        ready = await harness.read(speakers.id)
        assert (ready.status, ready.medium, ready.is_routed) == (RecordingStatus.READY, Medium.SPEAKERS, True)


async def test_database_allows_every_transition_of_the_model(harness: RecordingHarness) -> None:
    for before, after in ((one, other) for one in RecordingStatus for other in RecordingStatus):
        ((may,),) = harness.rows("select private.may_become(%s, %s)", before.value, after.value)
        assert may == (before is after or after in TRANSITIONS[before]), (before, after)


async def test_failure_of_one_recording_does_not_affect_the_others(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    harness.order("rooms_unavailable", count=1)
    with pytest.raises(UpstreamFailed):
        await harness.reconciler.run_once()
    harness.ahead = timedelta(seconds=61)
    harness.order("stop_times_out")
    report = await harness.reconciler.run_once()
    assert report.problems == 1
    await _until(harness, recording_id, RecordingStatus.VERIFYING)
