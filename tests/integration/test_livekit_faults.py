"""Tests of each fault that the LiveKit stand-in can cause, seen through our adapter and the received webhooks."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from livekit.api import LiveKitAPI, ServerError
from livekit.protocol.egress import (
    AudioMixing,
    EncodedFileOutput,
    EncodedFileType,
    RoomCompositeEgressRequest,
    S3Upload,
)
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.webhook import WebhookEvent as VendorEvent

from app.errors import InvalidInput, Timeout, UpstreamFailed
from app.integrations.livekit.client import LiveKitRefused, S3Target, WebhookVerifier, is_definite
from devstack.livekit import Order, Pace, signed
from devstack.livekit.media import generate_silence
from devstack.livekit.orders import KINDS
from devstack.object_store import ObjectStore
from tests.integration.livekit_world import (
    KEY,
    OBJECT_KEY,
    ROOM,
    SECRET,
    SPEAKERS_KEY,
    World,
    opened,
    stored,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[World]:
    async with opened() as world:
        yield world


def asked(**changes: object) -> RoomCompositeEgressRequest:
    """Return a start request as another program would send it."""
    s3 = S3Upload(access_key="a", secret="s", bucket="b", endpoint="http://127.0.0.1:1")
    output = EncodedFileOutput(filepath="stray", s3=s3, file_type=changes.pop("file_type", 0))  # type: ignore[arg-type]
    return RoomCompositeEgressRequest(room_name=ROOM, file_outputs=[output], **changes)  # type: ignore[arg-type]


async def test_speakers_are_recorded_beside_the_video(target: S3Target, store: ObjectStore) -> None:
    async with opened() as world:
        await world.join()
        video, speakers = await world.start(target), await world.start_speakers(target)
        for one in (video, speakers):
            await world.until(one.egress_id, "active")
        keys = {one.object_key for one in await world.livekit.list_egress(room_name=ROOM)}
        assert keys == {OBJECT_KEY, SPEAKERS_KEY}
        assert not (await world.listed(speakers.egress_id)).is_over
        for one in (video, speakers):
            await world.livekit.stop_egress(one.egress_id)
        done = [await world.until(one.egress_id, "complete") for one in (video, speakers)]
    found = await asyncio.to_thread(stored, store, SPEAKERS_KEY)
    assert found is not None
    assert all(one.is_over for one in done)
    assert (found.content_type, done[1].size_bytes) == ("audio/ogg", len(found.content))
    assert done[1].duration_seconds == pytest.approx(done[0].duration_seconds, abs=0.05)


@pytest.mark.parametrize(("drawn", "is_swapped"), [(0.9, False), (0.1, True)])
async def test_alternating_speakers_take_the_sides_by_chance(
    target: S3Target, store: ObjectStore, tmp_path: Path, drawn: float, is_swapped: bool
) -> None:
    given = generate_silence(tmp_path / "talk.ogg", 2)
    async with opened(audio=given.path) as world:
        world.stand_in.recorder._chance = Drawn(drawn)
        await world.join()
        started = await world.start_speakers(target)
        await world.until(started.egress_id, "active")
        await world.livekit.stop_egress(started.egress_id)
        ended = await world.until(started.egress_id, "complete")
    found = await asyncio.to_thread(stored, store, SPEAKERS_KEY)
    assert found is not None
    assert (found.content == given.path.read_bytes()) is not is_swapped
    assert ended.duration_seconds == pytest.approx(given.duration_seconds, abs=0.05)


class Drawn(random.Random):
    """A random generator that always returns the same value."""

    def __init__(self, drawn: float) -> None:
        super().__init__(0)
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"file_type": EncodedFileType.OGG}, "invalid_argument"),
        ({"audio_only": True, "video_only": True}, "invalid_argument"),
        ({"audio_only": True, "file_type": EncodedFileType.MP3}, "unimplemented"),
    ],
)
async def test_start_is_refused_as_livekit_would(world: World, changes: dict[str, object], code: str) -> None:
    await world.join()
    async with LiveKitAPI(world.url, KEY, SECRET) as api:
        with pytest.raises(ServerError) as refused:
            await api.egress.start_room_composite_egress(asked(**changes))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("changes", "filename"),
    [
        ({}, "stray.mp4"),
        ({"audio_only": True}, "stray.ogg"),
        ({"audio_only": True, "layout": "grid", "audio_mixing": AudioMixing.DUAL_CHANNEL_AGENT}, "stray.ogg"),
    ],
)
async def test_stray_recording_is_listed_among_all(
    world: World, changes: dict[str, object], filename: str
) -> None:
    await world.join()
    async with LiveKitAPI(world.url, KEY, SECRET) as api:
        info = await api.egress.start_room_composite_egress(asked(**changes))
    (found,) = await world.livekit.list_egress()
    assert (found.egress_id, found.object_key) == (info.egress_id, "stray")
    assert info.file_results[0].filename == info.file.filename == filename


async def test_all_recordings_are_listed_page_by_page_and_the_running_alone(world: World) -> None:
    await world.join()
    world.stand_in.orders.add(Order("abort_start"))
    ids = [(await world.start()).egress_id for _ in range(5)]
    over = [one for one in ids if await is_aborted(world, one)]
    world.stand_in.recorder.rows.page_size = 2
    assert [one.egress_id for one in await world.livekit.list_egress()] == ids
    running = await world.livekit.list_egress(active_only=True)
    assert {one.egress_id for one in running} == set(ids) - set(over)
    assert len(over) == 1


async def is_aborted(world: World, egress_id: str) -> bool:
    async with asyncio.timeout(10):
        while (found := await world.listed(egress_id)).status == "starting":  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.01)
    return found.status == "aborted"


async def test_every_open_room_is_listed_when_none_is_named(world: World) -> None:
    await world.join()
    await world.join(room="another")
    assert {one.name for one in await world.livekit.rooms(None)} == {ROOM, "another"}
    assert await world.livekit.rooms([]) == []


async def test_unknown_person_joins_and_is_put_out(world: World) -> None:
    stranger = {"room": ROOM, "identity": "a stranger"}
    assert (await world.post("join", stranger)).status_code == 401
    assert (await world.control("join", stranger | {"x": 1})).status_code == 400
    joined = (await world.control("join", stranger)).json()
    (person,) = await world.livekit.participants(ROOM)
    assert (person.identity, person.sid, person.is_publisher) == (
        "a stranger",
        joined["participant_sid"],
        True,
    )
    await world.livekit.remove_participant(ROOM, "a stranger")
    await world.livekit.remove_participant(ROOM, "a stranger")
    assert await world.livekit.participants(ROOM) == []


async def test_webhooks_tell_of_people_tracks_and_recorders(world: World) -> None:
    someone = {"room": ROOM, "identity": "p"}
    await world.control("join", someone | {"publishes": False})
    started = await world.start()
    await world.receiver.until(lambda: len(joined_events(world)) == 2)
    for path in ("publish", "unpublish", "leave"):
        assert (await world.control(path, someone)).status_code == 204
    assert (await world.control("leave", someone)).status_code == 404
    await world.receiver.until(lambda: "egress_ended" in world.receiver.names())
    await world.stand_in.notifier.idle()
    told = [
        (one.event, one.participant.identity)
        for one in world.receiver.vendor_events()
        if not one.event.startswith("egress_")
    ]
    recorder = started.egress_id
    assert told == [
        ("room_started", ""),
        ("participant_joined", "p"),
        ("participant_joined", recorder),
        ("track_published", "p"),
        ("track_published", "p"),
        ("track_unpublished", "p"),
        ("track_unpublished", "p"),
        ("participant_left", "p"),
        ("participant_left", recorder),
        ("room_finished", ""),
    ]
    kinds = {one.participant.identity: one.participant.kind for one in joined_events(world)}
    assert kinds == {"p": ParticipantInfo.Kind.STANDARD, recorder: ParticipantInfo.Kind.EGRESS}
    track = next(one for one in world.receiver.vendor_events() if one.event == "track_published")
    assert track.track.sid.startswith("TR_")
    assert (track.participant.state, track.room.name) == (0, ROOM)


def joined_events(world: World) -> list[VendorEvent]:
    return [one for one in world.receiver.vendor_events() if one.event == "participant_joined"]


@pytest.mark.parametrize(
    ("kind", "status", "code", "reason"),
    [
        ("fail_start", "failed", 412, "start_not_received"),
        ("abort_start", "aborted", 412, "start_not_received"),
    ],
)
async def test_recording_ends_before_it_began(
    world: World, kind: str, status: str, code: int, reason: str
) -> None:
    world.stand_in.orders.add(Order(kind))
    await world.join()
    ended = await world.until((await world.start()).egress_id, status)
    assert (ended.error_code, ended.error_reason, ended.is_over) == (code, reason, True)
    await world.receiver.until(lambda: "egress_ended" in world.receiver.names())
    assert world.receiver.names() == ["egress_started", "egress_ended"]


async def test_recording_never_begins_although_people_publish(world: World) -> None:
    world.stand_in.orders.add(Order("no_start_signal", file="video.mp4"))
    await world.join()
    video, speakers = await world.start(), await world.start_speakers()
    await world.until(speakers.egress_id, "active")
    assert (await world.listed(video.egress_id)).status == "starting"
    assert await world.livekit.stop_egress(video.egress_id) == "stopping"
    assert (await world.until(video.egress_id, "aborted")).error_reason == "stopped_before_start"


async def test_recording_ends_at_the_limit_with_a_whole_file(target: S3Target, store: ObjectStore) -> None:
    async with opened() as world:
        world.stand_in.orders.add(Order("limit_reached", seconds=0.05))
        await world.join()
        ended = await world.until((await world.start(target)).egress_id, "limit_reached")
        assert (ended.error_code, ended.error_reason, ended.is_over) == (413, "limit_reached", True)
        await world.receiver.until(lambda: "egress_ended" in world.receiver.names())
        assert world.receiver.names() == ["egress_started", "egress_updated", "egress_ended"]
    found = await asyncio.to_thread(stored, store)
    assert found is not None
    assert ended.size_bytes == len(found.content)


async def test_recording_fails_although_its_object_is_stored(target: S3Target, store: ObjectStore) -> None:
    target_key = "r/10y/other/video.mp4"
    async with opened() as world:
        world.stand_in.orders.add(Order("fail_after_upload"))
        await world.join()
        started = await world.livekit.start_room_composite(
            room_name=ROOM, object_key=target_key, upload=target
        )
        await world.until(started.egress_id, "active")
        await world.livekit.stop_egress(started.egress_id)
        ended = await world.until(started.egress_id, "failed")
    assert (ended.error_code, ended.error_reason, ended.size_bytes) == (400, "upload_failed", None)
    assert await asyncio.to_thread(stored, store, target_key) is not None


async def test_object_is_stored_after_complete_was_listed(target: S3Target, store: ObjectStore) -> None:
    key = "r/10y/late/video.mp4"
    async with opened() as world:
        world.stand_in.orders.add(Order("upload_late", seconds=0.3))
        await world.join()
        started = await world.livekit.start_room_composite(room_name=ROOM, object_key=key, upload=target)
        await world.until(started.egress_id, "active")
        await world.livekit.stop_egress(started.egress_id)
        done = await world.until(started.egress_id, "complete")
        assert await asyncio.to_thread(stored, store, key) is None
        async with asyncio.timeout(10):
            while (found := await asyncio.to_thread(stored, store, key)) is None:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)
    assert done.size_bytes == len(found.content)


async def test_reported_size_differs_from_the_object(target: S3Target, store: ObjectStore) -> None:
    async with opened() as world:
        world.stand_in.orders.add(Order("size_differs"))
        done = await world.record(target, until="complete")
    found = await asyncio.to_thread(stored, store)
    assert found is not None
    assert done.size_bytes == len(found.content) + 1


async def test_recording_is_forgotten_and_still_goes_on(world: World) -> None:
    world.stand_in.orders.add(Order("forget"))
    await world.join()
    started = await world.start()
    async with asyncio.timeout(10):
        while await world.livekit.list_egress(egress_id=started.egress_id):  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.01)
    assert await world.livekit.list_egress() == []
    assert started.egress_id in {one.identity for one in await world.livekit.participants(ROOM)}
    assert await world.livekit.stop_egress(started.egress_id) == "stopping"
    await world.receiver.until(lambda: "egress_ended" in world.receiver.names())
    assert await world.livekit.stop_egress(started.egress_id) == "not_found"


async def test_node_dies_and_row_is_lost_at_a_word(world: World) -> None:
    await world.join()
    started = await world.start()
    await world.until(started.egress_id, "active")
    assert (await world.control("die", {"egress_id": started.egress_id})).status_code == 204
    with pytest.raises(Timeout):
        await world.livekit.stop_egress(started.egress_id)
    await world.receiver.until(lambda: "participant_left" in world.receiver.names("participant_"))
    assert {one.kind for one in await world.livekit.participants(ROOM)} == {"standard"}
    assert (await world.listed(started.egress_id)).status == "active"
    assert (await world.control("forget", {"egress_id": started.egress_id})).status_code == 204
    assert await world.livekit.list_egress(egress_id=started.egress_id) == []
    assert (await world.control("forget", {"egress_id": started.egress_id})).status_code == 404


async def test_dead_recording_does_not_end_with_its_media() -> None:
    async with opened(pace=Pace(0.01, record_seconds=0.05, upload_backoff_seconds=0.001)) as world:
        world.stand_in.orders.add(Order("die"))
        await world.join()
        started = await world.start()
        await world.until(started.egress_id, "active")
        await asyncio.sleep(0.15)
        assert (await world.listed(started.egress_id)).status == "active"


@pytest.mark.parametrize("by_id", [True, False])
async def test_list_is_unavailable_or_empty_as_often_as_ordered(world: World, by_id: bool) -> None:
    await world.join()
    started = await world.start()
    egress_id = started.egress_id if by_id else None
    world.stand_in.orders.add(Order("list_unavailable", count=2))
    world.stand_in.orders.add(Order("list_empty", count=2))
    for _ in range(2):
        with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
            await world.livekit.list_egress(egress_id=egress_id)
    for _ in range(2):
        assert await world.livekit.list_egress(egress_id=egress_id) == []
    assert len(await world.livekit.list_egress(egress_id=egress_id)) == 1


async def test_rooms_are_unavailable_as_often_as_ordered(world: World) -> None:
    await world.join()
    world.stand_in.orders.add(Order("rooms_unavailable", count=2))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await world.livekit.rooms(None)
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await world.livekit.participants(ROOM)
    assert len(await world.livekit.rooms(None)) == 1


async def test_stop_times_out_and_then_works(world: World) -> None:
    await world.join()
    started = await world.start()
    await world.until(started.egress_id, "active")
    world.stand_in.orders.add(Order("stop_times_out", count=2))
    for _ in range(2):
        with pytest.raises(Timeout):
            await world.livekit.stop_egress(started.egress_id)
    assert (await world.listed(started.egress_id)).status == "active"
    world.stand_in.orders.add(Order("stop_but_times_out"))
    with pytest.raises(Timeout):
        await world.livekit.stop_egress(started.egress_id)
    await world.until(started.egress_id, "failed")


async def test_stop_is_refused_although_it_records(world: World) -> None:
    await world.join()
    started = await world.start()
    await world.until(started.egress_id, "active")
    world.stand_in.orders.add(Order("refuse_stop", code="failed_precondition"))
    assert await world.livekit.stop_egress(started.egress_id) == "already_ended"
    assert (await world.listed(started.egress_id)).status == "active"


async def test_start_is_unavailable_and_appears_later(world: World) -> None:
    await world.join()
    world.stand_in.orders.add(Order("late_start", seconds=0.2))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable") as lost:
        await world.start()
    assert not is_definite(lost.value)
    assert await world.livekit.list_egress() == []
    await world.receiver.until(lambda: "egress_started" in world.receiver.names())
    (found,) = await world.livekit.list_egress(room_name=ROOM)
    assert found.object_key == OBJECT_KEY


async def test_late_start_makes_its_room_anew_when_it_has_closed(world: World) -> None:
    await world.join()
    (before,) = await world.livekit.rooms([ROOM])
    world.stand_in.orders.add(Order("late_start", seconds=1))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await world.start()
    world.stand_in.rooms.delete(ROOM)
    await world.receiver.until(lambda: world.receiver.names("room_started") == ["room_started"] * 2)
    (after,) = await world.livekit.rooms([ROOM])
    (egress,) = await world.livekit.list_egress()
    assert (egress.status, after.sid == before.sid) == ("starting", False)
    assert [one.kind for one in await world.livekit.participants(ROOM)] == ["egress"]


async def test_late_start_never_appears_when_its_room_never_was(world: World) -> None:
    world.stand_in.orders.add(Order("late_start", seconds=0.01))
    with pytest.raises(LiveKitRefused, match="livekit_not_found"):
        await world.start()
    await asyncio.sleep(0.1)
    assert await world.livekit.list_egress() == []


async def test_start_is_answered_after_its_webhooks(world: World) -> None:
    await world.join()
    world.stand_in.orders.add(Order("answer_start_late", seconds=0.3))
    starting = asyncio.create_task(world.start())
    await world.receiver.until(lambda: "egress_updated" in world.receiver.names())
    assert not starting.done()
    told = {one.egress_id for one in world.receiver.events() if one.event == "egress_updated"}
    assert told == {(await starting).egress_id}


async def test_no_webhook_is_sent_until_told_otherwise(world: World) -> None:
    assert (await world.control("orders", {"order": "drop_all"})).status_code == 204
    await world.record(until="failed")
    assert world.receiver.bodies == []
    assert await world.orders() == ["drop_all"]
    assert (await world.orders_taken_back("drop_all")).status_code == 204
    assert await world.orders() == []
    await world.join("person-2")
    await world.stand_in.notifier.idle()
    assert world.receiver.names("participant_") == ["participant_joined"]


async def test_queued_webhooks_are_lost_in_a_restart_and_rows_are_not(world: World) -> None:
    world.stand_in.orders.add(Order("delay", event="egress_started", seconds=30))
    await world.join()
    started = await world.start()
    await world.until(started.egress_id, "active")
    assert (await world.control("restart", {})).status_code == 204
    assert world.receiver.names() == []
    assert (await world.listed(started.egress_id)).status == "active"
    await world.livekit.stop_egress(started.egress_id)
    await world.receiver.until(lambda: "egress_ended" in world.receiver.names())
    assert world.receiver.names() == ["egress_updated", "egress_ended"]


async def test_forged_notification_has_the_right_signature(world: World) -> None:
    forged = {
        "event": "egress_ended",
        "id": "EV_forged",
        "createdAt": "1795000000",
        "egressInfo": {"egressId": "EG_x", "roomName": ROOM, "status": "EGRESS_COMPLETE"},
    }
    assert (await world.post("forge", forged)).status_code == 401
    assert (await world.control("forge", forged)).json() == {"status": 200}
    world.receiver.answers = [503]
    assert (await world.control("forge", forged)).json() == {"status": 503}
    assert {(one.event_id, one.egress_id) for one in world.receiver.events()} == {("EV_forged", "EG_x")}


def test_notification_of_any_content_is_signed() -> None:
    verifier = WebhookVerifier({KEY: SECRET})
    made = signed(VendorEvent(event="room_finished"), KEY, SECRET)
    event = verifier.verify(made.body, made.headers["authorization"])
    assert event.event == "room_finished"
    assert event.event_id.startswith("EV_")
    false = signed({"event": "egress_ended", "egressInfo": {"status": "EGRESS_MADE_UP"}}, KEY, SECRET)
    with pytest.raises(InvalidInput, match="webhook_status"):
        verifier.verify(false.body, false.headers["authorization"])


@pytest.mark.parametrize("kind", KINDS)
async def test_every_order_is_taken_and_listed_over_http(world: World, kind: str) -> None:
    assert (await world.control("orders", {"order": kind, "count": 2})).status_code == 204
    assert await world.orders() == [kind]


@pytest.mark.parametrize(
    "wrong",
    [{"order": "die", "event": "x"}, {"order": "drop", "file": "x"}, {"order": "refuse_stop", "code": "x"}],
)
async def test_order_is_refused_when_it_is_narrowed_by_what_it_does_not_act_on(
    world: World, wrong: dict[str, object]
) -> None:
    assert (await world.control("orders", wrong)).status_code == 400


async def test_control_is_refused_without_the_secret(world: World) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for method, path in (
            ("GET", "orders"),
            ("DELETE", "orders"),
            ("POST", "restart"),
            ("POST", "die"),
            ("POST", "forget"),
            ("POST", "publish"),
            ("POST", "unpublish"),
        ):
            assert (await client.request(method, f"{world.url}/stand-in/{path}")).status_code == 401
