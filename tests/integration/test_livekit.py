"""Tests of our LiveKit client against the LiveKit stand-in over real HTTP, including webhooks and uploads."""

import asyncio
import hashlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import av
import httpx
import jwt
import pytest
from livekit.api import AccessToken, LiveKitAPI, ServerError, VideoGrants
from livekit.protocol.egress import ListEgressRequest, RoomCompositeEgressRequest
from livekit.protocol.room import CreateRoomRequest, ListRoomsRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.errors import Timeout, UpstreamFailed
from app.integrations.livekit.client import (
    LiveKit,
    LiveKitRefused,
    S3Target,
    is_definite,
)
from devstack.livekit import Order, Pace
from devstack.object_store import ObjectStore
from tests.integration.livekit_harness import (
    KEY,
    MEDIA,
    NOWHERE,
    OBJECT_KEY,
    ROOM,
    SECRET,
    LiveKitHarness,
    opened,
    stored,
)
from tests.integration.recording_harness import served

pytestmark = pytest.mark.anyio


@pytest.fixture
async def harness(anyio_backend: str) -> AsyncIterator[LiveKitHarness]:
    async with opened() as harness:
        yield harness


async def test_join_token_grants_only_its_room() -> None:
    async with LiveKit("http://127.0.0.1:1", KEY, SECRET) as livekit:
        token = livekit.join_token(identity="p", room="r", metadata="m", ttl_seconds=60)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["nbf"] == 60
    assert (claims["sub"], claims["metadata"], "name" in claims) == ("p", "m", False)
    granted = {name: value for name, value in claims["video"].items() if value}
    expected = dict.fromkeys(("roomJoin", "canPublish", "canSubscribe", "canPublishData"), True)
    assert granted == expected | {"room": "r"}
    assert claims["video"]["canUpdateOwnMetadata"] is False
    assert claims["video"]["roomAdmin"] is False


@pytest.mark.parametrize("ttl_seconds", [0, -1])
async def test_join_token_is_refused_without_time_to_live(ttl_seconds: int) -> None:
    with pytest.raises(ValueError, match="time to live"):
        LiveKit("http://h", KEY, SECRET).join_token(
            identity="p", room="r", metadata="", ttl_seconds=ttl_seconds
        )


async def test_room_and_participant_appear_when_somebody_joins(harness: LiveKitHarness) -> None:
    assert await harness.livekit.rooms([ROOM]) == []
    joined = (await harness.join()).json()
    await harness.join("person-2")
    async with asyncio.timeout(10):
        while (await harness.livekit.rooms([ROOM]))[0].num_participants != 2:  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.01)
    (room,) = await harness.livekit.rooms([ROOM, "another"])
    assert (room.name, room.sid) == (ROOM, joined["room_sid"])
    people = await harness.livekit.participants(ROOM)
    assert [(one.identity, one.kind, one.is_publisher) for one in people] == [
        ("person-1", "standard", True),
        ("person-2", "standard", True),
    ]
    assert await harness.livekit.participants("another") == []
    await harness.receiver.until(lambda: len(harness.receiver.bodies) == 7)
    entering = ["participant_joined", "track_published", "track_published"]
    assert [one.event for one in harness.receiver.events()] == ["room_started", *entering, *entering]


async def test_rooms_sends_no_request_for_an_empty_list(harness: LiveKitHarness) -> None:
    await harness.join()
    assert await harness.livekit.rooms([]) == []


async def test_room_closes_after_the_last_participant_left(harness: LiveKitHarness) -> None:
    token = harness.livekit.join_token(identity="p", room=ROOM, metadata="")
    await harness.post("join", {"token": token})
    assert (await harness.post("leave", {"token": token})).status_code == 204
    await harness.receiver.until(lambda: "room_finished" in harness.receiver.names("room_"))
    assert await harness.livekit.rooms([ROOM]) == []


async def test_join_is_refused_with_an_invalid_token(harness: LiveKitHarness) -> None:
    good = {"iss": KEY, "sub": "p", "exp": 4_000_000_000, "video": {"roomJoin": True, "room": ROOM}}
    for claims, secret in (
        (good, "another-secret-of-more-than-thirty-two-bytes"),
        (good | {"iss": "APIunknown"}, SECRET),
        (good | {"exp": 5}, SECRET),
        ({name: value for name, value in good.items() if name != "exp"}, SECRET),
        (good | {"video": {"room": ROOM}}, SECRET),
    ):
        answer = await harness.post("join", {"token": jwt.encode(claims, secret, algorithm="HS256")})
        assert answer.status_code == 401
    assert (await harness.post("join", {"token": "x"})).status_code == 401
    assert await harness.livekit.rooms([ROOM]) == []


async def test_call_is_refused_without_its_grant(harness: LiveKitHarness) -> None:
    await harness.join()
    for grants in (
        VideoGrants(),
        VideoGrants(room_join=True, room=ROOM),
        VideoGrants(room_admin=True, room="x"),
    ):
        token = AccessToken(KEY, SECRET).with_identity("p").with_grants(grants).to_jwt()
        async with LiveKitAPI.with_token(token, harness.url) as api:
            for call in (
                api.room.list_rooms(ListRoomsRequest()),
                api.room.create_room(CreateRoomRequest(name="x")),
                api.egress.list_egress(ListEgressRequest()),
                api.egress.start_room_composite_egress(RoomCompositeEgressRequest(room_name=ROOM)),
            ):
                with pytest.raises(ServerError) as refused:
                    await call
                assert (refused.value.code, refused.value.status) == ("unauthenticated", 401)


@pytest.mark.parametrize("authorization", [None, "Basic eA==", "Bearer x"])
async def test_raw_call_is_refused_without_a_token(
    harness: LiveKitHarness, authorization: str | None
) -> None:
    headers = {"content-type": "application/protobuf"}
    if authorization:
        headers["authorization"] = authorization
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{harness.url}/twirp/livekit.RoomService/ListRooms", headers=headers)
    assert answer.status_code == 401


async def test_reachable_distinguishes_wrong_credentials_from_a_missing_server(
    harness: LiveKitHarness,
) -> None:
    assert await harness.livekit.reachable() == "ok"
    async with LiveKit(harness.url, KEY, SECRET + "x") as wrong_secret:
        assert await wrong_secret.reachable() == "credentials_refused"
        with pytest.raises(LiveKitRefused) as refused:
            await wrong_secret.rooms([ROOM])
    assert is_definite(refused.value)
    assert refused.value.detail == {"code": "unknown", "status": 401}
    async with LiveKit(harness.url, "APIunknown", SECRET) as wrong_key:
        assert await wrong_key.reachable() == "credentials_refused"
    async with LiveKit("http://127.0.0.1:1", KEY, SECRET) as nobody:
        assert await nobody.reachable() == "unreachable"
        with pytest.raises(UpstreamFailed, match="livekit_unavailable") as lost:
            await nobody.rooms([ROOM])
    assert not is_definite(lost.value)


async def test_redirect_is_not_followed_with_storage_keys_in_the_body() -> None:
    arrived: list[str] = []

    async def answer(request: Request) -> Response:
        arrived.append(request.url.path)
        return Response(status_code=307, headers={"location": "/elsewhere"})

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    async with served(Starlette(routes=routes)) as url, LiveKit(url, KEY, SECRET) as livekit:
        with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
            await livekit.start_room_composite(room_name=ROOM, object_key=OBJECT_KEY, upload=NOWHERE)
    assert len(arrived) == 1


async def test_start_is_refused_when_the_room_does_not_exist(harness: LiveKitHarness) -> None:
    with pytest.raises(LiveKitRefused) as refused:
        await harness.start()
    assert refused.value.detail["code"] == "not_found"
    assert await harness.livekit.list_egress(room_name=ROOM) == []


@pytest.mark.parametrize("key", ["r/x", "r/{time}.mp4", "/r/x.mp4", "../x.mp4"])
async def test_start_is_refused_when_livekit_would_change_the_key(harness: LiveKitHarness, key: str) -> None:
    with pytest.raises(ValueError, match="object key"):
        await harness.livekit.start_room_composite(room_name=ROOM, object_key=key, upload=NOWHERE)


async def test_recording_is_found_by_room_key_and_id(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    assert started.status == "starting"
    assert started.started_at is not None
    active = await harness.until(started.egress_id, "active")
    assert active.object_key == OBJECT_KEY
    assert (active.size_bytes, active.duration_seconds, active.error_code) == (None, None, None)
    assert await harness.livekit.list_egress(room_name=ROOM) == [active]
    assert await harness.livekit.list_egress(room_name="another") == []
    assert await harness.livekit.list_egress(egress_id="EG_unknown") == []
    (room,) = await harness.livekit.rooms([ROOM])
    assert room.num_participants == 1
    kinds = {one.identity: one.kind for one in await harness.livekit.participants(ROOM)}
    assert kinds == {"person-1": "standard", started.egress_id: "egress"}


async def test_recording_waits_until_somebody_publishes_and_is_aborted_when_stopped_before(
    harness: LiveKitHarness,
) -> None:
    harness.stand_in.rooms.create(CreateRoomRequest(name=ROOM))
    started = await harness.start()
    assert await harness.livekit.stop_egress(started.egress_id) == "stopping"
    aborted = await harness.until(started.egress_id, "aborted")
    assert (aborted.error_code, aborted.error_reason) == (412, "stopped_before_start")
    waiting = await harness.start()
    assert (await harness.livekit.list_egress(egress_id=waiting.egress_id))[0].status == "starting"
    await harness.join()
    await harness.until(waiting.egress_id, "active")


async def test_storage_keys_appear_in_no_answer_and_no_webhook(harness: LiveKitHarness) -> None:
    failed = await harness.livekit.list_egress(egress_id=await one_recording(harness))
    async with LiveKitAPI(harness.url, KEY, SECRET) as api:
        listed = await api.egress.list_egress(ListEgressRequest())
    request = listed.items[0].room_composite
    s3 = request.file_outputs[0].s3
    assert (s3.force_path_style, s3.tagging, s3.content_disposition) == (True, "", "attachment")
    assert (request.file_outputs[0].disable_manifest, request.advanced.key_frame_interval) == (True, 2)
    assert (s3.access_key, s3.secret, s3.session_token) == ("{access_key}", "{secret}", "{session_token}")
    told = b"".join(body for body, _, _ in harness.receiver.bodies) + listed.SerializeToString()
    assert b"-KEPT" not in told
    assert "127.0.0.1" not in repr(failed)
    assert "KEPT" not in repr(NOWHERE)


async def test_stop_is_idempotent_and_returns_the_state_of_the_egress(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    assert await harness.livekit.stop_egress(started.egress_id) == "stopping"
    await harness.until(started.egress_id, "failed")
    assert await harness.livekit.stop_egress(started.egress_id) == "already_ended"
    assert await harness.livekit.stop_egress("EG_unknown") == "not_found"


async def test_recording_ends_when_its_room_closes(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    harness.stand_in.rooms.delete(ROOM)
    ended = await harness.until(started.egress_id, "failed")
    assert ended.error_reason == "upload_failed"


async def test_recording_ends_when_its_media_end() -> None:
    async with opened(pace=Pace(0.01, record_seconds=0.05, upload_backoff_seconds=0.001)) as harness:
        await harness.join()
        started = await harness.start()
        await harness.until(started.egress_id, "failed")


async def test_upload_that_fails_five_times_ends_failed_with_400(harness: LiveKitHarness) -> None:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    await harness.livekit.stop_egress(started.egress_id)
    failed = await harness.until(started.egress_id, "failed")
    assert (failed.error_code, failed.error_reason, failed.size_bytes) == (400, "upload_failed", None)
    assert failed.ended_at is not None


@pytest.mark.parametrize("code", ["resource_exhausted", "invalid_argument", "permission_denied"])
async def test_start_refused_is_definite(harness: LiveKitHarness, code: str) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("refuse_start", code=code))
    with pytest.raises(LiveKitRefused) as refused:
        await harness.start()
    assert is_definite(refused.value)
    assert refused.value.detail["code"] == code
    assert await harness.livekit.list_egress(room_name=ROOM) == []


@pytest.mark.parametrize("code", ["deadline_exceeded", "canceled"])
async def test_start_answered_408_is_ambiguous(harness: LiveKitHarness, code: str) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("refuse_start", code=code))
    with pytest.raises(Timeout, match="livekit_timeout") as lost:
        await harness.start()
    assert not is_definite(lost.value)


async def test_start_answered_503_is_ambiguous_and_adopted_by_its_key(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("start_but_answer_503"))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable") as lost:
        await harness.start()
    assert not is_definite(lost.value)
    (found,) = await harness.livekit.list_egress(room_name=ROOM)
    assert found.object_key == OBJECT_KEY


async def test_start_is_not_repeated_on_livekit_cloud_either(
    harness: LiveKitHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livekit.api._failover.is_cloud", lambda _host: True)
    await harness.join()
    harness.stand_in.orders.add(Order("start_but_answer_503", count=3))
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await harness.start()
    assert len(await harness.livekit.list_egress(room_name=ROOM)) == 1


async def test_start_that_hangs_times_out_and_may_succeed_late(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("hang_start", seconds=0.3))
    async with LiveKit(harness.url, KEY, SECRET, start_timeout_seconds=0.1) as hasty:
        with pytest.raises(Timeout, match="livekit_timeout"):
            await hasty.start_room_composite(room_name=ROOM, object_key=OBJECT_KEY, upload=NOWHERE)
        assert await hasty.list_egress(room_name=ROOM) == []
    await harness.receiver.until(lambda: "egress_started" in harness.receiver.names())
    assert len(await harness.livekit.list_egress(room_name=ROOM)) == 1


async def test_recording_stays_active_after_its_node_died(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("die"))
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    with pytest.raises(Timeout):
        await harness.livekit.stop_egress(started.egress_id)
    harness.stand_in.rooms.delete(ROOM)
    assert (await harness.livekit.list_egress(egress_id=started.egress_id))[0].status == "active"
    assert await harness.livekit.participants(ROOM) == []


async def one_recording(harness: LiveKitHarness) -> str:
    await harness.join()
    started = await harness.start()
    await harness.until(started.egress_id, "active")
    await harness.livekit.stop_egress(started.egress_id)
    await harness.until(started.egress_id, "failed")
    await harness.stand_in.notifier.idle()
    return started.egress_id


async def test_webhooks_have_the_format_of_livekit(harness: LiveKitHarness) -> None:
    egress_id = await one_recording(harness)
    ours, theirs = harness.receiver.events(), harness.receiver.vendor_events()
    assert [(one.event_id, one.event) for one in ours] == [(one.id, one.event) for one in theirs]
    told = [(one.event, one.egress_info.status) for one in theirs if one.egress_info.egress_id == egress_id]
    assert told == [("egress_started", 0), ("egress_updated", 1), ("egress_updated", 2), ("egress_ended", 4)]
    assert {one.room_name for one in ours} == {ROOM}
    assert len({one.event_id for one in ours}) == len(ours)
    assert {content_type for _, _, content_type in harness.receiver.bodies} == {"application/webhook+json"}
    assert not any(token.startswith("Bearer") for _, token, _ in harness.receiver.bodies)


async def test_webhook_is_resent_unchanged_on_5xx_and_429_but_not_on_4xx(harness: LiveKitHarness) -> None:
    harness.receiver.answers = [503, 429, 200, 404]
    await harness.join()
    await harness.stand_in.notifier.idle()
    bodies = harness.receiver.bodies
    assert bodies[0] == bodies[1] == bodies[2]
    assert harness.receiver.names("room_", "participant_") == ["room_started"] * 3 + ["participant_joined"]


async def test_webhook_is_given_up_after_five_attempts(harness: LiveKitHarness) -> None:
    harness.receiver.answers = [500] * 5
    await harness.join()
    await harness.stand_in.notifier.idle()
    assert harness.receiver.names("room_", "participant_") == ["room_started"] * 5 + ["participant_joined"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order("drop", event="egress_ended"), ["started", "updated", "updated"]),
        (Order("drop", event="egress_updated", count=2), ["started", "ended"]),
        (Order("duplicate", event="egress_ended"), ["started", "updated", "updated", "ended", "ended"]),
        (Order("renew", event="egress_started"), ["started", "started", "updated", "updated", "ended"]),
        (Order("reorder", event="egress_started"), ["updated", "started", "updated", "ended"]),
        (Order("delay", event="egress_started", seconds=0.1), ["started", "updated", "updated", "ended"]),
    ],
    ids=lambda value: value.kind if isinstance(value, Order) else "",
)
async def test_ordered_webhook_fault_occurs(
    harness: LiveKitHarness, order: Order, expected: list[str]
) -> None:
    harness.stand_in.orders.add(order)
    await one_recording(harness)
    assert harness.receiver.names() == [f"egress_{name}" for name in expected]
    ids = [one.event_id for one in harness.receiver.events()]
    assert len(ids) - len(set(ids)) == (order.kind == "duplicate")


async def test_webhook_loses_its_egress_id_by_order(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("blank_egress_id", event="egress_ended"))
    await one_recording(harness)
    (last,) = [one for one in harness.receiver.events() if one.event == "egress_ended"]
    assert (last.egress_id, last.room_name) == (None, ROOM)


async def test_webhook_with_unknown_status_by_order_is_signed_and_still_refused(
    harness: LiveKitHarness,
) -> None:
    harness.stand_in.orders.add(Order("unknown_status", event="egress_ended"))
    await one_recording(harness)
    (last,) = [one for one in harness.receiver.vendor_events() if one.event == "egress_ended"]
    assert last.egress_info.status == 0
    with pytest.raises(Exception, match="webhook_status"):
        harness.receiver.events()


async def test_orders_are_accepted_over_http_only_with_the_secret(harness: LiveKitHarness) -> None:
    order = {"order": "refuse_start", "code": "invalid_argument"}
    assert (await harness.post("orders", order)).status_code == 401
    assert (await harness.post("orders", order, authorization="Bearer wrong")).status_code == 401
    good = f"Bearer {SECRET}"
    wrongs: list[object] = [
        {"order": "explode"},
        {"order": "drop", "count": 0},
        [],
        {"order": "drop", "x": 1},
    ]
    for wrong in wrongs:
        assert (await harness.post("orders", wrong, authorization=good)).status_code == 400
    assert (await harness.post("orders", order, authorization=good)).status_code == 204
    await harness.join()
    with pytest.raises(LiveKitRefused):
        await harness.start()
    await harness.start()


async def test_child_process_serves_its_config_and_prints_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "livekit.json"
    config.write_text(json.dumps({"port": port, "api_key": KEY, "api_secret": SECRET}))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devstack.livekit", "--config", str(config), stdout=-1, stderr=-2
    )
    try:
        async with asyncio.timeout(30), LiveKit(f"http://127.0.0.1:{port}", KEY, SECRET) as livekit:
            while await livekit.reachable() != "ok":  # noqa: ASYNC110  # another process sends no event
                await asyncio.sleep(0.05)
    finally:
        child.terminate()
        printed, _ = await child.communicate()
    assert printed == b""


def over_one_part(path: Path) -> Path:
    """Write the MP4 fixture with an additional `free` box of 6 MB at its end. The written file is a valid MP4 that
    is so large that LiveKit uploads it in several parts.
    """
    padding = 6 * 1024 * 1024
    path.write_bytes(MEDIA.read_bytes() + (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding))
    return path


@pytest.mark.parametrize("parts", [1, 2])
async def test_uploaded_object_is_identical_to_the_file(
    target: S3Target, store: ObjectStore, tmp_path: Path, parts: int
) -> None:
    media = MEDIA if parts == 1 else over_one_part(tmp_path / "long.mp4")
    async with opened(media) as harness:
        await harness.join()
        started = await harness.start(target)
        await harness.until(started.egress_id, "active")
        await harness.livekit.stop_egress(started.egress_id)
        done = await harness.until(started.egress_id, "complete")
    found = await asyncio.to_thread(stored, store)
    assert found is not None
    assert hashlib.sha256(found.content).digest() == hashlib.sha256(media.read_bytes()).digest()
    assert (found.content_type, found.disposition, found.parts) == ("video/mp4", "attachment", parts)
    assert done.size_bytes == len(found.content)
    with av.open(str(media)) as container:
        assert done.duration_seconds == pytest.approx((container.duration or 0) / av.time_base)
    assert (done.error_code, done.error_reason) == (None, None)


async def test_upload_is_refused_with_keys_that_may_not_write(store: ObjectStore) -> None:
    target = S3Target(store.endpoint_url, "us-east-1", store.bucket, store.reader)
    async with opened() as harness:
        await harness.join()
        started = await harness.start(target)
        await harness.until(started.egress_id, "active")
        await harness.livekit.stop_egress(started.egress_id)
        failed = await harness.until(started.egress_id, "failed")
    assert (failed.error_code, failed.error_reason) == (400, "upload_failed")


async def test_upload_fails_by_order_and_only_once(target: S3Target) -> None:
    async with opened() as harness:
        harness.stand_in.orders.add(Order("fail_upload"))
        await harness.join()
        for status in ("failed", "complete"):
            started = await harness.start(target)
            await harness.until(started.egress_id, "active")
            await harness.livekit.stop_egress(started.egress_id)
            await harness.until(started.egress_id, status)


def _told(status: int, body: object, headers: dict[str, str] | None = None) -> Starlette:
    async def answer(request: Request) -> Response:
        if isinstance(body, str):
            return Response(body, status, headers)
        return JSONResponse(body, status, headers)

    return Starlette(routes=[Route("/{rest:path}", answer, methods=["POST"])])


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, "invalid API key: APIx", "livekit_credentials_refused"),
        (401, {"code": "unauthenticated", "msg": "permissions denied"}, "livekit_credentials_refused"),
        (403, {"code": "permission_denied", "msg": "x"}, "livekit_permission_denied"),
        (429, {"code": "resource_exhausted", "msg": "x"}, "livekit_at_capacity"),
        (404, {"code": "not_found", "msg": "x"}, "livekit_not_found"),
        (400, {"code": "invalid_argument", "msg": "x"}, "livekit_refused"),
    ],
)
async def test_refusal_of_livekit_has_its_own_reason(status: int, body: object, reason: str) -> None:
    async with served(_told(status, body)) as url, LiveKit(url, KEY, SECRET) as livekit:
        with pytest.raises(LiveKitRefused) as refused:
            await livekit.rooms(["room"])
    assert refused.value.reason == reason
    assert "APIx" not in refused.value.summary
    if reason == "livekit_refused":
        assert refused.value.summary == "livekit_refused (invalid_argument)"


@pytest.mark.parametrize(("minutes", "reason"), [(10, "livekit_clock"), (-10, "livekit_clock")])
async def test_refused_token_with_a_wrong_clock_is_reported_as_the_clock(minutes: int, reason: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    app = _told(401, "invalid token", {"Date": date})
    async with served(app, date_header=False) as url, LiveKit(url, KEY, SECRET) as livekit:
        with pytest.raises(LiveKitRefused, match=reason):
            await livekit.rooms(["room"])
        assert await livekit.reachable() == "clock"
