"""Keeps the open rooms and their participants, as LiveKit's RoomService reports them.

A room opens with its first participant or when it is created. A room closes when it is deleted, or has been empty
for the departure timeout (20 s in livekit-server; `pkg/config/config.go`). A participant with the right to publish
publishes a microphone and a camera when joining. Recorders join and leave like people, with the same notifications,
but are hidden and keep no room open (`pkg/service/roommanager.go`, `pkg/telemetry/events.go`; read 2026-11-21).
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

from livekit.protocol.models import (
    Codec,
    ParticipantInfo,
    ParticipantPermission,
    Room,
    TrackInfo,
    TrackSource,
    TrackType,
)
from livekit.protocol.room import CreateRoomRequest

from devstack.livekit.twirp import Grants, TwirpError, from_a_service, new_id
from devstack.livekit.webhooks import Notifier

DEPARTURE_TIMEOUT_SECONDS: Final = 20
EMPTY_TIMEOUT_SECONDS: Final = 300
MAX_NAME_CHARACTERS: Final = 256

_TRACKS: Final = (
    (TrackType.AUDIO, TrackSource.MICROPHONE, "audio/opus"),
    (TrackType.VIDEO, TrackSource.CAMERA, "video/VP8"),
)
_PEOPLE: Final = (ParticipantInfo.Kind.STANDARD, ParticipantInfo.Kind.SIP, ParticipantInfo.Kind.INGRESS)


class Rooms:
    """The rooms. `on_publish(name)` is called when a participant publishes, and `on_close(name)` when a room has
    closed.

    `on_silence(name, track_sid, has_left)` is called when an audio track carries no more sound, because the
    publisher unpublishes the track, leaves (then `has_left` is true), or loses the device. `on_unpublish(name,
    track_sid)` is called when a track has been unpublished or its publisher has left.
    """

    def __init__(
        self, notifier: Notifier, *, departure_timeout_seconds: float = DEPARTURE_TIMEOUT_SECONDS
    ) -> None:
        self._notifier = notifier
        self._departure_timeout_seconds = departure_timeout_seconds
        self._rooms: dict[str, Room] = {}
        self._people: dict[str, dict[str, ParticipantInfo]] = {}
        self._closing: dict[str, asyncio.TimerHandle] = {}
        self._ghosts: dict[str, set[str]] = {}
        self._counted: dict[str, int] = {}
        self.count_delay: Callable[[], float] = lambda: 0
        self._is_open: set[str] = set()
        self.on_publish: Callable[[str], None] = lambda _name: None
        self._channels: dict[str, dict[str, int]] = {}
        self.on_silence: Callable[[str, str, bool], None] = lambda _name, _sid, _left: None
        self.on_unpublish: Callable[[str, str], None] = lambda _name, _sid: None
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
        """Return the open rooms among `names`, or all open rooms if `names` is empty."""
        return [self.snapshot(name) for name in (names or list(self._rooms)) if name in self._rooms]

    def snapshot(self, name: str) -> Room:
        """Return the room. Raises TwirpError `not_found`."""
        if name not in self._rooms:
            raise from_a_service("not_found", "requested room does not exist")
        room = Room()
        room.CopyFrom(self._rooms[name])
        inside = self._people[name].values()
        room.num_participants = self._counted.get(name, 0)
        room.num_publishers = sum(one.is_publisher for one in inside)
        room.active_recording = any(one.kind == ParticipantInfo.Kind.EGRESS for one in inside)
        return room

    def participants(self, name: str) -> list[ParticipantInfo]:
        return list(self._people.get(name, {}).values())

    def participant(self, name: str, identity: str) -> ParticipantInfo:
        """Return the participant. Raises TwirpError `not_found`."""
        found = self._people.get(name, {}).get(identity)
        if found is None:
            raise from_a_service("not_found", "participant does not exist")
        return found

    def publisher(self, name: str, track_sid: str) -> str | None:
        """Return the publisher of this audio track, or None."""
        for person in self.participants(name):
            for track in person.tracks:
                if track.sid == track_sid and track.type == TrackType.AUDIO:
                    return person.identity
        return None

    def channel(self, name: str, identity: str) -> int:
        """Return which channel of the stand-in's sound file is this participant's voice: the channel given at
        joining, otherwise the first channel that nobody in the room has. A participant's channel stays the same
        while the room is open.
        """
        taken = self._channels.setdefault(name, {})
        if identity not in taken:
            taken[identity] = next(number for number in itertools.count() if number not in taken.values())
        return taken[identity]

    def is_ghost(self, name: str, identity: str) -> bool:
        """Return whether a participant is listed although the server lost them in a crash."""
        return identity in self._ghosts.get(name, ())

    def crash(self) -> None:
        """Simulate a crash of the server: every connection breaks without a notification. All participants stay
        listed, and every room keeps its SID.

        Redis keeps them. When a participant enters a room after the crash, the server sends `room_started` again.
        After a restart, only participants who are really connected keep a room open (livekit-server 1.13.5, seen
        2026-11-29).
        """
        self.close()
        self._closing.clear()
        self._is_open.clear()
        self._ghosts = {name: set(people) for name, people in self._people.items()}

    def join(self, grants: Grants, *, channel: int | None = None) -> ParticipantInfo:
        """Let the holder of a join token into the room. Raises TwirpError."""
        grants.require("roomJoin")
        name = grants.video.get("room", "")
        publishes = grants.video.get("canPublish", True) is True
        return self.admit(
            name, grants.identity, metadata=grants.metadata, publishes=publishes, channel=channel
        )

    def admit(
        self,
        name: str,
        identity: str,
        *,
        metadata: str = "",
        publishes: bool = True,
        channel: int | None = None,
    ) -> ParticipantInfo:
        """Let a participant in. If a participant with the same identity is in the room already, that participant
        leaves. Raises TwirpError.

        `channel` is the channel of the stand-in's sound that plays as this participant's voice.
        """
        if not identity or not name:
            raise TwirpError("invalid_argument", "identity cannot be empty" if name else "no room name")
        if name not in self._rooms:
            self._open(name, "")
        if identity in self._people[name] and not self.is_ghost(name, identity):
            self.leave(name, identity)
        person = self._enter(name, identity, ParticipantInfo.Kind.STANDARD, metadata)
        if channel is not None:
            self._channels.setdefault(name, {})[identity] = channel
        self.channel(name, identity)
        if publishes:
            self.publish(name, identity)
        return person

    def publish(self, name: str, identity: str) -> None:
        """Publish a participant's microphone and camera, unless they are published. Raises TwirpError `not_found`."""
        person = self.participant(name, identity)
        if person.tracks:
            return
        for track in _TRACKS:
            self._add_track(name, person, *track)
        self.on_publish(name)

    def republish(self, name: str, identity: str) -> None:
        """Publish a participant's microphone again. The notification of the new track comes before the notification
        that the old track ended.

        Raises TwirpError `not_found`.
        """
        person = self.participant(name, identity)
        old = next((track for track in person.tracks if track.source == TrackSource.MICROPHONE), None)
        self._add_track(name, person, *_TRACKS[0])
        self.on_publish(name)
        if old is not None:
            self._remove_track(name, person, old)

    def unpublish(self, name: str, identity: str) -> None:
        """Unpublish all tracks of a participant. Raises TwirpError `not_found`."""
        self._unpublish(name, self.participant(name, identity), has_left=False)

    def kill(self, name: str, identity: str, after_seconds: float) -> None:
        """Let a participant's device die. LiveKit notices the death after `after_seconds`, and lists the
        participant and their tracks until then. Raises TwirpError `not_found`.
        """
        person = self.participant(name, identity)
        for track in person.tracks:
            self.on_silence(name, track.sid, False)

        def notice() -> None:
            if self._people.get(name, {}).get(identity) is person:
                self.leave(name, identity)

        asyncio.get_running_loop().call_later(after_seconds, notice)

    def join_recorder(self, name: str, egress_id: str) -> None:
        """Let a recorder enter the room, hidden from the people there. If the room has closed meanwhile, the
        stand-in creates the room again.
        """
        if name not in self._rooms:
            self._open(name, "")
        self._enter(name, egress_id, ParticipantInfo.Kind.EGRESS)

    def activate_recorder(self, name: str, egress_id: str) -> None:
        """Set the state of a recorder in the room to connected."""
        if found := self._people.get(name, {}).get(egress_id):
            found.state = ParticipantInfo.State.ACTIVE

    def leave(self, name: str, identity: str) -> None:
        """Remove a participant. Raises TwirpError `not_found`."""
        if self.is_ghost(name, identity):
            raise from_a_service("not_found", "participant does not exist")
        self._unpublish(name, self.participant(name, identity), has_left=True)
        person = self._people[name].pop(identity)
        person.state = ParticipantInfo.State.DISCONNECTED
        self._notifier.room("participant_left", self.snapshot(name), person)
        self._count_later(name)
        if person.kind in _PEOPLE:
            self._close_later(name, self._departure_timeout_seconds)

    def leave_recorder(self, name: str, egress_id: str) -> None:
        """Remove a recorder if it is still in the room."""
        if egress_id in self._people.get(name, {}) and not self.is_ghost(name, egress_id):
            self.leave(name, egress_id)

    def delete(self, name: str) -> None:
        """Close a room and remove all participants. Raises TwirpError `not_found`."""
        room = self.snapshot(name)
        for identity in set(self._people[name]) - self._ghosts.get(name, set()):
            self.leave(name, identity)
        if timer := self._closing.pop(name, None):
            timer.cancel()
        del self._rooms[name], self._people[name]
        self._channels.pop(name, None)
        self._ghosts.pop(name, None)
        self._counted.pop(name, None)
        self._is_open.discard(name)
        self._notifier.room("room_finished", room)
        self.on_close(name)

    def close(self) -> None:
        """Cancel the timers."""
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
            turn_password=secrets.token_urlsafe(32),
            enabled_codecs=[Codec(mime="audio/opus"), Codec(mime="video/VP8")],
        )
        self._people[name] = {}
        self._is_open.add(name)
        self._close_later(name, EMPTY_TIMEOUT_SECONDS)
        self._notifier.room("room_started", self.snapshot(name))

    def _enter(
        self, name: str, identity: str, kind: ParticipantInfo.Kind, metadata: str = ""
    ) -> ParticipantInfo:
        if name not in self._is_open:
            self._is_open.add(name)
            self._notifier.room("room_started", self.snapshot(name))
        self._ghosts.get(name, set()).discard(identity)
        if kind in _PEOPLE and (timer := self._closing.pop(name, None)):
            timer.cancel()
        now = time.time()
        is_recorder = kind == ParticipantInfo.Kind.EGRESS
        person = ParticipantInfo(
            sid=new_id("PA_"),
            identity=identity,
            metadata=metadata,
            state=ParticipantInfo.State.JOINED if is_recorder else ParticipantInfo.State.ACTIVE,
            joined_at=int(now),
            joined_at_ms=int(now * 1000),
            permission=ParticipantPermission(
                can_subscribe=True, can_publish=not is_recorder, hidden=is_recorder, recorder=is_recorder
            ),
            kind=kind,
        )
        self._people[name][identity] = person
        self._count_later(name)
        self._notifier.room("participant_joined", self.snapshot(name), person)
        return person

    def _add_track(
        self, name: str, person: ParticipantInfo, kind: TrackType, source: TrackSource, mime_type: str
    ) -> None:
        track = person.tracks.add(sid=new_id("TR_"), type=kind, source=source, mime_type=mime_type)
        person.is_publisher = True
        self._tell_of_track("track_published", name, person, track)

    def _remove_track(
        self, name: str, person: ParticipantInfo, track: TrackInfo, *, has_left: bool = False
    ) -> None:
        gone = TrackInfo()
        gone.CopyFrom(track)
        self.on_silence(name, gone.sid, has_left)
        person.tracks.remove(track)
        self._tell_of_track("track_unpublished", name, person, gone)
        self.on_unpublish(name, gone.sid)

    def _unpublish(self, name: str, person: ParticipantInfo, *, has_left: bool) -> None:
        person.is_publisher = False
        while person.tracks:
            self._remove_track(name, person, person.tracks[-1], has_left=has_left)

    def _tell_of_track(self, event: str, name: str, person: ParticipantInfo, track: TrackInfo) -> None:
        """Notify about a track. The notification about a track contains only the ids of the track's publisher."""
        publisher = ParticipantInfo(sid=person.sid, identity=person.identity)
        room = Room(sid=self._rooms[name].sid, name=name)
        self._notifier.room(event, room, publisher, track)

    def _count_later(self, name: str) -> None:
        """Update the room's reported number of people after a delay, as LiveKit does."""
        room = self._rooms[name]

        def count() -> None:
            if self._rooms.get(name) is room:
                self._counted[name] = sum(one.kind in _PEOPLE for one in self._people[name].values())

        if delay := self.count_delay():
            asyncio.get_running_loop().call_later(delay, count)
        else:
            count()

    def _close_later(self, name: str, seconds: float) -> None:
        there = (one for who, one in self._people[name].items() if not self.is_ghost(name, who))
        if any(one.kind in _PEOPLE for one in there):
            return
        if timer := self._closing.pop(name, None):
            timer.cancel()
        self._closing[name] = asyncio.get_running_loop().call_later(seconds, self.delete, name)
