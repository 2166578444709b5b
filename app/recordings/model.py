"""The data of recordings: their fields, statuses and filters. Pure. `transitions.py` changes them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from app.postgres.references import ConsultationBy, PatientBy, consultation_parameters, patient_parameters


class RecordingStatus(StrEnum):
    """The status of a recording."""

    REQUESTED = "REQUESTED"
    STARTING = "STARTING"
    RECORDING = "RECORDING"
    STOPPING = "STOPPING"
    VERIFYING = "VERIFYING"
    READY = "READY"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    LOST = "LOST"
    DELETED = "DELETED"

    @property
    def is_live(self) -> bool:
        """Return whether a recording with this status may still record sound or video. A consultation has at most
        one live video.
        """
        return self in _LIVE

    @property
    def is_terminal(self) -> bool:
        """Return whether the status is final. The status LOST counts as final, although a LOST recording becomes
        READY if its object appears.
        """
        return self not in _LIVE and self is not RecordingStatus.VERIFYING


_LIVE = frozenset(
    (RecordingStatus.REQUESTED, RecordingStatus.STARTING, RecordingStatus.RECORDING, RecordingStatus.STOPPING)
)


class Medium(StrEnum):
    """The medium of a recording: the room's video with mixed sound (VIDEO), the sound of one microphone track
    (MICROPHONE), a sound file with two channels (SPEAKERS), or a part that the doctor cut out (CLIP).
    """

    VIDEO = "VIDEO"
    MICROPHONE = "MICROPHONE"
    SPEAKERS = "SPEAKERS"
    CLIP = "CLIP"


@dataclass(frozen=True)
class SoundMode:
    """How the sound beside a video is recorded, according to the settings. `file_type` is the file type of a
    MICROPHONE recording. If `is_routed` is true, there is one SPEAKERS recording, with the doctor on the left
    channel and the patient on the right. If `is_routed` is false, there is a MICROPHONE recording for each
    microphone track.
    """

    file_type: Literal["mp4", "ogg"] = "mp4"
    is_routed: bool = False


class RecordingSource(StrEnum):
    """The source of a recording: LiveKit recorded it, or its doctor imported it."""

    EGRESS = "EGRESS"
    IMPORT = "IMPORT"


class TranscriptionStatus(StrEnum):
    """The status of a transcription."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    READY = "READY"
    NO_SPEECH = "NO_SPEECH"
    FAILED = "FAILED"
    OFF = "OFF"


class InsightsStatus(StrEnum):
    """The status of the insights into a recording."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    READY = "READY"
    STALE = "STALE"
    NO_SPEECH = "NO_SPEECH"
    FAILED = "FAILED"
    OFF = "OFF"


@dataclass(frozen=True)
class Recording:
    """A recording. The duration is in seconds and the size in bytes.

    `video_id` is the id of the video recording to which a MICROPHONE or SPEAKERS recording belongs. In a MICROPHONE
    recording, `participant_id` is the participant who published the track, and `track_sid` is LiveKit's id of the
    track. `is_routed` is true for a SPEAKERS recording with the doctor on the left channel and the patient on the
    right. `error` is the code of a problem, or of the reason why the recording was stopped; a READY recording can
    have an error too. `interrupted` says that a part in the middle of the recording is missing. `recorder_sid` is
    the LiveKit participant SID with which the recorder joined the room. `status_at` is when the recording reached
    its status. `expected_sha256` is the digest that an import declared. `stored_at` is when the recording's
    object was stored, by the bucket's clock. `due_at` is when the retention term of the recording ends.
    """

    id: UUID
    consultation_id: UUID
    doctor_id: UUID
    patient_id: UUID
    status: RecordingStatus
    room_name: str
    created_at: datetime
    updated_at: datetime
    status_at: datetime
    room_sid: str | None = None
    egress_id: str | None = None
    egress_updated_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    truncated: bool = False
    error: str | None = None
    medium: Medium = Medium.VIDEO
    video_id: UUID | None = None
    participant_id: UUID | None = None
    track_sid: str | None = None
    is_routed: bool = False
    source: RecordingSource = RecordingSource.EGRESS
    expected_sha256: str | None = None
    stored_at: datetime | None = None
    due_at: datetime | None = None
    interrupted: bool = False
    recorder_sid: str | None = None


@dataclass(frozen=True)
class Viewing:
    """One viewing of a file, which needs a new playback URL every few minutes. If `is_renewal` is true, the caller
    began this viewing earlier.
    """

    id: UUID
    is_renewal: bool


@dataclass(frozen=True)
class StoredMedia:
    """The metadata of a recording's object in the bucket."""

    exists: bool
    size_bytes: int | None
    content_type: str | None


@dataclass(frozen=True)
class RecordingFilter:
    """A filter for recordings. If a field of the filter is None, the field excludes no recording. `since` and
    `until` are compared with the time at which the recording was requested, and `until` is exclusive.
    """

    statuses: tuple[RecordingStatus, ...] | None = None
    consultation: ConsultationBy | None = None
    patient: PatientBy | None = None
    room_name: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the filter's values as parameters of the SQL statement."""
        return {
            **consultation_parameters(self.consultation),
            **patient_parameters(self.patient),
            "consultation": None if self.consultation is None else True,
            "patient": None if self.patient is None else True,
            "room_name": self.room_name,
            "since": self.since,
            "statuses": None if self.statuses is None else list(dict.fromkeys(self.statuses)),
        }
