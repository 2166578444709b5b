"""Client of LiveKit: join tokens, egresses (start, stop, list), rooms and participants.

Only this module imports `livekit-api`. The client returns frozen dataclasses with plain strings. The client never
retries a call, because a repeated start of an egress would record the room twice. The failover that the vendor's
client has for LiveKit Cloud is switched off, so that the vendor's client does not repeat calls either. The client
follows no redirect, because request bodies contain storage keys. The client never passes on LiveKit's error text:
errors get short codes of our own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace, TracebackType
from typing import Final, Literal, Self

import aiohttp
from google.protobuf.message import DecodeError
from livekit.api import AccessToken, LiveKitAPI, ServerError, VideoGrants
from livekit.protocol.egress import (
    EgressInfo,
    ListEgressRequest,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    StopEgressRequest,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    UpdateStreamRequest,
)
from livekit.protocol.room import (
    ListParticipantsRequest,
    ListRoomsRequest,
    RoomParticipantIdentity,
    UpdateParticipantRequest,
)

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.clock_difference import measure_seconds_ahead
from app.integrations.livekit import requests, snapshots
from app.integrations.livekit.refusals import LiveKitRefused, LiveKitUnanswered, refusal_of
from app.integrations.livekit.requests import S3Target
from app.integrations.livekit.snapshots import EgressSnapshot, ParticipantSnapshot, RoomSnapshot
from app.integrations.livekit.webhook import WebhookEvent, WebhookVerifier

__all__ = [
    "EgressSnapshot",
    "LiveKit",
    "LiveKitRefused",
    "ParticipantSnapshot",
    "RoomSnapshot",
    "S3Target",
    "WebhookEvent",
    "WebhookVerifier",
    "is_definite",
]

StopOutcome = Literal["stopping", "already_ended", "not_found"]
Reachability = Literal["ok", "unreachable", "credentials_refused", "clock", "no_egress", "no_recorder"]

JOIN_TTL_SECONDS: Final = 7200


def is_definite(error: AppError) -> bool:
    """Return whether this error proves that the call had no effect. If an error leaves open whether LiveKit
    received the call (for example a timeout), the caller must look for an egress that LiveKit may have started.
    """
    return isinstance(error, LiveKitRefused)


class LiveKit:
    """The client of one LiveKit project. Close the client after use, because its first call opens an HTTP session.

    Every method that calls LiveKit raises `LiveKitRefused` (the call certainly had no effect),
    `UpstreamFailed("livekit_unavailable")` or `Timeout("livekit_timeout")`. After UpstreamFailed or Timeout it is
    unknown whether the call took effect. This class sets time limits for its calls, because livekit-api 1.2.2 never
    applies the time limits that it defines. LiveKit may take 22 s to refuse a start for lack of capacity (checked
    2026-11-21).
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        api_secret: str,
        *,
        start_timeout_seconds: float = 60,
        timeout_seconds: float = 10,
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._api_secret = api_secret
        self._start_timeout_seconds = start_timeout_seconds
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        self._ahead_seconds: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the HTTP session. After the client was closed, the next call opens a new HTTP session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def join_token(
        self, *, identity: str, room: str, metadata: str, ttl_seconds: int = JOIN_TTL_SECONDS
    ) -> str:
        """Return a token that lets `identity` into `room` and into no other room. The method creates the join token
        without a request to LiveKit.

        Everyone in the room can read a participant's `identity` and `metadata`, so both contain only ids. The token
        contains no display name. LiveKit checks the token when a participant connects, and the token stays valid
        after the participant has left the room. Raises ValueError for an empty identity or room.
        """
        if ttl_seconds <= 0:
            raise ValueError("a join token needs a time to live")
        grants = VideoGrants(
            room_join=True,
            room=room,
            can_publish=True,
            can_subscribe=True,
            can_publish_data=True,
            can_update_own_metadata=False,
            room_create=False,
            room_list=False,
            room_record=False,
            room_admin=False,
            ingress_admin=False,
            hidden=False,
            recorder=False,
            agent=False,
        )
        token = AccessToken(self._api_key, self._api_secret).with_identity(identity).with_grants(grants)
        return token.with_metadata(metadata).with_ttl(timedelta(seconds=ttl_seconds)).to_jwt()

    async def start_room_composite(
        self, *, room_name: str, object_key: str, upload: S3Target
    ) -> EgressSnapshot:
        """Record `room_name` into one MP4 at `object_key`, which LiveKit uploads when the recording has ended.

        If the room does not exist, the method raises LiveKitRefused (`not_found`). The method raises ValueError if
        the key does not end in `.mp4` or contains braces, because LiveKit would change such a key.
        """
        return await self._start(requests.video(room_name, object_key, upload))

    async def start_microphone(
        self, *, room_name: str, track_sid: str, object_key: str, upload: S3Target
    ) -> EgressSnapshot:
        """Record the sound of one published track until the track is unpublished, the room closes, or the egress is
        stopped.

        `start_microphone` works like `start_room_composite`, but the object key must end in `.mp4` (AAC) or `.ogg`
        (Opus). LiveKit accepts a request with an unknown track SID, but the egress fails after 30 s. An egress of
        one track needs no browser, and only a quarter of the processor time that a room composite needs.
        """
        return await self._start(requests.microphone(room_name, track_sid, object_key, upload))

    async def start_speakers(
        self,
        *,
        room_name: str,
        doctor_identity: str,
        patient_identity: str,
        object_key: str,
        upload: S3Target,
    ) -> EgressSnapshot:
        """Record the sound of two people into one Ogg file: the doctor on the left channel, the patient on the
        right.

        `start_speakers` works like `start_microphone`, but the object key must end in `.ogg`. LiveKit waits up to
        30 s until both people have published a microphone. An egress service that cannot record two speakers
        refuses the request (LiveKitRefused `invalid_argument`; egress 1.9.1, read 2026-11-29).
        """
        people = doctor_identity, patient_identity
        return await self._start(requests.speakers(room_name, *people, object_key, upload))

    async def stop_egress(self, egress_id: str) -> StopOutcome:
        """Request that LiveKit ends an egress. If the egress was already asked to end, the call changes nothing. A
        Timeout may mean that the server on which the egress runs has died. If the server on which an egress runs
        has died, LiveKit lists the egress as active forever (livekit#1717).
        """
        try:
            async with self._call(self._timeout_seconds) as api:
                await api.egress.stop_egress(StopEgressRequest(egress_id=egress_id))
        except LiveKitRefused as refused:
            match refused.detail["code"]:
                case "failed_precondition":
                    return "already_ended"
                case "not_found":
                    return "not_found"
            raise
        return "stopping"

    async def list_egress(
        self, *, room_name: str | None = None, egress_id: str | None = None, active_only: bool = False
    ) -> list[EgressSnapshot]:
        """List all egresses, the egresses of one room, or one egress by its id. LiveKit lists an ended egress for
        about a day, unless `active_only` is true.

        If LiveKit lists no egress, this does not prove that the egress has ended.
        """
        request = ListEgressRequest(room_name=room_name or "", egress_id=egress_id or "", active=active_only)
        found: list[EgressInfo] = []
        try:
            while True:
                async with self._call(self._timeout_seconds) as api:
                    page = await api.egress.list_egress(request)
                found.extend(page.items)
                if page.next_page_token.token in ("", request.page_token.token):
                    break
                request.page_token.token = page.next_page_token.token
        except LiveKitRefused as refused:
            if egress_id is None or refused.detail["code"] != "not_found":
                raise
        return [snapshots.egress(info) for info in found]

    async def recorder_answers(self, egress_id: str) -> bool | None:
        """Return whether the recording process answers, or None if LiveKit does not say.

        If the process of an egress has died, LiveKit lists the egress as active forever. To find out whether the
        process is alive, this method sends an update of the egress's streams that names no stream. A living process
        refuses the update, and nothing changes (livekit-server 1.13.5 and livekit/egress 1.9.1, tried 2026-11-29).
        If an egress is ending or has ended, LiveKit does not say whether the recording process answers. A recording
        process that is still starting does not answer. If the recording process does not answer, LiveKit reports
        this after 3 s.
        """
        try:
            async with self._call(self._timeout_seconds) as api:
                await api.egress.update_stream(UpdateStreamRequest(egress_id=egress_id))
        except LiveKitUnanswered:
            return False
        except LiveKitRefused as refused:
            return True if refused.detail["code"] == "invalid_argument" else None
        except (UpstreamFailed, Timeout):
            return None
        return True

    async def is_connected(self, room: str, identity: str) -> bool | None:
        """Return whether LiveKit's server is connected to a listed participant, or None if LiveKit does not say.
        After a crash, LiveKit's server still lists the participants from before the crash. To find out whether a
        participant is connected, this method sends LiveKit an update of the participant that changes nothing.
        LiveKit answers this update only if the participant's connection still exists (livekit-server 1.13.5, tried
        2026-11-29). If the participant's connection does not answer, LiveKit reports this after 3 s.
        """
        try:
            async with self._call(self._timeout_seconds) as api:
                await api.room.update_participant(UpdateParticipantRequest(room=room, identity=identity))
        except LiveKitUnanswered:
            return False
        except LiveKitRefused as refused:
            return False if refused.detail["code"] == "not_found" else None
        except (UpstreamFailed, Timeout):
            return None
        return True

    async def connected(self, room: str) -> list[ParticipantSnapshot]:
        """Return the participants listed in `room`, except those whom LiveKit reports as not connected."""
        return await self.connected_of(room, await self.participants(room))

    async def connected_of(
        self, room: str, listed: Sequence[ParticipantSnapshot]
    ) -> list[ParticipantSnapshot]:
        """Return the participants of `listed`, except those whom LiveKit reports as not connected."""
        answers = await asyncio.gather(*(self.is_connected(room, somebody.identity) for somebody in listed))
        return [somebody for somebody, answer in zip(listed, answers, strict=True) if answer is not False]

    async def rooms(self, names: Sequence[str] | None) -> list[RoomSnapshot]:
        """Return the rooms of `names` that are open now, or every open room if `names` is None. If the list of room
        names is empty, the method sends no request to LiveKit.
        """
        if names is not None and not names:
            return []
        async with self._call(self._timeout_seconds) as api:
            answer = await api.room.list_rooms(ListRoomsRequest(names=names or ()))
        return [snapshots.room(info) for info in answer.rooms]

    async def remove_participant(self, room: str, identity: str) -> None:
        """Remove a participant from the room; do nothing if they are not in it. A removed participant can join
        again while their join token is valid.
        """
        try:
            async with self._call(self._timeout_seconds) as api:
                await api.room.remove_participant(RoomParticipantIdentity(room=room, identity=identity))
        except LiveKitRefused as refused:
            if refused.detail["code"] != "not_found":
                raise

    async def participants(self, room: str) -> list[ParticipantSnapshot]:
        """Return the participants in `room`, including recorders (kind `egress`). If the room is not open, return
        an empty list.
        """
        async with self._call(self._timeout_seconds) as api:
            answer = await api.room.list_participants(ListParticipantsRequest(room=room))
        return [snapshots.participant(info) for info in answer.participants]

    async def reachable(self) -> Reachability:
        """Test that LiveKit answers. The method requests a room that does not exist, the egresses of this room, and
        an egress that would record nothing.

        `no_egress` means that the LiveKit server is not configured for an egress service. `no_recorder` means that
        no egress service runs, or that none has free processor time. LiveKit reports a missing recorder only after
        22 s. An egress service stores nothing for a request that lacks a room, a track and a file, and refuses the
        request (livekit/egress 1.9.1, read 2026-11-29).
        """
        try:
            await self.rooms(["resguardo-check"])
        except AppError as error:
            if error.reason == "livekit_clock":
                return "clock"
            refused = error.detail.get("status") in (401, 403)
            return "credentials_refused" if refused else "unreachable"
        try:
            await self.list_egress(room_name="resguardo-check")
        except AppError:
            return "no_egress"
        try:
            async with self._call(self._start_timeout_seconds) as api:
                await api.egress.start_track_egress(TrackEgressRequest())
        except LiveKitRefused as refused:
            return "ok" if refused.detail["code"] == "invalid_argument" else "no_recorder"
        except AppError:
            return "no_recorder"
        return "ok"

    async def _start(
        self, request: RoomCompositeEgressRequest | TrackCompositeEgressRequest | StartEgressRequest
    ) -> EgressSnapshot:
        async with self._call(self._start_timeout_seconds) as api:
            match request:
                case RoomCompositeEgressRequest():
                    info = await api.egress.start_room_composite_egress(request)
                case TrackCompositeEgressRequest():
                    info = await api.egress.start_track_composite_egress(request)
                case StartEgressRequest():
                    info = await api.egress.start_egress(request)
        return snapshots.egress(info)

    @asynccontextmanager
    async def _call(self, timeout_seconds: float) -> AsyncIterator[LiveKitAPI]:
        try:
            async with asyncio.timeout(timeout_seconds):
                yield self._api()
        except TimeoutError as error:
            raise Timeout("livekit_timeout") from error
        except ServerError as error:
            raise refusal_of(error, self._ahead_seconds) from error
        except (aiohttp.ClientError, DecodeError) as error:
            raise UpstreamFailed("livekit_unavailable") from error

    async def _compare_clocks(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        self._ahead_seconds = measure_seconds_ahead(params.response.headers, datetime.now(UTC))

    def _api(self) -> LiveKitAPI:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            trace.on_request_end.append(self._compare_clocks)
            self._session = aiohttp.ClientSession(trace_configs=[trace])
        return LiveKitAPI(self._url, self._api_key, self._api_secret, session=self._session, failover=False)


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    raise aiohttp.ClientError("a redirect is not followed")
