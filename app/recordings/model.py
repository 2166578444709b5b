"""The states of a recording and what moves it from one to the next. Pure, no I/O.

LiveKit's list and the bucket are the truth (law 5): a state follows from what they say, by rank and time, and never
from the order in which news arrives. A finished recording stays as it is; the database refuses anything else.
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.errors import Conflict
from app.integrations.livekit import EgressSnapshot


class RecordingStatus(StrEnum):
    """From the doctor's wish to the checked object, or to what went wrong."""

    REQUESTED = "REQUESTED"
    STARTING = "STARTING"
    RECORDING = "RECORDING"
    STOPPING = "STOPPING"
    VERIFYING = "VERIFYING"
    READY = "READY"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    LOST = "LOST"

    @property
    def is_live(self) -> bool:
        """Whether something may be recorded now; a consultation has one live recording at most."""
        return self in _LIVE

    @property
    def is_terminal(self) -> bool:
        """Whether it stays so, LOST only until its object turns up."""
        return self in _TERMINAL


_LIVE = {
    RecordingStatus.REQUESTED,
    RecordingStatus.STARTING,
    RecordingStatus.RECORDING,
    RecordingStatus.STOPPING,
}
_TERMINAL = {
    RecordingStatus.READY,
    RecordingStatus.FAILED,
    RecordingStatus.ABORTED,
    RecordingStatus.LOST,
}
_RANK = {status: rank for rank, status in enumerate(RecordingStatus)}
_OF_EGRESS = {
    "starting": RecordingStatus.STARTING,
    "active": RecordingStatus.RECORDING,
    "ending": RecordingStatus.STOPPING,
    "complete": RecordingStatus.VERIFYING,
    "limit_reached": RecordingStatus.VERIFYING,
    "failed": RecordingStatus.FAILED,
    "aborted": RecordingStatus.ABORTED,
}


@dataclass(frozen=True)
class RecordedConsultation:
    """What a recording shows of its consultation."""

    id: UUID
    external_id: str
    scheduled_at: datetime
    kind: str
    sensitivity: str


@dataclass(frozen=True)
class Recording:
    """A recording; `consultation` is None where it was not asked for. Duration in seconds, size in bytes."""

    id: UUID
    consultation_id: UUID
    doctor_id: UUID
    patient_id: UUID
    status: RecordingStatus
    room_name: str
    room_sid: str | None
    egress_id: str | None
    egress_updated_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    size_bytes: int | None
    sha256: str | None
    truncated: bool
    error: str | None
    created_at: datetime
    updated_at: datetime
    consultation: RecordedConsultation | None = None


@dataclass(frozen=True)
class StoredMedia:
    """What the bucket says of the object."""

    exists: bool
    size_bytes: int | None
    content_type: str | None


@dataclass(frozen=True)
class Selection:
    """What of a recording was asked for: field names for the audit row, and whether its consultation."""

    fields: tuple[str, ...] = ()
    with_consultation: bool = False

    @property
    def parameters(self) -> dict[str, object]:
        """For the statements."""
        return {"fields": list(self.fields), "with_consultation": self.with_consultation}


@dataclass(frozen=True)
class RecordingFilter:
    """Which recordings; None is any. Times are of the request, `until` excluded."""

    statuses: tuple[RecordingStatus, ...] | None = None
    consultation_id: UUID | None = None
    room_name: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """For the statement."""
        return {**asdict(self), "statuses": None if self.statuses is None else list(self.statuses)}


def recording_id_of(object_key: str) -> UUID | None:
    """Whose object it is: `r/<class>/<consultation>/<recording>/<kind>`; None for a key that is not ours."""
    parts = object_key.split("/")
    try:
        return UUID(parts[3]) if len(parts) == 5 and parts[0] == "r" else None
    except ValueError:
        return None


def stopped(recording: Recording) -> Recording:
    """The recording after its doctor, or a withdrawn consent, stops it: at once where LiveKit was not asked yet.

    What is stopping or finished stays as it is: a second stop changes nothing.
    """
    if recording.status is RecordingStatus.REQUESTED:
        return replace(recording, status=RecordingStatus.ABORTED)
    if recording.status in (RecordingStatus.STARTING, RecordingStatus.RECORDING):
        return replace(recording, status=RecordingStatus.STOPPING)
    return recording


def followed(recording: Recording, egress: EgressSnapshot) -> Recording:
    """The recording after LiveKit's list was read.

    News of another egress or room, older than what is known, or of a lower rank than now change nothing. A COMPLETE
    egress is only VERIFYING: the object has to be seen first.
    """
    status = _OF_EGRESS[egress.status]
    is_old = (
        recording.egress_updated_at is not None
        and egress.updated_at is not None
        and egress.updated_at < recording.egress_updated_at
    )
    is_other = recording.egress_id not in (None, egress.egress_id) or recording.room_name != egress.room_name
    if not recording.status.is_live or is_old or is_other:
        return recording
    return replace(
        recording,
        status=max(status, recording.status, key=_RANK.__getitem__),
        egress_id=egress.egress_id,
        egress_updated_at=egress.updated_at or recording.egress_updated_at,
        room_sid=egress.room_sid or recording.room_sid,
        started_at=egress.started_at or recording.started_at,
        ended_at=egress.ended_at or recording.ended_at,
        duration_seconds=egress.duration_seconds or recording.duration_seconds,
        size_bytes=egress.size_bytes or recording.size_bytes,
        truncated=egress.status == "limit_reached",
        error=_egress_error(egress) or recording.error,
    )


def verified(recording: Recording, size_bytes: int, sha256: str) -> Recording:
    """READY where the object is what LiveKit reported, FAILED (object_size_differs) where it is not.

    What is finished, but LOST, and what is not VERIFYING yet, stays as it is.
    """
    if recording.status not in (RecordingStatus.VERIFYING, RecordingStatus.LOST):
        return recording
    if size_bytes == 0 or size_bytes != recording.size_bytes:
        return failed(recording, "object_size_differs")
    return replace(recording, status=RecordingStatus.READY, sha256=sha256, error=None)


def failed(recording: Recording, reason: str) -> Recording:
    """FAILED for a reason in snake_case; what is finished stays as it is."""
    if recording.status.is_terminal:
        return recording
    return replace(recording, status=RecordingStatus.FAILED, error=reason)


def require_ready(object_key: str) -> str:
    """The key of a READY recording's object. Raises Conflict (recording_not_ready) for the empty one of any other."""
    if not object_key:
        raise Conflict("recording_not_ready")
    return object_key


def _egress_error(egress: EgressSnapshot) -> str | None:
    if egress.status == "failed":
        return f"egress_{egress.error_reason or 'failed'}"
    return "egress_aborted" if egress.status == "aborted" else None
