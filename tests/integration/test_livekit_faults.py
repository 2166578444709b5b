"""For each fault that the LiveKit stand-in can cause, tests what our LiveKit client returns and which webhooks
arrive.
"""

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
from tests.integration.livekit_harness import (
    KEY,
    OBJECT_KEY,
    ROOM,
    SECRET,
    SPEAKERS_KEY,
    LiveKitHarness,
    opened,
    stored,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def harness(anyio_backend: str) -> AsyncIterator[LiveKitHarness]:
    async with opened() as harness:
        yield harness


def asked(**changes: object) -> RoomCompositeEgressRequest:
    """Return the egress request with which a program other than Resguardo would start a recording."""
    s3 = S3Upload(access_key="a", secret="s", bucket="b", endpoint="http://127.0.0.1:1")
    output = EncodedFileOutput(filepath="stray", s3=s3, file_type=changes.pop("file_type", 0))  # type: ignore[arg-type]
    return RoomCompositeEgressRequest(room_name=ROOM, file_outputs=[output], **changes)  # type: ignore[arg-type]


async def test_speakers_are_recorded_beside_the_video(target: S3Target, store: ObjectStore) -> None:
    async with opened() as harness:
        await harness.join()
        video, speakers = await harness.start(target), await harness.start_speakers(target)
        for one in (video, speakers):
            await harness.until(one.egress_id, "active")
        keys = {one.object_key for one in await harness.livekit.list_egress(room_name=ROOM)}
        assert keys == {OBJECT_KEY, SPEAKERS_KEY}
        assert not (await harness.listed(speakers.egress_id)).is_over
        for one in (video, speakers):
            await harness.livekit.stop_egress(one.egress_id)
        done = [await harness.until(one.egress_id, "complete") for one in (video, speakers)]
    found = await asyncio.to_thread(stored, store, SPEAKERS_KEY)
    assert found is not None
    assert all(one.is_over for one in done)
    assert (found.content_type, done[1].size_bytes) == ("audio/ogg", len(found.content))
    assert done[1].duration_seconds == pytest.approx(done[0].duration_seconds, abs=0.05)


@pytest.mark.parametrize(("drawn", "is_swapped"), [(0.9, False), (0.1, True)])
async def test_alternating_speakers_get_random_channels(
    target: S3Target, store: ObjectStore, tmp_path: Path, drawn: float, is_swapped: bool
) -> None:
    given = generate_silence(tmp_path / "talk.ogg", 2)
    async with opened(audio=given.path) as harness:
        harness.stand_in.recorder._chance = Drawn(drawn)
        await harness.join()
        started = await harness.start_speakers(target)
        await harness.until(started.egress_id, "active")
        await harness.livekit.stop_egress(started.egress_id)
        ended = await harness.until(started.egress_id, "complete")
    found = await asyncio.to_thread(stored, store, SPEAKERS_KEY)
    assert found is not None
    assert (found.content == given.path.read_bytes()) is not is_swapped
    assert ended.duration_seconds == pytest.approx(given.duration_seconds, abs=0.05)


class Drawn(random.Random):
    """A random number generator that always returns the same value."""

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
async def test_start_is_refused_like_in_livekit(
    harness: LiveKitHarness, changes: dict[str, object], code: str
) -> None:
    await harness.join()
    async with LiveKitAPI(harness.url, KEY, SECRET) as api:
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
async def test_recording_of_another_program_is_listed(
    harness: LiveKitHarness, changes: dict[str, object], filename: str
) -> None:
    await harness.join()
    async with LiveKitAPI(harness.url, KEY, SECRET) as api:
        info = await api.egress.start_room_composite_egress(asked(**changes))
    (found,) = await harness.livekit.list_egress()
    assert (found.egress_id, found.object_key) == (info.egress_id, "stray")
    assert info.file_results[0].filename == info.file.filename == filename


async def test_recordings_are_listed_page_by_page_all_or_only_running_ones(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("abort_start"))
    ids = [(await harness.start()).egress_id for _ in range(5)]
    over = [one for one in ids if await is_aborted(harness, one)]
    harness.stand_in.recorder.rows.page_size = 2
    assert [one.egress_id for one in await harness.livekit.list_egress()] == ids
    running = await harness.livekit.list_egress(active_only=True)
    assert {one.egress_id for one in running} == set(ids) - set(over)
    assert len(over) == 1


async def is_aborted(harness: LiveKitHarness, egress_id: str) -> bool:
    async with asyncio.timeout(10):
        while (found := await harness.listed(egress_id)).status == "starting":  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.01)
    return found.status == "aborted"


async def test_every_open_room_is_listed_when_none_is_named(harness: LiveKitHarness) -> None:
    await harness.join()
    await harness.join(room="another")
    assert {one.name for one in await harness.livekit.rooms(None)} == {ROOM, "another"}
    assert await harness.livekit.rooms([]) == []


async def test_unknown_person_joins_and_is_removed(harness: LiveKitHarness) -> None:
    stranger = {"room": ROOM, "identity": "a stranger"}
    assert (await harness.post("join", stranger)).status_code == 401
    assert (await harness.control("join", stranger | {"x": 1})).status_code == 400
    joined = (await harness.control("join", stranger)).json()
    (person,) = await harness.livekit.participants(ROOM)
    assert (person.identity, person.sid, person.is_publisher) == (
        "a stranger",
        joined["participant_sid"],
        True,
    )
    await harness.livekit.remove_participant(ROOM, "a stranger")
    await harness.livekit.remove_participant(ROOM, "a stranger")
    assert await harness.livekit.participants(ROOM) == []


async def test_webhooks_report_people_tracks_and_recorders(harness: LiveKitHarness) -> None:
    someone = {"room": ROOM, "identity": "p"}
    await harness.control("join", someone | {"publishes": False})
    started = await harness.start()
    await harness.receiver.until(lambda: len(joined_events(harness)) == 2)
    for path in ("publish", "unpublish", "leave"):
        assert (await harness.control(path, someone)).status_code == 204
    assert (await harness.control("leave", someone)).status_code == 404
    await harness.receiver.until(lambda: "egress_ended" in harness.receiver.names())
    await harness.stand_in.notifier.idle()
    told = [
        (one.event, one.participant.identity)
        for one in harness.receiver.vendor_events()
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
    kinds = {one.participant.identity: one.participant.kind for one in joined_events(harness)}
    assert kinds == {"p": ParticipantInfo.Kind.STANDARD, recorder: ParticipantInfo.Kind.EGRESS}
    track = next(one for one in harness.receiver.vendor_events() if one.event == "track_published")
    assert track.track.sid.startswith("TR_")
    assert (track.participant.state, track.room.name) == (0, ROOM)


def joined_events(harness: LiveKitHarness) -> list[VendorEvent]:
    return [one for one in harness.receiver.vendor_events() if one.event == "participant_joined"]


@pytest.mark.parametrize(
    ("kind", "status", "code", "reason"),
    [
        ("fail_start", "failed", 412, "start_not_received"),
        ("abort_start", "aborted", 412, "start_not_received"),
    ],
)
async def test_recording_ends_before_it_began(
    harness: LiveKitHarness, kind: str, status: str, code: int, reason: str
) -> None:
    harness.stand_in.orders.add(Order(kind))
    await harness.join()
    ended = await harness.until((await harness.start()).egress_id, status)
    assert (ended.error_code, ended.error_reason, ended.is_over) == (code, reason, True)
    await harness.receiver.until(lambda: "egress_ended" in harness.receiver.names())
    assert harness.receiver.names() == ["egress_started", "egress_ended"]


async def test_recording_never_begins_although_people_publish(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("no_start_signal", file="video.mp4"))
    await harness.join()
    video, speakers = await harness.start(), await harness.start_speakers()
    await harness.until(speakers.egress_id, "active")
    assert (await harness.listed(video.egress_id)).status == "starting"
    assert await harness.livekit.stop_egress(video.egress_id) == "stopping"
    assert (await harness.until(video.egress_id, "aborted")).error_reason == "stopped_before_start"


async def test_recording_ends_at_the_limit_with_a_complete_file(target: S3Target, store: ObjectStore) -> None:
    async with opened() as harness:
        harness.stand_in.orders.add(Order("limit_reached", seconds=0.05))
        await harness.join()
        ended = await harness.until((await harness.start(target)).egress_id, "limit_reached")
        assert (ended.error_code, ended.error_reason, ended.is_over) == (413, "limit_reached", True)
        await harness.receiver.until(lambda: "egress_ended" in harness.receiver.names())
        assert harness.receiver.names() == ["egress_started", "egress_updated", "egress_ended"]
    found = await asyncio.to_thread(stored, store)
    assert found is not None
    assert ended.size_bytes == len(found.content)


async def test_recording_fails_although_its_object_is_stored(target: S3Target, store: ObjectStore) -> None:
    target_key = "r/10y/other/video.mp4"
    async with opened() as harness:
        harness.stand_in.orders.add(Order("fail_after_upload"))
        await harness.join()
        started = await harness.livekit.start_room_composite(
            room_name=ROOM, object_key=target_key, upload=target
        )
        await harness.until(started.egress_id, "active")
        await harness.livekit.stop_egress(started.egress_id)
        ended = await harness.until(started.egress_id, "failed")
    assert (ended.error_code, ended.error_reason, ended.size_bytes) == (400, "upload_failed", None)
    assert await asyncio.to_thread(stored, store, target_key) is not None


async def test_object_is_stored_after_complete_was_listed(target: S3Target, store: ObjectStore) -> None:
    key = "r/10y/late/video.mp4"
    async with opened() as harness:
        harness.stand_in.orders.add(Order("upload_late", seconds=0.3))
        await harness.join()
        started = await harness.livekit.start_room_composite(room_name=ROOM, object_key=key, upload=target)
        await harness.until(started.egress_id, "active")
        await harness.livekit.stop_egress(started.egress_id)
        done = await harness.until(started.egress_id, "complete")
        assert await asyncio.to_thread(stored, store, key) is None
        async with asyncio.timeout(10):
            while (found := await asyncio.to_thread(stored, store, key)) is None:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)
    assert done.size_bytes == len(found.content)


async def test_reported_size_differs_from_the_object(target: S3Target, store: ObjectStore) -> None:
    async with opened() as harness:
        harness.stand_in.orders.add(Order("size_differs"))
        done = await harness.record(target, until="complete")
    found = await asyncio.to_thread(stored, store)
    assert found is not None
    assert done.size_bytes == len(found.content) + 1


async def test_recording_missing_in_the_list_continues(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("forget"))
    await harness.join()
    started = await harness.start()
    async with asyncio.timeout(10):
        while await harness.livekit.list_egress(egress_id=started.egress_id):  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.01)
    assert await harness.livekit.list_egress() == []
    assert started.egress_id in {one.identity for one in await harness.livekit.participants(ROOM)}
    assert await harness.livekit.stop_egress(started.egress_id) == "stopping"
    await harness.receiver.until(lambda: "egress_ended" in harness.receiver.names())
    assert await harness.livekit.stop_egress(started.egress_id) == "not_found"


async def test_node_dies_and_egress_row_is_lost_by_order(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    assert (await harness.control("die", {"egress_id": started.egress_id})).status_code == 204
    with pytest.raises(Timeout):
        await harness.livekit.stop_egress(started.egress_id)
    await harness.receiver.until(lambda: "participant_left" in harness.receiver.names("participant_"))
    assert {one.kind for one in await harness.livekit.participants(ROOM)} == {"standard"}
    assert (await harness.listed(started.egress_id)).status == "active"
    assert (await harness.control("forget", {"egress_id": started.egress_id})).status_code == 204
    assert await harness.livekit.list_egress(egress_id=started.egress_id) == []
    assert (await harness.control("forget", {"egress_id": started.egress_id})).status_code == 404


async def test_dead_recording_does_not_end_with_its_media() -> None:
    async with opened(pace=Pace(0.01, record_seconds=0.05, upload_backoff_seconds=0.001)) as harness:
        harness.stand_in.orders.add(Order("die"))
        await harness.join()
        started = await harness.start()
        await harness.until(started.egress_id, "active")
        await asyncio.sleep(0.15)
        assert (await harness.listed(started.egress_id)).status == "active"


@pytest.mark.parametrize("by_id", [True, False])
async def test_list_is_unavailable_or_empty_as_often_as_ordered(harness: LiveKitHarness, by_id: bool) -> None:
    await harness.join()
    started = await harness.start()
    egress_id = started.egress_id if by_id else None
    harness.stand_in.orders.add(Order("list_unavailable", count=2))
    harness.stand_in.orders.add(Order("list_empty", count=2))
    for _ in range(2):
        with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
            await harness.livekit.list_egress(egress_id=egress_id)
    for _ in range(2):
        assert await harness.livekit.list_egress(egress_id=egress_id) == []
    assert len(await harness.livekit.list_egress(egress_id=egress_id)) == 1


async def test_rooms_are_unavailable_as_often_as_ordered(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("rooms_unavailable", count=2))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await harness.livekit.rooms(None)
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await harness.livekit.participants(ROOM)
    assert len(await harness.livekit.rooms(None)) == 1


async def test_stop_times_out_and_then_works(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    harness.stand_in.orders.add(Order("stop_times_out", count=2))
    for _ in range(2):
        with pytest.raises(Timeout):
            await harness.livekit.stop_egress(started.egress_id)
    assert (await harness.listed(started.egress_id)).status == "active"
    harness.stand_in.orders.add(Order("stop_but_times_out"))
    with pytest.raises(Timeout):
        await harness.livekit.stop_egress(started.egress_id)
    await harness.until(started.egress_id, "failed")


async def test_stop_is_refused_although_the_egress_records(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    harness.stand_in.orders.add(Order("refuse_stop", code="failed_precondition"))
    assert await harness.livekit.stop_egress(started.egress_id) == "already_ended"
    assert (await harness.listed(started.egress_id)).status == "active"


async def test_start_is_unavailable_and_appears_later(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("late_start", seconds=0.2))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable") as lost:
        await harness.start()
    assert not is_definite(lost.value)
    assert await harness.livekit.list_egress() == []
    await harness.receiver.until(lambda: "egress_started" in harness.receiver.names())
    (found,) = await harness.livekit.list_egress(room_name=ROOM)
    assert found.object_key == OBJECT_KEY


async def test_late_start_creates_its_closed_room_again(harness: LiveKitHarness) -> None:
    await harness.join()
    (before,) = await harness.livekit.rooms([ROOM])
    harness.stand_in.orders.add(Order("late_start", seconds=1))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await harness.start()
    harness.stand_in.rooms.delete(ROOM)
    await harness.receiver.until(lambda: harness.receiver.names("room_started") == ["room_started"] * 2)
    (after,) = await harness.livekit.rooms([ROOM])
    (egress,) = await harness.livekit.list_egress()
    assert (egress.status, after.sid == before.sid) == ("starting", False)
    assert [one.kind for one in await harness.livekit.participants(ROOM)] == ["egress"]


async def test_late_start_never_appears_without_a_room(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("late_start", seconds=0.01))
    with pytest.raises(LiveKitRefused, match="livekit_not_found"):
        await harness.start()
    await asyncio.sleep(0.1)
    assert await harness.livekit.list_egress() == []


async def test_start_is_answered_after_its_webhooks(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("answer_start_late", seconds=0.3))
    starting = asyncio.create_task(harness.start())
    await harness.receiver.until(lambda: "egress_updated" in harness.receiver.names())
    assert not starting.done()
    told = {one.egress_id for one in harness.receiver.events() if one.event == "egress_updated"}
    assert told == {(await starting).egress_id}


async def test_no_webhook_is_sent_until_another_order(harness: LiveKitHarness) -> None:
    assert (await harness.control("orders", {"order": "drop_all"})).status_code == 204
    await harness.record(until="failed")
    assert harness.receiver.bodies == []
    assert await harness.orders() == ["drop_all"]
    assert (await harness.orders_taken_back("drop_all")).status_code == 204
    assert await harness.orders() == []
    await harness.join("person-2")
    await harness.stand_in.notifier.idle()
    assert harness.receiver.names("participant_") == ["participant_joined"]


async def test_queued_webhooks_are_lost_in_a_restart_and_rows_are_not(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("delay", event="egress_started", seconds=30))
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    assert (await harness.control("restart", {})).status_code == 204
    assert harness.receiver.names() == []
    assert (await harness.listed(started.egress_id)).status == "active"
    await harness.livekit.stop_egress(started.egress_id)
    await harness.receiver.until(lambda: "egress_ended" in harness.receiver.names())
    assert harness.receiver.names() == ["egress_updated", "egress_ended"]


async def test_forged_notification_has_the_right_signature(harness: LiveKitHarness) -> None:
    forged = {
        "event": "egress_ended",
        "id": "EV_forged",
        "createdAt": "1795000000",
        "egressInfo": {"egressId": "EG_x", "roomName": ROOM, "status": "EGRESS_COMPLETE"},
    }
    assert (await harness.post("forge", forged)).status_code == 401
    assert (await harness.control("forge", forged)).json() == {"status": 200}
    harness.receiver.answers = [503]
    assert (await harness.control("forge", forged)).json() == {"status": 503}
    assert {(one.event_id, one.egress_id) for one in harness.receiver.events()} == {("EV_forged", "EG_x")}


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
async def test_every_order_is_accepted_and_listed_over_http(harness: LiveKitHarness, kind: str) -> None:
    assert (await harness.control("orders", {"order": kind, "count": 2})).status_code == 204
    assert await harness.orders() == [kind]


@pytest.mark.parametrize(
    "wrong",
    [{"order": "die", "event": "x"}, {"order": "drop", "file": "x"}, {"order": "refuse_stop", "code": "x"}],
)
async def test_order_is_refused_with_a_filter_that_it_does_not_support(
    harness: LiveKitHarness, wrong: dict[str, object]
) -> None:
    assert (await harness.control("orders", wrong)).status_code == 400


async def test_control_is_refused_without_the_secret(harness: LiveKitHarness) -> None:
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
            assert (await client.request(method, f"{harness.url}/stand-in/{path}")).status_code == 401
