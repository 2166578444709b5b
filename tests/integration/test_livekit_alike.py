"""Tests that the LiveKit stand-in behaves as livekit-server 1.13.5 with livekit/egress 1.9.1 did on 2026-11-29."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from livekit.api import LiveKitAPI, ServerError
from livekit.protocol.egress import EgressInfo, ListEgressRequest, StopEgressRequest
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import (
    CreateRoomRequest,
    ListParticipantsRequest,
    ListRoomsRequest,
    RoomParticipantIdentity,
)

from app.errors import UpstreamFailed
from app.integrations.livekit.client import is_definite
from devstack.livekit import Order, Pace
from devstack.livekit import pace as paces
from tests.integration.livekit_harness import KEY, ROOM, SECRET, LiveKitHarness, opened

pytestmark = pytest.mark.anyio

SLOW = Pace(start_delay_seconds=0.01, record_seconds=60, upload_backoff_seconds=0.001, scale=0.02)


@pytest.fixture
async def harness() -> AsyncIterator[LiveKitHarness]:
    async with opened(pace=SLOW) as made:
        yield made


@pytest.fixture
async def vendor(harness: LiveKitHarness) -> AsyncIterator[LiveKitAPI]:
    async with LiveKitAPI(harness.url, KEY, SECRET, failover=False) as api:
        yield api


async def _info(vendor: LiveKitAPI, egress_id: str) -> EgressInfo:
    (found,) = (await vendor.egress.list_egress(ListEgressRequest(egress_id=egress_id))).items
    return found


async def _recorders(vendor: LiveKitAPI) -> list[ParticipantInfo]:
    found = (await vendor.room.list_participants(ListParticipantsRequest(room=ROOM))).participants
    return [one for one in found if one.kind == ParticipantInfo.Kind.EGRESS]


async def _active(harness: LiveKitHarness) -> str:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    return started.egress_id


async def _refused(call: object) -> ServerError:
    with pytest.raises(ServerError) as refused:
        await call  # type: ignore[misc] # a coroutine of the vendor's client
    return refused.value


async def test_refusal_texts_begin_like_those_of_the_server(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    unknown = await _refused(vendor.egress.stop_egress(StopEgressRequest(egress_id="EG_unknown")))
    assert (unknown.status, unknown.message) == (404, "twirp error unknown: egress does not exist")
    nobody = await _refused(
        vendor.room.get_participant(RoomParticipantIdentity(room=ROOM, identity="nobody"))
    )
    assert (nobody.status, nobody.message) == (404, "twirp error unknown: participant does not exist")
    egress_id = await _active(harness)
    harness.stand_in.recorder.die(egress_id)
    dead = await _refused(vendor.egress.stop_egress(StopEgressRequest(egress_id=egress_id)))
    assert (dead.status, dead.message) == (408, "twirp error unknown: request timed out")


async def test_refusal_of_an_ended_egress_has_another_text(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    ended = await harness.record(until="failed")
    refused = await _refused(vendor.egress.stop_egress(StopEgressRequest(egress_id=ended.egress_id)))
    assert (refused.status, refused.message) == (412, "egress with status EGRESS_FAILED cannot be stopped")


async def test_stop_of_a_dead_recorder_is_answered_after_three_seconds(
    harness: LiveKitHarness, vendor: LiveKitAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = await harness.record(until="failed")
    waited: list[object] = []

    async def wait(real: object) -> None:
        waited.append(real)

    monkeypatch.setattr(harness.stand_in.delays, "wait", wait)
    for egress_id in ("EG_unknown", ended.egress_id):
        await _refused(vendor.egress.stop_egress(StopEgressRequest(egress_id=egress_id)))
    assert waited == [paces.SILENT_SECONDS] * 2


async def test_start_without_an_egress_service_is_answered_503_with_a_text(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("no_recorder", count=2))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable") as refused:
        await harness.start()
    assert (is_definite(refused.value), refused.value.detail["status"]) == (False, 503)
    assert await harness.livekit.list_egress() == []
    assert await harness.livekit.reachable() == "no_recorder"
    assert await harness.livekit.reachable() == "ok"


async def test_egresses_are_listed_in_a_different_order_by_each_call(harness: LiveKitHarness) -> None:
    await harness.join()
    for _ in range(5):
        await harness.start()
    orders = {tuple(one.egress_id for one in await harness.livekit.list_egress()) for _ in range(20)}
    assert len(orders) > 1


async def test_egress_webhooks_have_no_room_and_room_webhooks_have_its_secret(
    harness: LiveKitHarness,
) -> None:
    await harness.record(until="failed")
    told = harness.receiver.vendor_events()
    assert {one.HasField("room") for one in told if one.event.startswith("egress_")} == {False}
    rooms = [one.room for one in told if one.event.startswith(("room_", "participant_"))]
    assert all(room.turn_password and room.enabled_codecs for room in rooms)
    tracks = [one.room for one in told if one.event.startswith("track_")]
    assert [(room.name, room.turn_password) for room in tracks] == [(ROOM, "")] * len(tracks)
    assert "turn" not in repr(harness.receiver.events()).lower()


async def test_start_time_of_an_egress_changes_after_it_was_reported(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    egress_id = await _active(harness)
    await harness.stand_in.notifier.idle()
    (told,) = [one for one in harness.receiver.vendor_events() if one.event == "egress_started"]
    now = await _info(vendor, egress_id)
    assert told.egress_info.started_at < now.started_at < now.file_results[0].started_at


async def test_failed_upload_was_tried_five_times_and_has_an_end_and_a_duration(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    ended = await harness.record(until="failed")
    info = await _info(vendor, ended.egress_id)
    file = info.file_results[0]
    assert (info.error_code, file.size, file.location) == (400, 0, "")
    assert file.duration > 0
    assert info.ended_at >= file.ended_at > 0


async def test_recorder_whose_process_dies_has_failed_without_details(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    harness.stand_in.orders.add(Order("handler_dies"))
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "failed")
    info = await _info(vendor, started.egress_id)
    assert (info.error, info.error_code, info.details) == ("internal error", 500, "")
    assert info.file_results[0].started_at == 0
    assert (await harness.listed(started.egress_id)).error_reason == "failed"


async def test_room_that_closes_before_the_start_ends_it_without_a_signal(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    await vendor.room.create_room(CreateRoomRequest(name=ROOM))
    started = await harness.start()
    while not await _recorders(vendor):  # noqa: ASYNC110 - no event to wait for
        await asyncio.sleep(0.005)
    harness.stand_in.rooms.delete(ROOM)
    await harness.until(started.egress_id, "aborted")
    info = await _info(vendor, started.egress_id)
    assert (info.error, info.details) == ("Start signal not received", "End reason: Source closed")


async def test_browser_joins_before_it_records_and_leaves_long_after_its_end(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    await harness.join()
    started = await harness.start()
    assert await _recorders(vendor) == []
    await harness.until(started.egress_id, "active")
    await harness.stand_in.notifier.idle()
    entered = [
        one.participant for one in harness.receiver.vendor_events() if one.event == "participant_joined"
    ]
    assert [one.state for one in entered if one.identity == started.egress_id] == [
        ParticipantInfo.State.JOINED
    ]
    (recorder,) = await _recorders(vendor)
    assert (recorder.state, recorder.permission.hidden) == (ParticipantInfo.State.ACTIVE, True)
    await harness.livekit.stop_egress(started.egress_id)
    await harness.until(started.egress_id, "failed")
    (room,) = (await vendor.room.list_rooms(ListRoomsRequest(names=[ROOM]))).rooms
    assert (room.active_recording, len(await _recorders(vendor))) == (True, 1)


async def test_number_of_people_is_updated_late(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("scale", seconds=1000))
    await harness.join()
    (room,) = await harness.livekit.rooms([ROOM])
    assert (room.num_participants, len(await harness.livekit.participants(ROOM))) == (0, 1)


async def test_crash_keeps_rooms_and_people_listed_and_repeats_the_room_webhook(
    harness: LiveKitHarness,
) -> None:
    egress_id = await _active(harness)
    (before,) = await harness.livekit.rooms([ROOM])
    await harness.stand_in.crash(with_recorders=True)
    (after,) = await harness.livekit.rooms([ROOM])
    listed = {one.identity for one in await harness.livekit.participants(ROOM)}
    assert (after.sid, listed) == (before.sid, {egress_id, "person-1"})
    assert await harness.livekit.connected(ROOM) == []
    assert await harness.livekit.recorder_answers(egress_id) is False
    assert (await harness.listed(egress_id)).status == "active"
    await harness.join("person-2")
    await harness.receiver.until(lambda: len(harness.receiver.names("room_started")) == 2)
    started = [one.room.sid for one in harness.receiver.vendor_events() if one.event == "room_started"]
    assert started == [before.sid] * 2
    assert harness.receiver.names("room_finished") == []
    assert [one.identity for one in await harness.livekit.connected(ROOM)] == ["person-2"]


async def test_recorder_that_survives_a_crash_returns_with_another_sid(
    harness: LiveKitHarness, vendor: LiveKitAPI
) -> None:
    await _active(harness)
    (before,) = await _recorders(vendor)
    await harness.stand_in.crash()
    async with asyncio.timeout(20):
        while (await _recorders(vendor))[0].sid == before.sid:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.01)
    assert await harness.livekit.recorder_answers(before.identity) is True


async def test_running_recorder_answers_and_an_ended_recorder_is_unknown(harness: LiveKitHarness) -> None:
    egress_id = await _active(harness)
    assert await harness.livekit.recorder_answers(egress_id) is True
    await harness.livekit.stop_egress(egress_id)
    await harness.until(egress_id, "failed")
    assert await harness.livekit.recorder_answers(egress_id) is None
    assert await harness.livekit.recorder_answers("EG_unknown") is None
    assert await harness.livekit.is_connected(ROOM, "nobody") is False
