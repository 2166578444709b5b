"""The transitions between the states of a recording. Pure.

LiveKit's list of egresses and the bucket decide the state of a recording (law 5). The ranks and times in LiveKit's
reports decide which report counts, never the order in which the reports arrive. A finished recording does not
change. The database refuses any transition that is not in `TRANSITIONS`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from app.errors import Conflict
from app.integrations.livekit.client import EgressSnapshot
from app.recordings.model import Medium, Recording, RecordingSource, RecordingStatus

_S = RecordingStatus
TRANSITIONS: Final[Mapping[RecordingStatus, frozenset[RecordingStatus]]] = MappingProxyType(
    {
        _S.REQUESTED: frozenset({_S.STARTING, _S.ABORTED, _S.FAILED}),
        _S.STARTING: frozenset({_S.RECORDING, _S.STOPPING, _S.VERIFYING, _S.FAILED, _S.ABORTED, _S.LOST}),
        _S.RECORDING: frozenset({_S.STOPPING, _S.VERIFYING, _S.FAILED, _S.ABORTED, _S.LOST}),
        _S.STOPPING: frozenset({_S.VERIFYING, _S.FAILED, _S.ABORTED, _S.LOST}),
        _S.VERIFYING: frozenset({_S.READY, _S.FAILED, _S.LOST}),
        _S.LOST: frozenset({_S.READY, _S.DELETED}),
        _S.READY: frozenset({_S.DELETED}),
        _S.FAILED: frozenset({_S.DELETED}),
        _S.ABORTED: frozenset({_S.DELETED}),
        _S.DELETED: frozenset(),
    }
)
"""All transitions. `private.may_become` in the database has the same table and refuses any other transition."""

START_OVERDUE: Final = "start_overdue"
"""The error of a recording that was stopped because its start had no result. It ends FAILED, not ABORTED."""

STOPPED_BY_REQUEST: Final = "stopped_by_request"
"""The error of a recording that its doctor stopped before it began. The database writes it (guard_recording)."""

STOPPED_BEFORE_START: Final = "egress_stopped_before_start"
"""The error of a sound that had not begun when its video was stopped."""

_STOPPED_EARLY: Final = frozenset((STOPPED_BY_REQUEST, STOPPED_BEFORE_START))
"""These say that nothing was recorded. They are no error of a recording that began after all."""

MICROPHONE_GONE: Final = "microphone_gone"
"""The error of an ABORTED microphone recording whose track ended before the recording began."""

NOT_FOUND_CODE: Final = 404
"""LiveKit's code of an egress that did not find its track within 30 s (livekit/egress 1.9.1, seen 2026-11-29)."""

CONSENT_WITHDRAWN: Final = "consent_withdrawn"
CONSENT_MISSING: Final = "consent_missing"
UNKNOWN_PARTICIPANT: Final = "unknown_participant"
CONSENT_REASONS: Final = frozenset((CONSENT_WITHDRAWN, CONSENT_MISSING, UNKNOWN_PARTICIPANT))
"""The errors of law 6. They take precedence over later errors, so the doctor learns why the recording ended."""

_BEFORE_START: Final = frozenset(
    ("start_not_received", "stopped_before_start", "room_closed_before_start", "limit_before_start")
)
"""LiveKit's reasons for an egress that ended before anything was recorded."""

REJOIN_MARGIN: Final = timedelta(seconds=10)
"""The allowed difference between the clocks of LiveKit's server and its recorder."""

SHORTFALL_SECONDS: Final = 5.0
"""A file that is shorter than LiveKit reported by more than this lacks a part. For a video the two differ by up to
0.7 s, and a sound file is about 4 s longer than reported (livekit/egress 1.9.1, seen 2026-11-29).
"""

OBJECT_PATIENCE: Final = timedelta(minutes=10)
"""How long the worker waits for an object that LiveKit says it uploaded."""

_RANK = {status: rank for rank, status in enumerate(RecordingStatus)}
_OF_EGRESS = {
    "unknown": _S.STARTING,
    "starting": _S.STARTING,
    "active": _S.RECORDING,
    "ending": _S.STOPPING,
    "complete": _S.VERIFYING,
    "limit_reached": _S.VERIFYING,
    "failed": _S.VERIFYING,
    "aborted": _S.ABORTED,
}


def mark_stopped(recording: Recording, why: str | None = None) -> Recording:
    """Return the recording after a stop. If LiveKit got no start request yet, the recording ends at once. A
    stopping or finished recording stays unchanged, so a second stop changes nothing. `why` becomes the error of the
    recording. `why` is None if the doctor stops the recording; a recording that has not begun then gets the error
    STOPPED_BY_REQUEST.
    """
    if recording.status is RecordingStatus.REQUESTED:
        return replace(recording, status=RecordingStatus.ABORTED, error=why or STOPPED_BY_REQUEST)
    if recording.status is RecordingStatus.STARTING:
        return replace(recording, status=RecordingStatus.STOPPING, error=why or STOPPED_BY_REQUEST)
    if recording.status is RecordingStatus.RECORDING:
        return replace(recording, status=RecordingStatus.STOPPING, error=why or recording.error)
    return recording


def apply_egress(recording: Recording, egress: EgressSnapshot) -> Recording:
    """Return the recording after a report about an egress in LiveKit's list. A report about a different egress or
    room changes nothing. A report with a lower rank does not change the status. A report whose rank is not higher
    changes nothing at all if it is older than the last report. A report with a higher rank counts even if its time
    is earlier, because the clock of LiveKit's node may have been set back. When an egress has ended, successfully
    or not, the recording becomes VERIFYING, because the worker first checks the object. If an egress was aborted
    and reports no file, it has written no object. An egress with an unknown status does not change the status of a
    recording that has started.
    """
    status = max(_after_egress(recording, egress), recording.status, key=_RANK.__getitem__)
    is_old = (
        status is recording.status
        and recording.egress_updated_at is not None
        and egress.updated_at is not None
        and egress.updated_at < recording.egress_updated_at
    )
    is_other = recording.egress_id not in (None, egress.egress_id) or recording.room_name != egress.room_name
    is_step = status is recording.status or status in TRANSITIONS[recording.status]
    if not recording.status.is_live or is_old or is_other or not is_step:
        return recording
    return replace(
        recording,
        status=_failed_if_overdue(recording, status),
        egress_id=egress.egress_id,
        egress_updated_at=egress.updated_at or recording.egress_updated_at,
        room_sid=egress.room_sid or recording.room_sid,
        started_at=egress.started_at or recording.started_at,
        ended_at=egress.ended_at or recording.ended_at,
        duration_seconds=egress.duration_seconds or recording.duration_seconds,
        size_bytes=egress.size_bytes or recording.size_bytes,
        truncated=recording.truncated or egress.status in ("limit_reached", "failed"),
        error=_error_after(recording, egress),
    )


def mark_verified(
    recording: Recording, size_bytes: int, sha256: str, duration_seconds: float | None = None
) -> Recording:
    """Return the recording as READY if its object is as reported, and as FAILED (object_size_differs,
    object_digest_differs) if not.

    `duration_seconds` is the duration in the file, or None. The duration in the file replaces LiveKit's duration,
    which was wrong by up to 17 s (livekit/egress 1.9.1, seen 2026-11-29). If LiveKit reported no size, because the
    egress failed or was lost, any size is accepted, and the recording is READY and truncated. If the file is much
    shorter than LiveKit reported, the recording is marked as interrupted. If the recording's status is neither
    VERIFYING nor LOST, the recording stays unchanged.
    """
    if recording.status not in (RecordingStatus.VERIFYING, RecordingStatus.LOST):
        return recording
    if not has_reported_size(recording, size_bytes):
        return mark_failed(recording, "object_size_differs")
    if sha256 != (recording.expected_sha256 or sha256):
        return mark_failed(recording, "object_digest_differs")
    return replace(
        recording,
        status=RecordingStatus.READY,
        size_bytes=size_bytes,
        sha256=sha256,
        duration_seconds=duration_seconds or recording.duration_seconds,
        truncated=recording.truncated or recording.size_bytes is None,
        interrupted=recording.interrupted or _lacks_a_part(recording, duration_seconds),
    )


def note_recorder(recording: Recording, participant_sid: str, joined_at: datetime) -> Recording:
    """Return the recording after its recorder was seen in the room.

    If a recorder joins again, for example after a crash of the server, LiveKit gives it a new SID (livekit-server
    1.13.5, read 2026-11-29). A recording whose recorder has joined again is `interrupted`. The recording is also
    `interrupted` if the recorder is seen for the first time and joined after the recording had begun. A recording
    that has not begun or is not live is never interrupted.
    """
    if not recording.status.is_live or participant_sid == recording.recorder_sid:
        return recording
    has_begun = recording.status in (RecordingStatus.RECORDING, RecordingStatus.STOPPING)
    is_late = recording.started_at is not None and joined_at > recording.started_at + REJOIN_MARGIN
    is_back = has_begun and (recording.recorder_sid is not None or is_late)
    return replace(recording, recorder_sid=participant_sid, interrupted=recording.interrupted or is_back)


def set_stored_at(recording: Recording, stored_at: datetime) -> Recording:
    """Return the recording with the time at which its object was stored. A finished recording stays unchanged,
    unless its status is LOST.
    """
    if recording.status not in (RecordingStatus.VERIFYING, RecordingStatus.LOST):
        return recording
    return replace(recording, stored_at=stored_at)


def has_reported_size(recording: Recording, size_bytes: int) -> bool:
    """Return whether the object can have this size: not empty, and equal to the reported size if there is one."""
    return size_bytes > 0 and size_bytes == (recording.size_bytes or size_bytes)


def mark_object_absent(recording: Recording, now: datetime) -> Recording:
    """Return the VERIFYING recording after its object was not found.

    If LiveKit reported no file, the recording becomes FAILED. If LiveKit reported a file, the worker waits for the
    object for `OBJECT_PATIENCE`, and then the recording becomes LOST (object_missing). An import without an
    uploaded object becomes FAILED, because its doctor can import again.
    """
    if recording.status is not RecordingStatus.VERIFYING:
        return recording
    if recording.size_bytes is None:
        return mark_failed(recording, recording.error or "object_missing")
    if now - recording.status_at < OBJECT_PATIENCE:
        return recording
    end = mark_failed if recording.source is RecordingSource.IMPORT else mark_lost
    return end(recording, "object_missing")


def mark_failed(recording: Recording, reason: str) -> Recording:
    """Return the recording as FAILED, with this reason as its error. A finished recording stays unchanged."""
    if recording.status.is_terminal:
        return recording
    return replace(recording, status=RecordingStatus.FAILED, error=foremost_error(recording, reason))


def foremost_error(recording: Recording, reason: str) -> str:
    """Return the error that the doctor sees: an error about consent (law 6) takes precedence over later errors."""
    return recording.error if recording.error in CONSENT_REASONS else reason


def mark_lost(recording: Recording, reason: str) -> Recording:
    """Return the recording as LOST, with this reason as its error. A recording that is finished or was never
    started stays unchanged.
    """
    if RecordingStatus.LOST not in TRANSITIONS[recording.status]:
        return recording
    return replace(recording, status=RecordingStatus.LOST, error=foremost_error(recording, reason))


def require_ready(object_key: str, reason: str = "recording_not_ready") -> str:
    """Return the object key of a READY recording. Raises Conflict with the given reason if the object key is empty."""
    if not object_key:
        raise Conflict(reason)
    return object_key


def _lacks_a_part(recording: Recording, duration_seconds: float | None) -> bool:
    if recording.duration_seconds is None or duration_seconds is None:
        return False
    return recording.duration_seconds - duration_seconds > SHORTFALL_SECONDS


def _after_egress(recording: Recording, egress: EgressSnapshot) -> RecordingStatus:
    if _found_no_track(recording, egress):
        return RecordingStatus.ABORTED
    has_file = egress.status == "aborted" and egress.size_bytes is not None
    return RecordingStatus.VERIFYING if has_file else _OF_EGRESS[egress.status]


def _found_no_track(recording: Recording, egress: EgressSnapshot) -> bool:
    is_not_found = egress.status == "failed" and egress.error_code == NOT_FOUND_CODE
    return recording.medium is Medium.MICROPHONE and is_not_found and egress.size_bytes is None


def _failed_if_overdue(recording: Recording, status: RecordingStatus) -> RecordingStatus:
    is_overdue = recording.error == START_OVERDUE and status is RecordingStatus.ABORTED
    return RecordingStatus.FAILED if is_overdue else status


def _error_after(recording: Recording, egress: EgressSnapshot) -> str | None:
    """Return the recording's error after a report about its egress. If the recording was stopped before it began,
    the reason of this stop takes precedence over LiveKit's reason. If a recording began although it was stopped
    before, the stop is not its error.
    """
    if _found_no_track(recording, egress):
        return recording.error or MICROPHONE_GONE
    never_began = egress.error_reason in _BEFORE_START and egress.size_bytes is None
    match egress.status:
        case "failed" if never_began and recording.status is RecordingStatus.STOPPING:
            return recording.error or f"egress_{egress.error_reason}"
        case "failed":
            return foremost_error(recording, f"egress_{egress.error_reason or 'failed'}")
        case "aborted" if egress.size_bytes is None:
            return recording.error or (f"egress_{egress.error_reason}" if never_began else "egress_aborted")
        case "complete" | "limit_reached" | "aborted" if recording.error in _STOPPED_EARLY:
            return None
    return recording.error
