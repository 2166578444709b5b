"""Translates LiveKit's egresses, rooms and participants into our own types.

Pure. The snapshots omit LiveKit's error texts, because those quote endpoints and keys. For an egress that failed,
the snapshot has LiveKit's error code and one of our reasons. The snapshot of an egress omits LiveKit's field
`location`, because the object key identifies the object.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from livekit.protocol.egress import EgressInfo, EgressStatus
from livekit.protocol.models import ParticipantInfo, Room, TrackSource, TrackType

_NANOSECONDS: Final = 1_000_000_000

_STATUSES: Final = {
    EgressStatus.EGRESS_STARTING: "starting",
    EgressStatus.EGRESS_ACTIVE: "active",
    EgressStatus.EGRESS_ENDING: "ending",
    EgressStatus.EGRESS_COMPLETE: "complete",
    EgressStatus.EGRESS_FAILED: "failed",
    EgressStatus.EGRESS_ABORTED: "aborted",
    EgressStatus.EGRESS_LIMIT_REACHED: "limit_reached",
}

OVER: Final = frozenset(("complete", "failed", "aborted", "limit_reached"))

_REASONS: Final = (
    ("upload failed", "upload_failed"),
    ("Session limit reached before start signal", "limit_before_start"),
    ("Session limit reached", "limit_reached"),
    ("Start signal not received", "start_not_received"),
    ("Stop called before pipeline could start", "stopped_before_start"),
    ("CPU exhausted", "resources_exhausted"),
    ("OOM", "resources_exhausted"),
    ("connection to room failed", "room_connection_lost"),
)
"""Marks in the vendor's texts (livekit/protocol `livekit_egress.go`, livekit/egress `errors.go`; read 2026-11-21)."""

_ENDS_BEFORE_START: Final = (
    ("StopEgress API", "stopped_before_start"),
    ("Source closed", "room_closed_before_start"),
)
"""Marks in the `details` of an egress that ended before it began. Its error only says that nothing was received,
even if the egress was stopped (livekit/egress 1.9.1, seen 2026-11-29).
"""


@dataclass(frozen=True, slots=True)
class EgressSnapshot:
    """An egress as LiveKit describes it at one moment.

    `object_key` is the requested file path, or None if a program other than Resguardo requested the egress. If
    LiveKit's answer to the start of an egress was lost, the worker finds the egress by its object key. The fields
    `duration_seconds` and `size_bytes` of an egress are None until LiveKit has uploaded the file. `error_reason` is
    None if the egress has no error, and `failed` if LiveKit gives no details.
    """

    egress_id: str
    room_name: str
    room_sid: str
    status: str
    object_key: str | None
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime | None
    duration_seconds: float | None
    size_bytes: int | None
    error_code: int | None
    error_reason: str | None

    @property
    def is_over(self) -> bool:
        """Return whether LiveKit reports the egress as ended, successfully or not. If the server on which an egress
        runs has died, LiveKit never reports the egress as ended.
        """
        return self.status in OVER


@dataclass(frozen=True, slots=True)
class RoomSnapshot:
    """An open room. `num_participants` counts people and not recorders."""

    name: str
    sid: str
    num_participants: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ParticipantSnapshot:
    """A participant of a LiveKit room. `kind` is `standard`, `egress`, `ingress`, `sip`, `agent` or similar.

    `microphones` are the SIDs of the audio tracks that are published as microphones, including muted ones.
    """

    identity: str
    sid: str
    kind: str
    state: str
    joined_at: datetime
    is_publisher: bool
    microphones: tuple[str, ...] = ()

    @property
    def is_person(self) -> bool:
        """Return whether LiveKit counts the participant as a person, not as a recorder."""
        return self.kind in ("standard", "sip", "ingress")


def egress(info: EgressInfo) -> EgressSnapshot:
    """Translate LiveKit's egress. If this version of the client does not know an egress status, the status becomes
    `unknown`. If LiveKit reports an impossible number, such as a negative size, the field becomes None.
    """
    file = info.file_results[0] if info.file_results else info.file
    failed = bool(info.error or info.error_code or info.status == EgressStatus.EGRESS_ABORTED)
    return EgressSnapshot(
        egress_id=info.egress_id,
        room_name=info.room_name,
        room_sid=info.room_id,
        status=_STATUSES.get(info.status, "unknown"),
        object_key=_object_key(info),
        started_at=_instant(file.started_at) or _instant(info.started_at),
        ended_at=_instant(info.ended_at),
        updated_at=_instant(info.updated_at),
        duration_seconds=max(file.duration, 0) / _NANOSECONDS or None,
        size_bytes=max(file.size, 0) or None,
        error_code=info.error_code or None,
        error_reason=_reason(info) if failed else None,
    )


def room(info: Room) -> RoomSnapshot:
    return RoomSnapshot(
        name=info.name,
        sid=info.sid,
        num_participants=info.num_participants,
        created_at=datetime.fromtimestamp(info.creation_time, tz=UTC),
    )


def participant(info: ParticipantInfo) -> ParticipantSnapshot:
    return ParticipantSnapshot(
        identity=info.identity,
        sid=info.sid,
        kind=_enum_name(ParticipantInfo.Kind.items(), info.kind),
        state=_enum_name(ParticipantInfo.State.items(), info.state),
        joined_at=datetime.fromtimestamp(info.joined_at, tz=UTC),
        is_publisher=info.is_publisher,
        microphones=tuple(
            track.sid
            for track in info.tracks
            if track.source == TrackSource.MICROPHONE and track.type == TrackType.AUDIO
        ),
    )


def _object_key(info: EgressInfo) -> str | None:
    if info.WhichOneof("request") == "egress":
        return next((one.file.filepath for one in info.egress.outputs), "") or None
    request = info.track_composite if info.HasField("track_composite") else info.room_composite
    output = request.file_outputs[0] if request.file_outputs else request.file
    return output.filepath or None


def _instant(nanoseconds: int) -> datetime | None:
    return datetime.fromtimestamp(nanoseconds / _NANOSECONDS, tz=UTC) if nanoseconds else None


def _reason(info: EgressInfo) -> str:
    reason = next((reason for mark, reason in _REASONS if mark in info.error), "failed")
    is_aborted = info.status == EgressStatus.EGRESS_ABORTED
    if reason not in ("start_not_received", "stopped_before_start", *(("failed",) if is_aborted else ())):
        return reason
    return next((ended for mark, ended in _ENDS_BEFORE_START if mark in info.details), reason)


def _enum_name(items: list[tuple[str, int]], number: int) -> str:
    return next((name.lower() for name, value in items if value == number), "unknown")
