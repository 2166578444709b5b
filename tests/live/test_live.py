"""Tests of our tokens, our calls and our webhook endpoint with the real LiveKit server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import httpx
import jwt
import livekit.rtc as rtc
import pytest
from livekit.protocol.rtc import SignalResponse

from app.integrations.livekit.client import WebhookVerifier
from devstack.api_client import ApiClient
from tests.api import documents
from tests.live.harness import PATIENCE_SECONDS, Case, inside, showing, speaking, until

pytestmark = pytest.mark.anyio

SERVER_LEEWAY_SECONDS = 60
"""The server accepts a token for this time after its expiry (`auth/verifier.go` of livekit/protocol, read
2026-11-21).
"""

START_FAILS_WITHIN_SECONDS = 90
NO_EGRESS = "LIVEKIT_NO_EGRESS"


async def test_our_token_lets_a_real_client_join_publish_and_hear_the_other(case: Case) -> None:
    async with AsyncExitStack() as stack:
        doctor = await stack.enter_async_context(_inside_as(case, case.doctor))
        patient = await stack.enter_async_context(_inside_as(case, case.patient))
        heard = asyncio.get_running_loop().create_future()
        patient.on("track_subscribed", lambda *subscribed: heard.set_result(subscribed))
        published = await stack.enter_async_context(speaking(doctor))
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, publication, publisher = await heard
        assert doctor.name == patient.name == case.room_name
        assert doctor.local_participant.identity == publisher.identity == case.participant("DOCTOR")
        assert patient.local_participant.identity == case.participant("PATIENT")
        assert publication.sid == published.sid


async def test_webhooks_that_the_server_signs_reach_the_inbox(case: Case) -> None:
    async with _inside_as(case, case.doctor) as doctor, _inside_as(case, case.patient), speaking(doctor):
        await until(lambda: _events(case).keys() >= {"room_started", "participant_joined", "track_published"})
    await until(lambda: "room_finished" in _events(case))
    await until(lambda: _events(case).get("participant_left") == 2)
    assert _events(case) == {
        "room_started": 1,
        "participant_joined": 2,
        "track_published": 1,
        "track_unpublished": 1,
        "participant_left": 2,
        "room_finished": 1,
    }
    assert not case.live.rows("select from audit.events where action = 'webhook.reject'")


async def test_our_calls_see_who_is_in_the_room(case: Case) -> None:
    async with AsyncExitStack() as stack:
        livekit = await stack.enter_async_context(case.live.livekit())
        doctor = await stack.enter_async_context(_inside_as(case, case.doctor))
        await stack.enter_async_context(_inside_as(case, case.patient))
        await stack.enter_async_context(speaking(doctor))

        async def somebody_publishes() -> bool:
            return any(one.is_publisher for one in await livekit.participants(case.room_name))

        await until(somebody_publishes)
        people = {one.identity: one for one in await livekit.participants(case.room_name)}
        rooms = await livekit.rooms([case.room_name, f"{case.room_name}-other"])
        assert set(people) == {case.participant("DOCTOR"), case.participant("PATIENT")}
        assert {(one.kind, one.state) for one in people.values()} == {("standard", "active")}
        assert people[case.participant("DOCTOR")].is_publisher
        assert not people[case.participant("PATIENT")].is_publisher
        assert [room.name for room in rooms] == [case.room_name]
        await until(lambda: _doctor_counts(case, people=2))  # The server updates its count up to 5 s late


async def test_published_microphones_are_listed_with_their_participants_muted_or_not(case: Case) -> None:
    async with AsyncExitStack() as stack:
        livekit = await stack.enter_async_context(case.live.livekit())
        doctor = await stack.enter_async_context(_inside_as(case, case.doctor))
        patient = await stack.enter_async_context(_inside_as(case, case.patient))
        published = [await stack.enter_async_context(speaking(one)) for one in (doctor, patient)]
        ours = {
            case.participant("DOCTOR"): (published[0].sid,),
            case.participant("PATIENT"): (published[1].sid,),
        }

        async def listed() -> dict[str, tuple[str, ...]]:
            return {one.identity: one.microphones for one in await livekit.participants(case.room_name)}

        async def are_listed() -> bool:
            return await listed() == ours

        await until(are_listed)
        assert published[0].track is not None
        published[0].track.mute()
        await stack.enter_async_context(showing(doctor))

        async def camera_is_published() -> bool:
            return len(case.live.witness.of("track_published", case.room_name)) == 3

        await until(camera_is_published)
        assert await listed() == ours


async def test_webhook_of_a_published_microphone_names_publisher_and_track(case: Case) -> None:
    async with (
        _inside_as(case, case.doctor) as doctor,
        speaking(doctor) as published,
        showing(doctor) as camera,
    ):
        await until(lambda: len(case.live.witness.of("track_published", case.room_name)) == 2)
        async with speaking(doctor) as anew:
            await until(lambda: len(case.live.witness.of("track_published", case.room_name)) == 3)
    server = case.live.server
    verifier = WebhookVerifier({server.api_key: server.api_secret})
    webhooks = case.live.witness.of("track_published", case.room_name)
    events = [verifier.verify(one.body, one.authorization) for one in webhooks]
    told = {
        one.microphone_sid: (one.publisher_identity, one.room_name) for one in events if one.microphone_sid
    }
    publisher = case.participant("DOCTOR"), case.room_name
    assert told == {published.sid: publisher, anew.sid: publisher}
    assert camera.sid not in told
    bodies = [json.loads(one.body) for one in webhooks]
    assert ["type" in one["track"] for one in bodies if one["track"].get("source") == "MICROPHONE"] == [
        False
    ] * 2
    assert {one.content_type for one in webhooks} == {"application/webhook+json"}


async def test_secrets_of_a_room_in_its_webhooks_stay_out_of_database_and_logs(case: Case) -> None:
    async with _inside_as(case, case.doctor) as doctor, speaking(doctor):
        await until(lambda: len(case.live.witness.of("participant_joined", case.room_name)) == 1)
        await until(lambda: _events(case).keys() >= {"room_started", "participant_joined", "track_published"})
    rooms = [json.loads(one.body)["room"] for one in case.live.witness.of("room_started", case.room_name)]
    secrets = [room["turnPassword"] for room in rooms]
    assert len(secrets) == 1
    assert len(secrets[0]) > 8
    kept = case.live.rows("select e::text as whole from private.livekit_events as e")
    ours = [path for path in case.live.stack.data_dir.glob("*.log") if path != case.live.server.log]
    logs = [path.read_text(errors="replace") for path in ours]
    assert logs
    for text in (*(row["whole"] for row in kept), *logs):
        assert secrets[0] not in text


async def test_a_token_that_expired_is_refused(case: Case) -> None:
    ended = int(time.time()) - SERVER_LEEWAY_SECONDS - 5
    await _refused(case, "token is expired", nbf=ended - 7200, exp=ended)


async def test_a_token_that_another_secret_signed_is_refused(case: Case) -> None:
    await _refused(case, "signature is invalid", secret="a-secret-of-somebody-else-32-bytes")


async def test_a_token_opens_its_own_room_alone_whatever_room_is_asked_for(case: Case) -> None:
    entry = await case.pass_of(case.doctor)
    other = f"{case.room_name}-other"
    asked = {"access_token": entry["token"], "room": other}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{entry['url']}/rtc", params=asked) as signals,
        case.live.livekit() as livekit,
    ):
        answer = SignalResponse.FromString(await signals.receive_bytes(timeout=PATIENCE_SECONDS))
        assert answer.join.room.name == case.room_name
        assert [room.name for room in await livekit.rooms([case.room_name, other])] == [case.room_name]


async def test_a_join_token_gives_no_power_over_its_room(case: Case) -> None:
    entry = await case.pass_of(case.doctor)
    calls: dict[str, dict[str, str]] = {
        "RoomService/ListRooms": {},
        "RoomService/ListParticipants": {"room": case.room_name},
        "RoomService/RemoveParticipant": {"room": case.room_name, "identity": case.participant("PATIENT")},
        "Egress/ListEgress": {"room_name": case.room_name},
        "Egress/StartRoomCompositeEgress": {"room_name": case.room_name},
    }
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {entry['token']}"}) as http:
        for method, body in calls.items():
            answer = await http.post(f"{case.live.server.url}/twirp/livekit.{method}", json=body)
            assert (answer.status_code, answer.json()["msg"]) == (401, "permissions denied"), method


async def test_a_start_without_an_egress_service_ends_failed_with_a_reason(case: Case) -> None:
    await case.consent()
    async with _inside_as(case, case.doctor) as doctor, _inside_as(case, case.patient), speaking(doctor):
        recording = (await case.doctor.ask(documents.START, consultationId=case.id))["startRecording"][
            "recording"
        ]
        found: list[Any] = []

        async def has_ended() -> bool:
            answer = await case.doctor.ask(documents.RECORDING, id=recording["id"])
            found[:] = [answer["recording"]]
            return found[0]["status"] not in ("REQUESTED", "STARTING")

        await until(has_ended, START_FAILS_WITHIN_SECONDS, pause_seconds=0.5)
    assert found[0]["status"] == "FAILED"
    assert found[0]["problem"]["code"] == NO_EGRESS
    assert found[0]["egressId"] is None


@asynccontextmanager
async def _inside_as(case: Case, person: ApiClient) -> AsyncIterator[rtc.Room]:
    entry = await case.pass_of(person)
    async with inside(entry["url"], entry["token"]) as room:
        yield room


async def _refused(case: Case, why: str, *, secret: str | None = None, **claims: object) -> None:
    """Change the given claims or the secret of the doctor's token, and require that LiveKit does not let a client
    with this token into the room.
    """
    entry = await case.pass_of(case.doctor)
    altered = jwt.decode(entry["token"], options={"verify_signature": False}) | claims
    token = jwt.encode(altered, secret or case.live.server.api_secret, algorithm="HS256")
    with pytest.raises(rtc.ConnectError, match=why):
        async with inside(entry["url"], token):
            pass
    assert not _events(case)


def _events(case: Case) -> dict[str, int]:
    """Return the number of this room's events in the inbox, by kind."""
    rows = case.live.rows(
        "select event, count(*) from private.livekit_events where room_name = %s group by event",
        case.room_name,
    )
    return {row["event"]: row["count"] for row in rows}


async def _doctor_counts(case: Case, *, people: int) -> bool:
    rooms = (await case.doctor.ask(documents.ACTIVE_ROOMS))["activeRooms"]
    return [(room["name"], room["participantCount"]) for room in rooms] == [(case.room_name, people)]
