"""LiveKit as Resguardo needs it: join tokens, recordings started, stopped and listed, rooms looked at.

The only place that knows `livekit-api`: its messages and enums stop here and callers see frozen dataclasses
with plain strings. It never retries, because the server does not deduplicate egress starts and a second one
records twice (the client's own failover for LiveKit Cloud is switched off), never follows a redirect with
storage keys in the body, and never hands on the vendor's words: errors become short codes of ours.
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
from app.integrations import livekit_requests as requests
from app.integrations import livekit_snapshots as snapshots
from app.integrations.clocks import ahead_seconds
from app.integrations.livekit_refusals import LiveKitRefused, LiveKitUnanswered, refusal_of
from app.integrations.livekit_requests import S3Target
from app.integrations.livekit_snapshots import EgressSnapshot, ParticipantSnapshot, RoomSnapshot
from app.integrations.livekit_webhook import WebhookEvent, WebhookVerifier

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
    """Whether the call certainly did nothing; otherwise it may have acted, and a start must be looked for."""
    return isinstance(error, LiveKitRefused)


class LiveKit:
    """One LiveKit project. Close it: it holds an HTTP session, opened at the first call.

    Every method that calls raises `LiveKitRefused` (definite), `UpstreamFailed("livekit_unavailable")` or
    `Timeout("livekit_timeout")` (both: whether it acted is not known). Timeouts are ours: those of
    livekit-api 1.2.2 are never applied, and a start takes up to 22 s to be refused for want of capacity
    (checked 2026-11-21).
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
        """Close the HTTP session; the next call opens a new one."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def join_token(
        self, *, identity: str, room: str, metadata: str, ttl_seconds: int = JOIN_TTL_SECONDS
    ) -> str:
        """Answer a token that lets `identity` into `room` and nowhere else; asks nobody.

        Every participant can read `identity` and `metadata`: ids only. No name is set. The token is checked
        when it is used to connect; leaving the room does not end it. Raises ValueError for an empty identity
        or room.
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
        """Record `room_name` into one MP4 at `object_key`, uploaded when the recording has ended.

        The room must exist (LiveKitRefused `not_found`). The key must end in `.mp4` and hold no braces
        (ValueError): LiveKit would change it.
        """
        return await self._start(requests.video(room_name, object_key, upload))

    async def start_microphone(
        self, *, room_name: str, track_sid: str, object_key: str, upload: S3Target
    ) -> EgressSnapshot:
        """Record the sound of one published track, until it is unpublished, its room closes or it is stopped.

        As `start_room_composite`, but the key ends in `.mp4` (AAC) or `.ogg` (Opus). LiveKit accepts a SID that
        it does not know, and the recording is FAILED after 30 s. It needs no browser and a quarter of the
        processor.
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
        """Record the sound of two people into one Ogg: the doctor is the left channel, the patient the right.

        As `start_microphone`, but the key ends in `.ogg`. LiveKit waits 30 s for both to be in the room. An egress
        service that does not know the call refuses it (LiveKitRefused `invalid_argument`; egress 1.9.1, read
        2026-11-29).
        """
        people = doctor_identity, patient_identity
        return await self._start(requests.speakers(room_name, *people, object_key, upload))

    async def stop_egress(self, egress_id: str) -> StopOutcome:
        """Ask that a recording end; asking again is harmless.

        A Timeout may mean that its node died: LiveKit then lists it as active for ever (livekit#1717).
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
        """List recordings of one room, one by its id, or all; ended ones for about a day, unless
        `active_only`.

        An empty list is no proof that a recording is over.
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
        """Whether the process that records answers; None if LiveKit does not say.

        LiveKit's list shows a recording as active for ever if its process died. An update of its streams that names
        none reaches that process, which refuses it: nothing changes (livekit-server 1.13.5 and livekit/egress 1.9.1,
        tried 2026-11-29). LiveKit does not say it of a recording that is ending or has ended; nor does a process that
        is still starting answer. Silence takes 3 s.
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
        """Whether LiveKit's server is connected to somebody whom it lists; None if LiveKit does not say.

        After a crash of the server its list shows everybody who was there. An update that names no change reaches the
        connection itself, and changes nothing (livekit-server 1.13.5, tried 2026-11-29). Silence takes 3 s.
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
        """Who is listed in `room`, without those of whom LiveKit says that it is not connected to them."""
        return await self.connected_of(room, await self.participants(room))

    async def connected_of(
        self, room: str, listed: Sequence[ParticipantSnapshot]
    ) -> list[ParticipantSnapshot]:
        """Those of `listed` of whom LiveKit does not say that it is not connected to them."""
        answers = await asyncio.gather(*(self.is_connected(room, somebody.identity) for somebody in listed))
        return [somebody for somebody, answer in zip(listed, answers, strict=True) if answer is not False]

    async def rooms(self, names: Sequence[str] | None) -> list[RoomSnapshot]:
        """Those of `names` that are open now; every open room when None; asks nothing when there is no
        name.
        """
        if names is not None and not names:
            return []
        async with self._call(self._timeout_seconds) as api:
            answer = await api.room.list_rooms(ListRoomsRequest(names=names or ()))
        return [snapshots.room(info) for info in answer.rooms]

    async def remove_participant(self, room: str, identity: str) -> None:
        """Put someone out, or find that they are not there; their join token lets them in again while it
        lives.
        """
        try:
            async with self._call(self._timeout_seconds) as api:
                await api.room.remove_participant(RoomParticipantIdentity(room=room, identity=identity))
        except LiveKitRefused as refused:
            if refused.detail["code"] != "not_found":
                raise

    async def participants(self, room: str) -> list[ParticipantSnapshot]:
        """Who is in `room` now, recorders included (kind `egress`); nobody when the room is not open."""
        async with self._call(self._timeout_seconds) as api:
            answer = await api.room.list_participants(ListParticipantsRequest(room=room))
        return [snapshots.participant(info) for info in answer.participants]

    async def reachable(self) -> Reachability:
        """Ask for a room that is not there, then for its recordings, then to record nothing.

        `no_egress`: the server can have no recording service. `no_recorder`: none runs, or none has processor time
        left; LiveKit says so after 22 s. A recording service refuses a request that names no room, no track and no
        file before it writes anything down (livekit/egress 1.9.1, read 2026-11-29).
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
        self._ahead_seconds = ahead_seconds(params.response.headers, datetime.now(UTC))

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
