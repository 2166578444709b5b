"""The methods of RoomService and Egress that the stand-in supports, each behind the grant that LiveKit requires."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from livekit.protocol.egress import (
    EgressStatus,
    ListEgressRequest,
    ListEgressResponse,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    StopEgressRequest,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    UpdateStreamRequest,
)
from livekit.protocol.room import (
    CreateRoomRequest,
    DeleteRoomRequest,
    DeleteRoomResponse,
    ListParticipantsRequest,
    ListParticipantsResponse,
    ListRoomsRequest,
    ListRoomsResponse,
    RemoveParticipantResponse,
    RoomParticipantIdentity,
    UpdateParticipantRequest,
)

from devstack.livekit import pace as paces
from devstack.livekit.orders import Orders
from devstack.livekit.pace import Delays, Pace
from devstack.livekit.recorder import Recorder
from devstack.livekit.requests import StartRequest
from devstack.livekit.rooms import Rooms
from devstack.livekit.rows import refused_in_status
from devstack.livekit.twirp import Grants, TwirpError, decode, from_a_service
from devstack.livekit.webhooks import Notifier

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[M]):
    """A Twirp method: its request type and its handler."""

    request: type[M]
    handler: Callable[[Grants, M], Awaitable[Message]]

    async def serve(self, grants: Grants, media: str, body: bytes) -> Message:
        """Handle a request. Raises TwirpError."""
        message = self.request()
        decode(media, body, message)
        return await self.handler(grants, message)


class LiveKitStandIn:
    """The state of the app (`app.state.stand_in`). Tests use its `orders`, `rooms`, `recorder`, `notifier` and
    `delays`.
    """

    def __init__(
        self,
        api_key: str,
        api_secret: str,
        webhook_url: str | None,
        pace: Pace,
        departure_timeout_seconds: float,
        retry_wait_seconds: float,
        chance: random.Random | None = None,
    ) -> None:
        chance = chance or random.SystemRandom()
        self.keys = {api_key: api_secret}
        self.orders = Orders()
        self.notifier = Notifier(
            webhook_url, api_key, api_secret, self.orders, retry_wait_seconds=retry_wait_seconds
        )
        self.rooms = Rooms(self.notifier, departure_timeout_seconds=departure_timeout_seconds)
        self.delays = Delays(pace, self.orders, chance)
        self.rooms.count_delay = lambda: self.delays.seconds((0, paces.COUNTED_SECONDS))
        self.recorder = Recorder(self.rooms, self.notifier, self.orders, pace, self.delays, chance)
        self._methods: dict[str, Method[Any]] = {
            "RoomService/CreateRoom": Method(CreateRoomRequest, self._create_room),
            "RoomService/ListRooms": Method(ListRoomsRequest, self._list_rooms),
            "RoomService/DeleteRoom": Method(DeleteRoomRequest, self._delete_room),
            "RoomService/ListParticipants": Method(ListParticipantsRequest, self._list_participants),
            "RoomService/GetParticipant": Method(RoomParticipantIdentity, self._get_participant),
            "RoomService/RemoveParticipant": Method(RoomParticipantIdentity, self._remove_participant),
            "RoomService/UpdateParticipant": Method(UpdateParticipantRequest, self._update_participant),
            "Egress/StartRoomCompositeEgress": Method(RoomCompositeEgressRequest, self._start_egress),
            "Egress/StartTrackCompositeEgress": Method(TrackCompositeEgressRequest, self._start_egress),
            "Egress/StartEgress": Method(StartEgressRequest, self._start_egress),
            "Egress/StartTrackEgress": Method(TrackEgressRequest, self._start_track_egress),
            "Egress/ListEgress": Method(ListEgressRequest, self._list_egress),
            "Egress/StopEgress": Method(StopEgressRequest, self._stop_egress),
            "Egress/UpdateStream": Method(UpdateStreamRequest, self._update_stream),
        }

    def method(self, path: str) -> Method[Any]:
        """Return the Twirp method that a path names. Raises TwirpError `bad_route`."""
        if path not in self._methods:
            raise TwirpError("bad_route", f"no handler for path {path!r}")
        return self._methods[path]

    async def crash(self, *, with_recorders: bool = False) -> None:
        """Let the server crash and come back: queued webhooks are lost, and all participants are listed as ghosts.

        If `with_recorders` is true, the recorders die in the same moment and stay listed. If `with_recorders` is
        false, the recorders enter their rooms again by themselves.
        """
        await self.notifier.restart()
        self.rooms.crash()
        self.recorder.come_back(are_dead=with_recorders)

    async def aclose(self) -> None:
        await self.recorder.aclose()
        self.rooms.close()
        await self.notifier.aclose()

    async def _create_room(self, grants: Grants, request: CreateRoomRequest) -> Message:
        self._allow(grants, "roomCreate")
        return self.rooms.create(request)

    async def _list_rooms(self, grants: Grants, request: ListRoomsRequest) -> Message:
        self._allow(grants, "roomList")
        return ListRoomsResponse(rooms=self.rooms.find(request.names))

    async def _delete_room(self, grants: Grants, request: DeleteRoomRequest) -> Message:
        self._allow(grants, "roomCreate")
        self.rooms.delete(request.room)
        return DeleteRoomResponse()

    async def _list_participants(self, grants: Grants, request: ListParticipantsRequest) -> Message:
        self._allow(grants, "roomAdmin", request.room)
        return ListParticipantsResponse(participants=self.rooms.participants(request.room))

    async def _get_participant(self, grants: Grants, request: RoomParticipantIdentity) -> Message:
        self._allow(grants, "roomAdmin", request.room)
        return self.rooms.participant(request.room, request.identity)

    async def _remove_participant(self, grants: Grants, request: RoomParticipantIdentity) -> Message:
        self._allow(grants, "roomAdmin", request.room)
        if self.rooms.is_ghost(request.room, request.identity):
            raise _unavailable()
        self.rooms.leave(request.room, request.identity)
        return RemoveParticipantResponse()

    async def _update_participant(self, grants: Grants, request: UpdateParticipantRequest) -> Message:
        """Answer UpdateParticipant with the unchanged participant. A request about a participant who is listed but
        not connected gets no answer.
        """
        self._allow(grants, "roomAdmin", request.room)
        found = self.rooms.participant(request.room, request.identity)
        if self.rooms.is_ghost(request.room, request.identity):
            await self.delays.wait(paces.SILENT_SECONDS)
            raise _unavailable()
        return found

    def _allow(self, grants: Grants, grant: str, room: str | None = None) -> None:
        """Check the grant for a call to RoomService. Raise TwirpError if an order says that the service does not
        answer.
        """
        grants.require(grant, room)
        if self.orders.take("rooms_unavailable"):
            raise _unavailable()

    async def _start_egress(self, grants: Grants, request: StartRequest) -> Message:
        grants.require("roomRecord")
        if order := self.orders.take("refuse_start"):
            raise TwirpError(order.code, "refused by order")
        await self._find_recorder()
        if order := self.orders.take("late_start"):
            self.recorder.start_later(request, order.seconds)
            raise _unavailable()
        if order := self.orders.take("hang_start"):
            await asyncio.sleep(order.seconds)
        info = self.recorder.start(request)
        if order := self.orders.take("answer_start_late"):
            await asyncio.sleep(order.seconds)
        if self.orders.take("start_but_answer_503"):
            raise _unavailable()
        return info

    async def _start_track_egress(self, grants: Grants, request: TrackEgressRequest) -> Message:
        """Refuse a request without a track, as an egress service does. The stand-in supports no egress of this
        kind, and refuses the call.
        """
        grants.require("roomRecord")
        await self._find_recorder()
        if not request.track_id:
            raise from_a_service("invalid_argument", "request has missing or invalid field: track_id")
        raise TwirpError("unimplemented", "the stand-in records no single track")

    async def _find_recorder(self) -> None:
        """Raise TwirpError `unavailable` if an order says that no egress service takes the request."""
        if self.orders.take("no_recorder"):
            await self.delays.wait(paces.NO_RECORDER_SECONDS)
            raise _unavailable()

    async def _update_stream(self, grants: Grants, request: UpdateStreamRequest) -> Message:
        """Answer UpdateStream with a refusal. A living process that records a file refuses the call itself. A dead
        process does not answer. If the egress has ended, the server refuses the call because of the egress's row.
        """
        grants.require("roomRecord")
        if not self.recorder.rows.answers(request.egress_id):
            await self.delays.wait(paces.SILENT_SECONDS)
        recording = self.recorder.rows.row(request.egress_id)
        if recording.info.status not in (EgressStatus.EGRESS_STARTING, EgressStatus.EGRESS_ACTIVE):
            raise refused_in_status(recording, "updated")
        if recording.is_dead:
            raise _unavailable()
        raise from_a_service("invalid_argument", "UpdateStream called on non-streaming egress")

    async def _list_egress(self, grants: Grants, request: ListEgressRequest) -> Message:
        grants.require("roomRecord")
        if self.orders.take("list_unavailable"):
            raise _unavailable()
        if self.orders.take("list_empty"):
            return ListEgressResponse()
        return self.recorder.rows.answer(request)

    async def _stop_egress(self, grants: Grants, request: StopEgressRequest) -> Message:
        grants.require("roomRecord")
        if not self.recorder.rows.answers(request.egress_id):
            await self.delays.wait(paces.SILENT_SECONDS)
        self.recorder.rows.running(request.egress_id)
        if order := self.orders.take("refuse_stop"):
            raise TwirpError(order.code, "refused by order")
        if self.orders.take("stop_times_out"):
            raise from_a_service("deadline_exceeded", "request timed out")
        info = self.recorder.stop(request.egress_id)
        if self.orders.take("stop_but_times_out"):
            raise from_a_service("deadline_exceeded", "request timed out")
        return info


def _unavailable() -> TwirpError:
    """Return the error with which livekit-server answers if the process to which it forwards a call does not
    answer.
    """
    return from_a_service("unavailable", "no response from servers")
