"""The rooms that are open and who is in them, as RoomService tells it.

A room opens with its first participant or when it is created, and closes when it is deleted or has stood
empty for the departure timeout (20 s in livekit-server; `pkg/config/config.go`, read 2026-11-21).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.room import CreateRoomRequest

from app.devstack.livekit.twirp import Grants, TwirpError, new_id
from app.devstack.livekit.webhooks import Notifier

DEPARTURE_TIMEOUT_SECONDS: Final = 20
EMPTY_TIMEOUT_SECONDS: Final = 300
MAX_NAME_CHARACTERS: Final = 256

_PEOPLE: Final = (ParticipantInfo.Kind.STANDARD, ParticipantInfo.Kind.SIP, ParticipantInfo.Kind.INGRESS)


class Rooms:
    """`on_publish(name)` is called when somebody publishes, `on_close(name)` when a room is gone."""

    def __init__(
        self, notifier: Notifier, *, departure_timeout_seconds: float = DEPARTURE_TIMEOUT_SECONDS
    ) -> None:
        self._notifier = notifier
        self._departure_timeout_seconds = departure_timeout_seconds
        self._rooms: dict[str, Room] = {}
        self._people: dict[str, dict[str, ParticipantInfo]] = {}
        self._closing: dict[str, asyncio.TimerHandle] = {}
        self.on_publish: Callable[[str], None] = lambda _name: None
        self.on_close: Callable[[str], None] = lambda _name: None

    def create(self, request: CreateRoomRequest) -> Room:
        if len(request.name) > MAX_NAME_CHARACTERS:
            raise TwirpError("invalid_argument", "room name length exceeds limits")
        if not request.name:
            raise TwirpError("invalid_argument", "no room name")
        if request.name not in self._rooms:
            self._open(request.name, request.metadata)
        return self.snapshot(request.name)

    def find(self, names: Sequence[str]) -> list[Room]:
        """The open rooms among `names`; all of them when there is no name."""
        return [self.snapshot(name) for name in (names or list(self._rooms)) if name in self._rooms]

    def snapshot(self, name: str) -> Room:
        """Raises TwirpError `not_found`."""
        if name not in self._rooms:
            raise TwirpError("not_found", "requested room does not exist")
        room = Room()
        room.CopyFrom(self._rooms[name])
        inside = self._people[name].values()
        room.num_participants = sum(one.kind in _PEOPLE for one in inside)
        room.num_publishers = sum(one.is_publisher for one in inside)
        room.active_recording = any(one.kind == ParticipantInfo.Kind.EGRESS for one in inside)
        return room

    def participants(self, name: str) -> list[ParticipantInfo]:
        return list(self._people.get(name, {}).values())

    def participant(self, name: str, identity: str) -> ParticipantInfo:
        """Raises TwirpError `not_found`."""
        found = self._people.get(name, {}).get(identity)
        if found is None:
            raise TwirpError("not_found", "participant does not exist")
        return found

    def join(self, grants: Grants) -> ParticipantInfo:
        """Let the holder of a join token in; whoever was there under the same identity leaves. Raises
        TwirpError.
        """
        grants.require("roomJoin")
        name = grants.video.get("room", "")
        if not grants.identity or not name:
            raise TwirpError("invalid_argument", "identity cannot be empty" if name else "no room name")
        if name not in self._rooms:
            self._open(name, "")
        if grants.identity in self._people[name]:
            self.leave(name, grants.identity)
        can_publish = grants.video.get("canPublish", True) is True
        person = self._enter(name, grants.identity, ParticipantInfo.Kind.STANDARD, publishes=can_publish)
        person.metadata = grants.metadata
        self._notifier.room("participant_joined", self.snapshot(name), person)
        if can_publish:
            self.on_publish(name)
        return person

    def join_recorder(self, name: str, egress_id: str) -> None:
        """Let a recorder in, unseen by the people there."""
        if name in self._rooms:
            self._enter(name, egress_id, ParticipantInfo.Kind.EGRESS, publishes=False)

    def leave(self, name: str, identity: str) -> None:
        """Raises TwirpError `not_found`."""
        person = self.participant(name, identity)
        del self._people[name][identity]
        person.state = ParticipantInfo.State.DISCONNECTED
        if person.kind in _PEOPLE:
            self._notifier.room("participant_left", self.snapshot(name), person)
            self._close_later(name, self._departure_timeout_seconds)

    def leave_recorder(self, name: str, egress_id: str) -> None:
        """Let a recorder go, if it is still there."""
        if egress_id in self._people.get(name, {}):
            self.leave(name, egress_id)

    def delete(self, name: str) -> None:
        """Close a room and put everybody out. Raises TwirpError `not_found`."""
        room = self.snapshot(name)
        for identity in list(self._people[name]):
            self.leave(name, identity)
        if timer := self._closing.pop(name, None):
            timer.cancel()
        del self._rooms[name], self._people[name]
        self._notifier.room("room_finished", room)
        self.on_close(name)

    def close(self) -> None:
        """Forget the timers."""
        for timer in self._closing.values():
            timer.cancel()

    def _open(self, name: str, metadata: str) -> None:
        now = time.time()
        self._rooms[name] = Room(
            sid=new_id("RM_"),
            name=name,
            metadata=metadata,
            empty_timeout=EMPTY_TIMEOUT_SECONDS,
            departure_timeout=int(self._departure_timeout_seconds),
            creation_time=int(now),
            creation_time_ms=int(now * 1000),
        )
        self._people[name] = {}
        self._close_later(name, EMPTY_TIMEOUT_SECONDS)
        self._notifier.room("room_started", self.snapshot(name))

    def _enter(
        self, name: str, identity: str, kind: ParticipantInfo.Kind, *, publishes: bool
    ) -> ParticipantInfo:
        if kind in _PEOPLE and (timer := self._closing.pop(name, None)):
            timer.cancel()
        now = time.time()
        person = ParticipantInfo(
            sid=new_id("PA_"),
            identity=identity,
            state=ParticipantInfo.State.ACTIVE,
            joined_at=int(now),
            joined_at_ms=int(now * 1000),
            is_publisher=publishes,
            kind=kind,
        )
        self._people[name][identity] = person
        return person

    def _close_later(self, name: str, seconds: float) -> None:
        if any(one.kind in _PEOPLE for one in self._people[name].values()):
            return
        if timer := self._closing.pop(name, None):
            timer.cancel()
        self._closing[name] = asyncio.get_running_loop().call_later(seconds, self.delete, name)
