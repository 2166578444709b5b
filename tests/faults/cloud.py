"""An in-memory LiveKit and an in-memory bucket for the state machine. They also know the true state of every egress
and object.

The in-memory parts return the values and errors of `app.integrations`, so a sequence takes milliseconds. Other
tests use the LiveKit stand-in and cover the wire protocol. No egress changes by itself: a rule of the state machine
makes each change. Every call to the in-memory LiveKit or bucket passes a boundary before and after it, at which a
fault can occur. At a boundary, `Faults` can end the process, let the call fail, or first run an action of a user or
of LiveKit.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NoReturn

from app.errors import Conflict, NotFound, Timeout, UpstreamFailed
from app.integrations.livekit.client import (
    EgressSnapshot,
    LiveKit,
    LiveKitRefused,
    ParticipantSnapshot,
    RoomSnapshot,
    S3Target,
)
from app.integrations.livekit.client import StopOutcome as Outcome
from app.integrations.storage.client import Storage
from app.integrations.storage.objects import StoredObject
from app.media.probe import Container, MediaInfo, MediaRefused, ReadRange

KEPT_AFTER_END = timedelta(hours=24)
ROOM_CLOSES_AFTER = timedelta(seconds=20)
TRACK_IS_AWAITED = timedelta(seconds=30)
MAGIC: dict[Container, bytes] = {"mp4": b"\0\0\0\x18ftypisom", "ogg": b"OggS\0\x02 sound"}


class Crashed(BaseException):
    """Raised at the boundary at which the simulated process dies. No exception handler of the application may catch
    this exception.
    """


@dataclass
class Disturbance:
    """A fault at one boundary of a run. `at` is the number of the boundary, from 1."""

    at: int
    kind: str


class Faults:
    """Counts the boundaries of a run, at which the planned fault occurs: before and after each call to LiveKit or
    the bucket, and before and after each commit.
    """

    def __init__(self) -> None:
        self.meanwhile: Callable[[str], Awaitable[None]] | None = None
        self.interruptions = self.committed_after = 0
        self._plan: Disturbance | None = None
        self._passed = 0

    def plan(self, disturbance: Disturbance | None) -> None:
        """Plan a fault for the run that begins now, or no fault if `disturbance` is None."""
        self._plan, self._passed = disturbance, 0

    def commit(self) -> None:
        """Record that the worker has committed a transaction now, after every interruption so far."""
        self.committed_after = self.interruptions

    async def boundary(self, *, is_in_transaction: bool = False) -> None:
        """Pass a boundary. Raises Crashed or UpstreamFailed if such a fault is planned for this boundary."""
        self._passed += 1
        plan = self._plan
        if plan is None or self._passed < plan.at or (is_in_transaction and plan.kind not in _IN_TRANSACTION):
            return
        self._plan = None
        if plan.kind == "crash":
            raise Crashed
        if plan.kind == "fail":
            raise UpstreamFailed("livekit_unavailable")
        if self.meanwhile is not None:
            self.interruptions += 1
            await self.meanwhile(plan.kind)
            self.interruptions += 1


_IN_TRANSACTION = ("crash", "fail")


@dataclass
class Egress:
    """An egress: `snapshot` is its true state, `history` contains its earlier states, oldest first."""

    snapshot: EgressSnapshot
    container: Container
    is_dead: bool = False
    is_forgotten: bool = False
    is_uploaded: bool = False
    track_sid: str | None = None
    history: list[EgressSnapshot] = field(default_factory=list)
    content: bytes = b""

    @property
    def is_live(self) -> bool:
        """Return whether the egress is recording or starting."""
        return not self.is_dead and self.snapshot.status in ("starting", "active")


@dataclass(frozen=True)
class Told:
    """A LiveKit event, which is delivered once, twice, late or never."""

    event_id: str
    event: str
    egress_id: str | None
    room_name: str | None
    status: str = "EGRESS_STARTING"


@dataclass
class Room:
    """A room. `people` maps each person's identity to whether the person publishes, and `microphones` contains the
    SIDs of each person's microphone tracks.
    """

    people: dict[str, bool] = field(default_factory=dict)
    microphones: dict[str, list[str]] = field(default_factory=dict)
    empty_since: datetime | None = None


@dataclass(frozen=True)
class Ask:
    """A request to start an egress, with the time at which LiveKit received it."""

    object_key: str
    at: datetime


class Bucket(Storage):
    """A bucket in memory. If `is_down` is true, every call of the vendor fails."""

    def __init__(self, cloud: "Cloud") -> None:
        self._cloud = cloud
        self.objects: dict[str, tuple[bytes, StoredObject]] = {}
        self.is_down = False

    def put(self, key: str, content: bytes) -> None:
        """Store an object, as an uploader does."""
        etag = hashlib.sha256(content).hexdigest()[:32]
        stored = StoredObject(len(content), "video/mp4", etag, self._cloud.now())
        self.objects[key] = (content, stored)

    async def head(self, key: str) -> StoredObject | None:
        """Return the object's metadata, or None if the object does not exist."""
        async with _call(self._cloud, is_down=self.is_down):
            return self.objects[key][1] if key in self.objects else None

    async def sha256(self, key: str, stored: StoredObject) -> str:
        """Return the SHA-256 of the object."""
        content = await self.read_range(key, 0, stored.size_bytes, etag=stored.etag)
        return hashlib.sha256(content).hexdigest()

    async def read_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        """Return a range of the object. Raises the errors of the real bucket."""
        async with _call(self._cloud, is_down=self.is_down):
            content, stored = self.objects.get(key, (b"", None))
            if stored is None and etag is None:
                raise NotFound("storage_object_missing")
            if stored is None or etag not in (None, stored.etag):
                raise Conflict("storage_object_changed")
            return content[start : start + length]


class _call:  # noqa: N801 - reads as the verb it is
    """A context manager around a call to LiveKit or the bucket, with a boundary before and after the call. The call
    fails if `is_down` is true.
    """

    def __init__(self, cloud: "Cloud", *, is_down: bool = False) -> None:
        self._cloud, self._is_down = cloud, is_down

    async def __aenter__(self) -> None:
        await self._cloud.faults.boundary()
        if self._is_down:
            raise UpstreamFailed("storage_unreachable")

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            await self._cloud.faults.boundary()


async def quick_probe(read_range: ReadRange, size_bytes: int, container: Container) -> MediaInfo:
    """Check a file by its first bytes alone. The function replaces the child process of the probe, which would take
    a tenth of a second.
    """
    if not (await read_range(0, size_bytes)).startswith(MAGIC[container]):
        raise MediaRefused("media_unreadable")
    return MediaInfo(container, 1.0, container == "mp4", has_audio=True, audio_channels=2)


class Cloud(LiveKit):
    """LiveKit in memory. `fault[call]` is the fault that the next calls of this method have."""

    def __init__(self) -> None:
        super().__init__("http://nowhere.invalid", "key", "secret")
        self.faults = Faults()
        self.bucket = Bucket(self)
        self.ahead = timedelta()
        self.media: dict[Container, bytes] = dict(MAGIC)
        self.egresses: dict[str, Egress] = {}
        self.rooms_open: dict[str, Room] = {}
        self.turns_up_late: list[Egress] = []
        self.uploads_late: list[Egress] = []
        self.told: list[Told] = []
        self.asks: list[Ask] = []
        self.fault: dict[str, str] = {}
        self.on_ask: Callable[[str, str], None] = lambda room, key: None
        self.looked_after = self.listed_after = 0
        self._run = secrets.token_hex(4)
        self._ids = count(1)
        self._ticks = count(1)

    def now(self) -> datetime:
        """Return the machine's time. The method returns a different time at each call."""
        return datetime.now(UTC) + self.ahead + timedelta(microseconds=next(self._ticks))

    def heal(self) -> None:
        """End all faults, and deliver every egress that is late."""
        self.fault.clear()
        self.bucket.is_down = False
        for egress in list(self.turns_up_late):
            self.turn_up(egress)

    # Methods that the application calls.

    async def start_room_composite(
        self, *, room_name: str, object_key: str, upload: S3Target
    ) -> EgressSnapshot:
        """Start an egress of the room's video and sound."""
        return await self._begin(room_name, object_key, "mp4")

    async def start_microphone(
        self, *, room_name: str, track_sid: str, object_key: str, upload: S3Target
    ) -> EgressSnapshot:
        """Start an egress of one microphone track."""
        container: Container = "mp4" if object_key.endswith(".mp4") else "ogg"
        return await self._begin(room_name, object_key, container, track_sid)

    async def start_speakers(
        self,
        *,
        room_name: str,
        doctor_identity: str,
        patient_identity: str,
        object_key: str,
        upload: S3Target,
    ) -> EgressSnapshot:
        """Start an egress of the doctor's and the patient's sound."""
        return await self._begin(room_name, object_key, "ogg")

    async def _begin(
        self, room_name: str, object_key: str, container: Container, track_sid: str | None = None
    ) -> EgressSnapshot:
        async with _call(self):
            self.on_ask(room_name, object_key)
            self.asks.append(Ask(object_key, self.now()))
            fault = self.fault.pop("start", None)
            if fault == "refused":
                raise LiveKitRefused("livekit_refused", code="resource_exhausted", status=429)
            if fault == "unanswered":
                raise Timeout("livekit_timeout")
            egress = self._made(room_name, object_key, container)
            egress.track_sid = track_sid
            if fault == "late":
                self.turns_up_late.append(egress)
                raise Timeout("livekit_timeout")
            if room_name not in self.rooms_open:
                raise LiveKitRefused("livekit_refused", code="not_found", status=404)
            self.turn_up(egress)
            if fault == "answer lost":
                raise UpstreamFailed("livekit_unavailable", status=503)
            return egress.snapshot

    async def stop_egress(self, egress_id: str) -> Outcome:
        """Stop the egress as the real method does. If the node of the egress is dead, the egress never stops."""
        async with _call(self):
            fault = self.fault.get("stop")
            egress = self.egresses.get(egress_id)
            if egress is None or egress.is_forgotten:
                return "not_found"
            if egress.is_dead or fault == "unanswered":
                raise Timeout("livekit_timeout")
            if not egress.is_live:
                return "already_ended"
            if fault == "lost":
                return "stopping"
            if egress.snapshot.status == "starting":
                self.change(egress, "aborted", error_reason="stopped_before_start")
            else:
                self.change(egress, "ending")
            return "stopping"

    async def list_egress(
        self, *, room_name: str | None = None, egress_id: str | None = None, active_only: bool = False
    ) -> list[EgressSnapshot]:
        """List the egresses as the real method does. An egress stays in the list for about a day after its end."""
        async with _call(self):
            self.listed_after = self.faults.interruptions
            fault = self.fault.get("list")
            if fault == "unavailable":
                raise UpstreamFailed("livekit_unavailable", status=503)
            found = [one for one in self.egresses.values() if self._is_listed(one)]
            if fault == "empty":
                found = []
            if fault == "partial":
                found = found[1:]
            snapshots = [
                one.history[len(one.history) // 2] if fault == "stale" and one.history else one.snapshot
                for one in found
            ]
            return [
                one
                for one in snapshots
                if room_name in (None, one.room_name) and egress_id in (None, one.egress_id)
            ]

    async def recorder_answers(self, egress_id: str) -> bool | None:
        """Return whether the recorder of the egress answers, or None if LiveKit cannot tell."""
        async with _call(self):
            egress = self.egresses.get(egress_id)
            if egress is None or egress.is_forgotten or egress.snapshot.status not in ("starting", "active"):
                return None
            return not egress.is_dead

    async def is_connected(self, room: str, identity: str) -> bool | None:
        """Return whether the participant is connected. Every listed participant is."""
        return identity in {one.identity for one in await self.participants(room)}

    async def rooms(self, names: Sequence[str] | None) -> list[RoomSnapshot]:
        """Return the open rooms with these names, or all open rooms."""
        async with _call(self):
            fault = self.fault.get("rooms")
            if fault == "unavailable":
                raise UpstreamFailed("livekit_unavailable", status=503)
            found = {} if fault == "empty" else self.rooms_open
            return [
                RoomSnapshot(name, "RM_1", len(room.people), self.now())
                for name, room in found.items()
                if names is None or name in names
            ]

    async def participants(self, room: str) -> list[ParticipantSnapshot]:
        """List the participants, including recorders, as the real method does."""
        async with _call(self):
            if self.fault.get("participants") == "unavailable":
                raise UpstreamFailed("livekit_unavailable", status=503)
            self.looked_after = self.faults.interruptions
            recorders = [
                one.snapshot.egress_id
                for one in self.egresses.values()
                if one.snapshot.room_name == room and not one.is_dead and one.snapshot.status == "active"
            ]
            found = self.rooms_open.get(room, Room())
            return [
                *(
                    self._somebody(name, "standard", is_publisher, *found.microphones.get(name, ()))
                    for name, is_publisher in found.people.items()
                ),
                *(self._somebody(name, "egress", False) for name in recorders),
            ]

    def _api(self) -> NoReturn:
        raise AssertionError("the application asks something that is not in memory")

    def _somebody(
        self, identity: str, kind: str, is_publisher: bool, *microphones: str
    ) -> ParticipantSnapshot:
        return ParticipantSnapshot(
            identity, f"PA_{identity}", kind, "active", self.now(), is_publisher, microphones
        )

    def _is_listed(self, egress: Egress) -> bool:
        ended = egress.snapshot.ended_at
        return not egress.is_forgotten and (ended is None or self.now() - ended < KEPT_AFTER_END)

    # Events inside LiveKit.

    def _made(self, room_name: str, object_key: str, container: Container) -> Egress:
        snapshot = EgressSnapshot(
            egress_id=f"EG_{self._run}{next(self._ids)}",
            room_name=room_name,
            room_sid="RM_1",
            status="starting",
            object_key=object_key,
            started_at=None,
            ended_at=None,
            updated_at=self.now(),
            duration_seconds=None,
            size_bytes=None,
            error_code=None,
            error_reason=None,
        )
        egress = Egress(snapshot, container)
        egress.content = self.whole(egress)
        return egress

    def turn_up(self, egress: Egress) -> None:
        """Add the egress to the list of egresses that LiveKit returns. If the egress is late, the method adds it
        only if its room is still open.
        """
        is_late = egress in self.turns_up_late
        if is_late:
            self.turns_up_late.remove(egress)
        if is_late and egress.snapshot.room_name not in self.rooms_open:
            return
        egress.snapshot = replace(egress.snapshot, updated_at=self.now())
        self.egresses[egress.snapshot.egress_id] = egress
        self._tell_egress("egress_started", egress)

    def change(self, egress: Egress, status: str, **changes: Any) -> None:
        """Change the status of an egress. LiveKit sends an event."""
        now = self.now()
        is_over = status in ("complete", "failed", "aborted", "limit_reached")
        egress.history.append(egress.snapshot)
        if status == "active":
            changes["started_at"] = now
        ended_at = now if is_over else None
        egress.snapshot = replace(
            egress.snapshot, status=status, updated_at=now, ended_at=ended_at, **changes
        )
        self._tell_egress("egress_ended" if is_over else "egress_updated", egress)

    def end(self, egress: Egress, how: str) -> None:
        """End an egress. `how` is `complete`, `limit_reached`, `failed` or `aborted`, optionally followed by a word
        for what happens to the object.

        The argument `complete late` means that the object appears later. The argument `complete never` means that
        no object appears. The argument `complete short` means that the object is truncated. The argument `complete
        other` means that the object has a wrong format. The argument `failed with` means that the egress failed,
        but the object exists. The argument `aborted with` means that the egress was aborted and reports a file.
        """
        status, _, fate = how.partition(" ")
        size = None if status == "failed" else len(egress.content)
        reason = {"failed": "upload_failed", "limit_reached": "limit_reached"}.get(status)
        if fate == "other":
            egress.content = b"#EXTM3U".ljust(len(egress.content))
        if fate == "short":
            egress.content = egress.content[:-2]
        if fate == "late":
            self.uploads_late.append(egress)
        elif fate != "never" and (status != "failed" or fate == "with"):
            self.upload(egress)
        self.change(egress, status, size_bytes=size, error_reason=reason)

    def upload(self, egress: Egress) -> None:
        """Store the object of the egress."""
        if egress in self.uploads_late:
            self.uploads_late.remove(egress)
        egress.is_uploaded = True
        self.bucket.put(egress.snapshot.object_key or "", egress.content)

    def enter(self, room_name: str, identity: str, *, is_publisher: bool) -> None:
        """Let a participant join the room, or let one who is there start to publish. The first participant opens
        the room.
        """
        room = self.rooms_open.setdefault(room_name, Room())
        room.people[identity] = is_publisher
        room.empty_since = None
        if is_publisher and not room.microphones.get(identity):
            self.publish(room_name, identity)
        else:
            self._tell("participant_joined", None, room_name)

    def publish(self, room_name: str, identity: str) -> str:
        """Publish a microphone of a participant in the room. Return the SID of the track, which is unique."""
        track_sid = f"TR_{self._run}{next(self._ids)}"
        self.rooms_open[room_name].microphones.setdefault(identity, []).append(track_sid)
        self._tell("track_published", None, room_name)
        return track_sid

    def unpublish(self, room_name: str, identity: str) -> None:
        """End the microphone tracks of a participant, and the egresses that record them."""
        for track_sid in self.rooms_open.get(room_name, Room()).microphones.pop(identity, ()):
            self._tell("track_unpublished", None, room_name)
            for egress in self.egresses.values():
                if egress.track_sid == track_sid and egress.is_live:
                    self._source_closed(egress)

    def _source_closed(self, egress: Egress) -> None:
        if egress.snapshot.status == "active":
            self.change(egress, "ending")
        else:
            self.change(egress, "aborted", error_reason="room_closed_before_start")

    def _is_published(self, egress: Egress) -> bool:
        room = self.rooms_open.get(egress.snapshot.room_name, Room())
        return any(egress.track_sid in tracks for tracks in room.microphones.values())

    def give_up_tracks(self) -> None:
        """Set egresses to FAILED if their track has been unpublished for 30 s."""
        for egress in self.egresses.values():
            is_over = self.now() - (egress.snapshot.updated_at or self.now()) > TRACK_IS_AWAITED
            is_awaited = egress.is_live and egress.snapshot.status == "starting" and egress.track_sid
            if is_awaited and is_over and not self._is_published(egress):
                self.change(egress, "failed", error_code=404, error_reason="failed")

    def leave(self, room_name: str, identity: str) -> None:
        """Let a participant leave. The room closes after it has been empty for a while."""
        room = self.rooms_open.get(room_name, Room())
        room.people.pop(identity, None)
        self.unpublish(room_name, identity)
        self._tell("participant_left", None, room_name)
        if not room.people:
            room.empty_since = self.now()

    def close_rooms(self) -> None:
        """Close the rooms that have been empty for long. An active egress ends, and a starting egress is aborted.
        An egress whose node is dead stays listed.
        """
        for name, room in list(self.rooms_open.items()):
            if room.empty_since is None or self.now() - room.empty_since < ROOM_CLOSES_AFTER:
                continue
            del self.rooms_open[name]
            self._tell("room_finished", None, name)
            for egress in self.egresses.values():
                if egress.is_live and egress.snapshot.room_name == name:
                    if egress.snapshot.status == "active":
                        self.change(egress, "ending")
                    else:
                        self.change(egress, "aborted", error_reason="start_not_received")

    def goes_on(self, how: str = "complete") -> None:
        """Do what LiveKit does by itself: start, upload, end and fail egresses, and close rooms. `how` is the
        argument of `end` for each egress that ends.
        """
        for egress in list(self.uploads_late):
            self.upload(egress)
        for egress in self.egresses.values():
            people = self.rooms_open.get(egress.snapshot.room_name, Room()).people
            if egress.is_dead:
                continue
            has_source = self._is_published(egress) if egress.track_sid else any(people.values())
            if egress.snapshot.status == "starting" and has_source:
                self.change(egress, "active")
            elif egress.snapshot.status == "ending":
                self.end(egress, how)

    def whole(self, egress: Egress) -> bytes:
        """Return the complete content of an egress. The content of each egress has a different MP4 box, which every
        reader skips.
        """
        text = f"free of {egress.snapshot.egress_id}".encode()
        return self.media[egress.container] + (4 + len(text)).to_bytes(4, "big") + text

    def next_event_id(self) -> str:
        """Return a new event id in LiveKit's format."""
        return f"EV_{self._run}{next(self._ids)}"

    def _tell_egress(self, event: str, egress: Egress) -> None:
        one = egress.snapshot
        self._tell(event, one.egress_id, one.room_name, f"EGRESS_{one.status.upper()}")

    def _tell(
        self, event: str, egress_id: str | None, room_name: str, status: str = "EGRESS_STARTING"
    ) -> None:
        self.told.append(Told(self.next_event_id(), event, egress_id, room_name, status))
