"""Starts the egress of a recording in LiveKit.

A start first commits the intent to call LiveKit. The start then calls LiveKit without an open transaction, and
commits the result while the recording's row is locked. If the start job runs twice, or is killed and runs again,
the result is the same. Before the job sends LiveKit a second start request, it searches for an egress that the
first request has started. All times come from the database's clock.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from app.bucket.object_keys import compose_next_recording_key
from app.consents import service as consents
from app.errors import AppError, UpstreamFailed
from app.integrations.livekit.client import (
    EgressSnapshot,
    LiveKit,
    LiveKitRefused,
    ParticipantSnapshot,
    S3Target,
    is_definite,
)
from app.integrations.storage.sts_credentials import ROLE_REFUSALS
from app.postgres.clock import database_time
from app.postgres.database import Database
from app.recordings import store
from app.recordings.consent_enforcement import find_objection_to_recording
from app.recordings.deadlines import START_UNKNOWN
from app.recordings.media_ids import media_of_key
from app.recordings.model import Medium, Recording, RecordingStatus
from app.recordings.room_watch import RoomWatch
from app.recordings.transition_writer import Clock, TransitionWriter, write_transition
from app.recordings.transitions import MICROPHONE_GONE, apply_egress, mark_failed

AMBIGUOUS_START = timedelta(seconds=60)
NO_EGRESS = "livekit_no_egress"


@dataclass(frozen=True)
class _Attempt:
    """One attempt to start a recording that has not ended. `waited` is the time since the last start request to
    LiveKit.
    """

    recording: Recording
    object_key: str
    waited: timedelta

    @property
    def is_first(self) -> bool:
        """Return whether LiveKit certainly got no start request for this recording before."""
        return self.recording.status is RecordingStatus.REQUESTED


@dataclass(frozen=True)
class _Permit:
    """The permission to send LiveKit a start request now. The permit contains the object key, and the room
    identities of the DOCTOR and the PATIENT.
    """

    object_key: str
    identities: Mapping[str, str]


class EgressStarter:
    """Starts egresses, as the worker. `recorder_target` returns write-only credentials for one object key."""

    def __init__(
        self,
        database: Database,
        livekit: LiveKit,
        recorder_target: Callable[[str], Awaitable[S3Target]],
        transitions: TransitionWriter,
        rooms: RoomWatch,
        clock: Clock = database_time,
    ) -> None:
        self._database = database
        self._livekit = livekit
        self._recorder_target = recorder_target
        self._transitions = transitions
        self._rooms = rooms
        self._clock = clock

    async def start(self, recording_id: UUID) -> None:
        """Start an egress, or adopt one that LiveKit already runs for this recording. If the recording is a video,
        also request the sound recordings beside it. Raises Timeout or UpstreamFailed if it is unknown whether
        LiveKit started the egress. After a Timeout or UpstreamFailed, the start job runs again.
        """
        attempt = await self._open_attempt(recording_id)
        if attempt is None:
            return
        try:
            egress = await self._find_egress(attempt) or await self._ask_to_start(attempt)
        except LiveKitRefused as refused:
            if refused.reason != NO_EGRESS:
                raise
            await self._refuse_start(recording_id, NO_EGRESS)
            return
        if egress is None:
            return
        after = await self._transitions.apply(
            recording_id, lambda current, _: apply_egress(current, egress), egress.object_key
        )
        is_its_own = after is not None and after.status.is_live and after.egress_id == egress.egress_id
        if not is_its_own and not egress.is_over:
            await self._livekit.stop_egress(egress.egress_id)
        if after is not None and after.medium is Medium.VIDEO and after.status.is_live:
            await self._rooms.check_room(after.room_name)

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """End the start of a recording after the last attempt. If LiveKit got no start request, the recording
        becomes FAILED with the reason. If LiveKit got a start request, the egress may have started, and a deadline
        ends the start (deadlines.py).
        """
        await self._transitions.apply(recording_id, partial(_fail_if_never_asked, reason))

    async def _open_attempt(self, recording_id: UUID) -> _Attempt | None:
        async with self._database.as_service("start_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or not recording.status.is_live or recording.egress_id is not None:
                return None
            waited = await self._clock(tx) - recording.updated_at
            return _Attempt(recording, await store.read_object_key(tx, recording_id), waited)

    async def _find_egress(self, attempt: _Attempt) -> EgressSnapshot | None:
        """Return the egress that LiveKit lists for this recording, whichever of the recording's object keys the
        egress has.
        """
        if attempt.is_first:
            return None
        wanted = media_of_key(attempt.object_key)
        listed = await self._livekit.list_egress(room_name=attempt.recording.room_name)
        found = [egress for egress in listed if media_of_key(egress.object_key) == wanted]
        return min(found, key=lambda egress: egress.is_over, default=None)

    async def _ask_to_start(self, attempt: _Attempt) -> EgressSnapshot | None:
        recording = attempt.recording
        if not attempt.is_first and attempt.waited < AMBIGUOUS_START:
            raise UpstreamFailed(START_UNKNOWN)
        if recording.status is RecordingStatus.STOPPING:
            await self._transitions.apply(recording.id, partial(_abort_if_unchanged, recording))
            return None
        permit = await self._grant_permit(attempt, await self._rooms.list_people(recording.room_name))
        return None if permit is None else await self._request_egress(recording, permit)

    async def _request_egress(self, recording: Recording, permit: _Permit) -> EgressSnapshot | None:
        try:
            target = await self._recorder_target(permit.object_key)
            return await self._call_livekit(recording, permit, target)
        except AppError as error:
            if not is_definite(error) and error.reason not in ROLE_REFUSALS:
                raise
            await self._refuse_start(recording.id, error.reason)
            return None

    async def _call_livekit(self, recording: Recording, permit: _Permit, target: S3Target) -> EgressSnapshot:
        room, key = recording.room_name, permit.object_key
        match recording.medium:
            case Medium.VIDEO:
                return await self._livekit.start_room_composite(room_name=room, object_key=key, upload=target)
            case Medium.MICROPHONE:
                return await self._livekit.start_microphone(
                    room_name=room, track_sid=recording.track_sid or "", object_key=key, upload=target
                )
            case Medium.SPEAKERS:
                return await self._livekit.start_speakers(
                    room_name=room,
                    doctor_identity=permit.identities["DOCTOR"],
                    patient_identity=permit.identities["PATIENT"],
                    object_key=key,
                    upload=target,
                )
            case Medium.CLIP:
                raise ValueError("LiveKit records no clip")

    async def _grant_permit(self, attempt: _Attempt, people: Sequence[ParticipantSnapshot]) -> _Permit | None:
        """Commit the intent to start an egress, and return an object that permits the caller to send LiveKit the
        start request.

        Return None if the recording has changed since the attempt began. If a consent is missing (law 6) or the
        microphone track is gone, mark the recording ABORTED and return None.
        """
        recording = attempt.recording
        async with self._database.as_service("start_recording") as tx:
            if await store.lock(tx, recording.id) != recording:
                return None
            participants = await consents.read_participant_consents(tx, recording.consultation_id)
            why = find_objection_to_recording(participants, {one.identity for one in people})
            if why is None and not _has_track(recording, people):
                why = MICROPHONE_GONE
            if why is not None:
                await write_transition(
                    tx, recording, replace(recording, status=RecordingStatus.ABORTED, error=why)
                )
                return None
            identities = {one.kind: str(one.participant_id) for one in participants}
            if attempt.is_first:
                await write_transition(tx, recording, replace(recording, status=RecordingStatus.STARTING))
                return _Permit(attempt.object_key, identities)
            key = compose_next_recording_key(attempt.object_key)
            await store.change_object_key(tx, recording.id, key)
            await store.update(tx, recording)
            return _Permit(key, identities)

    async def _refuse_start(self, recording_id: UUID, reason: str) -> None:
        """After LiveKit has definitely refused the start, mark the recording as FAILED, or as ABORTED if somebody
        has stopped it meanwhile. The method does nothing if an earlier start request succeeded.
        """
        await self._transitions.apply(recording_id, partial(_end_unless_begun, reason))


def _has_track(recording: Recording, people: Iterable[ParticipantSnapshot]) -> bool:
    """Return whether the participant publishes the microphone track of this recording. If the recording's medium is
    not MICROPHONE, the result is True.
    """
    return recording.medium is not Medium.MICROPHONE or any(
        one.identity == str(recording.participant_id) and recording.track_sid in one.microphones
        for one in people
    )


def _abort_if_unchanged(as_it_was: Recording, current: Recording, _: datetime) -> Recording:
    return replace(current, status=RecordingStatus.ABORTED) if current == as_it_was else current


def _fail_if_never_asked(reason: str, current: Recording, _: datetime) -> Recording:
    return mark_failed(current, reason) if current.status is RecordingStatus.REQUESTED else current


def _end_unless_begun(reason: str, current: Recording, _: datetime) -> Recording:
    if current.egress_id is not None:
        return current
    if current.status is RecordingStatus.STOPPING:
        return replace(current, status=RecordingStatus.ABORTED)
    return mark_failed(current, reason)
