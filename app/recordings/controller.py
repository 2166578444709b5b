"""The worker's part of a recording: calls LiveKit and the bucket, and applies their answers.

Each step commits its intent, calls a vendor without an open transaction, and commits the result under the row's
lock. A step that runs twice, or that was killed and runs again, gives the same result. The controller never starts
a second egress without looking for the first one. All times are the database's.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from app.bucket.object_keys import next_recording_key
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
from app.integrations.storage.client import Storage
from app.integrations.storage.objects import StoredObject
from app.integrations.storage.sts_credentials import ROLE_REFUSALS
from app.keys import service as keys
from app.keys.keyring import Keyring
from app.media.probe import Container, MediaInfo, MediaRefused, ReadRange, probe
from app.postgres.clock import database_time
from app.postgres.database import Database, Transaction
from app.recordings import store
from app.recordings.deadlines import START_UNKNOWN
from app.recordings.media_ids import media_of_key
from app.recordings.model import (
    CONSENT_WITHDRAWN,
    MICROPHONE_GONE,
    Medium,
    Recording,
    RecordingStatus,
    SoundMode,
    apply_egress,
    has_reported_size,
    mark_failed,
    mark_object_absent,
    mark_verified,
    set_stored_at,
)
from app.recordings.room_watch import RoomWatch, find_objection_to_recording
from app.recordings.transition_effects import stop_live_recordings, stop_sound, write_transition

AMBIGUOUS_START = timedelta(seconds=60)
NO_EGRESS = "livekit_no_egress"
Clock = Callable[[Transaction], Awaitable[datetime]]
Probe = Callable[[ReadRange, int, Container], Awaitable[MediaInfo]]


@dataclass(frozen=True)
class _Attempt:
    """A start that may continue. `waited` is the time since the last request to LiveKit."""

    recording: Recording
    object_key: str
    waited: timedelta

    @property
    def is_first(self) -> bool:
        """Return whether this is certainly the first request to LiveKit."""
        return self.recording.status is RecordingStatus.REQUESTED


@dataclass(frozen=True)
class _Permit:
    """The permission to call LiveKit now: the object key, and the identities of the DOCTOR and the PATIENT in the
    room.
    """

    object_key: str
    identities: Mapping[str, str]


class RecordingController:
    """The jobs of a recording. `recorder_target` returns write-only credentials for one object key."""

    def __init__(
        self,
        database: Database,
        livekit: LiveKit,
        storage: Storage,
        recorder_target: Callable[[str], Awaitable[S3Target]],
        *,
        keyring: Keyring,
        clock: Clock = database_time,
        probe: Probe = probe,
        sound: SoundMode | None = None,
    ) -> None:
        self._database = database
        self._livekit = livekit
        self._storage = storage
        self._recorder_target = recorder_target
        self._keyring = keyring
        self._clock = clock
        self._probe = probe
        self.rooms = RoomWatch(database, livekit, sound)

    async def start(self, recording_id: UUID) -> None:
        """Start an egress, or adopt one that LiveKit already runs for this recording. For a video, also request the
        sound.

        Raises Timeout or UpstreamFailed if it is unknown whether LiveKit started. The job then runs again.
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
        after = await self.change(
            recording_id, lambda current, _: apply_egress(current, egress), egress.object_key
        )
        is_its_own = after is not None and after.status.is_live and after.egress_id == egress.egress_id
        if not is_its_own and not egress.is_over:
            await self._livekit.stop_egress(egress.egress_id)
        if after is not None and after.medium is Medium.VIDEO and after.status.is_live:
            await self.rooms.check_room(after.room_name)

    async def stop(self, recording_id: UUID) -> None:
        """Stop the egress. Does nothing while a start is in progress, because the start job stops its egress
        itself.
        """
        async with self._database.as_service("stop_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is not None:
                await stop_sound(tx, recording)
        if (
            recording is None
            or recording.status is not RecordingStatus.STOPPING
            or recording.egress_id is None
        ):
            return
        if await self._livekit.stop_egress(recording.egress_id) != "stopping":
            await self._follow_listed(await self._livekit.list_egress(egress_id=recording.egress_id))

    async def follow_event(self, event_id: str) -> None:
        """Read LiveKit's list after an event. Only the list moves a recording (law 5)."""
        async with self._database.as_service("follow_egress") as tx:
            event = await store.read_event(tx, event_id)
        match event:
            case (str(egress_id), _):
                await self._follow_listed(await self._livekit.list_egress(egress_id=egress_id))
            case (None, str(room_name)):
                await self._follow_listed(await self._livekit.list_egress(room_name=room_name))

    async def follow(self, egress: EgressSnapshot) -> Recording | None:
        """Apply the listed state of one egress. Return the recording afterwards, or None if the egress is not ours."""
        media = media_of_key(egress.object_key)
        if media is None:
            return None
        async with self._database.as_service("recording_controller") as tx:
            recording_id = await store.find_by_media(tx, media)
        if recording_id is None:
            return None
        if egress.is_over and await self._is_superseded(recording_id, egress):
            return None
        return await self.change(
            recording_id, lambda current, _: apply_egress(current, egress), egress.object_key
        )

    async def enforce_consent(self, consultation_id: UUID) -> None:
        """Stop recordings for which a consent is missing (law 6)."""
        async with self._database.as_service("enforce_consent") as tx:
            if not await consents.everyone_consents(tx, consultation_id):
                live = await store.lock_live(tx, consultation_id)
                await stop_live_recordings(tx, live, CONSENT_WITHDRAWN)

    async def verify(self, recording_id: UUID) -> None:
        """Verify the object: READY if it is complete, opens, and has its SHA-256. Also verifies a LOST recording
        whose object appeared.

        Raises UpstreamFailed (object_missing) while the object may still arrive.
        """
        async with self._database.as_service("verify_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or recording.status not in (RecordingStatus.VERIFYING, RecordingStatus.LOST):
                return
            key = await store.read_object_key(tx, recording_id)
        stored = await self._storage.head(key)
        if stored is None:
            after = await self.change(recording_id, mark_object_absent)
            if after is not None and after.status is RecordingStatus.VERIFYING:
                raise UpstreamFailed("object_missing")
            return
        outcome = await self._inspect_object(recording, key, stored)
        await self.change(
            recording_id, lambda current, now: outcome(set_stored_at(current, stored.last_modified), now)
        )

    async def change(
        self,
        recording_id: UUID,
        decide: Callable[[Recording, datetime], Recording],
        object_key: str | None = None,
    ) -> Recording | None:
        """Apply `decide` to the locked recording and the database's time. Return the recording afterwards.

        `object_key` is the key of an egress. The recording gets this key if `decide` assigns the egress to it.
        """
        async with self._database.as_service("recording_controller") as tx:
            before = await store.lock(tx, recording_id)
            if before is None:
                return None
            after = decide(before, await self._clock(tx))
            if object_key is not None and before.egress_id is None and after.egress_id is not None:
                await store.point_object_key(tx, recording_id, object_key)
            await write_transition(tx, before, after)
            if _becomes_ready(before, after):
                await keys.make_recording_key(tx, self._keyring, recording_id)
            return after

    async def give_up_start(self, recording_id: UUID, reason: str) -> None:
        """End a start after its last attempt: FAILED with the reason if LiveKit was never called.

        If LiveKit was called, it is unknown whether it started, and a deadline ends the start (deadlines.py).
        """
        await self.change(recording_id, partial(_fail_if_never_asked, reason))

    async def _open_attempt(self, recording_id: UUID) -> _Attempt | None:
        async with self._database.as_service("start_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or not recording.status.is_live or recording.egress_id is not None:
                return None
            waited = await self._clock(tx) - recording.updated_at
            return _Attempt(recording, await store.read_object_key(tx, recording_id), waited)

    async def _find_egress(self, attempt: _Attempt) -> EgressSnapshot | None:
        """Return the egress that LiveKit runs for this recording under any of its keys."""
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
            await self.change(recording.id, partial(_abort_if_unchanged, recording))
            return None
        permit = await self._grant_permit(attempt, await self.rooms.list_people(recording.room_name))
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

    async def _grant_permit(self, attempt: _Attempt, people: Sequence[ParticipantSnapshot]) -> _Permit | None:
        """Commit that LiveKit is called now, and return the permission with the object key.

        Return None if the recording changed meanwhile. Also return None if law 6 forbids the start or the
        microphone track is gone; the recording is then ABORTED.
        """
        recording = attempt.recording
        async with self._database.as_service("start_recording") as tx:
            if await store.lock(tx, recording.id) != recording:
                return None
            standings = await consents.standings(tx, recording.consultation_id)
            why = find_objection_to_recording(standings, {one.identity for one in people})
            if why is None and not _has_track(recording, people):
                why = MICROPHONE_GONE
            if why is not None:
                await write_transition(
                    tx, recording, replace(recording, status=RecordingStatus.ABORTED, error=why)
                )
                return None
            identities = {one.kind: str(one.participant_id) for one in standings}
            if attempt.is_first:
                await write_transition(tx, recording, replace(recording, status=RecordingStatus.STARTING))
                return _Permit(attempt.object_key, identities)
            key = next_recording_key(attempt.object_key)
            await store.point_object_key(tx, recording.id, key)
            await store.update(tx, recording)
            return _Permit(key, identities)

    async def _refuse_start(self, recording_id: UUID, reason: str) -> None:
        """Mark a definite refusal: FAILED, or ABORTED if the recording was stopped meanwhile. Does nothing if an
        earlier request succeeded.
        """
        await self.change(recording_id, partial(_end_unless_begun, reason))

    async def _is_superseded(self, recording_id: UUID, egress: EgressSnapshot) -> bool:
        """Return whether the egress belongs to an earlier request while a later request is unanswered."""
        async with self._database.as_service("recording_controller") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or not recording.status.is_live or recording.egress_id is not None:
                return False
            return await store.read_object_key(tx, recording_id) != egress.object_key

    async def _follow_listed(self, listed: list[EgressSnapshot]) -> None:
        for egress in sorted(listed, key=lambda one: one.is_over):
            await self.follow(egress)

    async def _inspect_object(
        self, recording: Recording, key: str, stored: StoredObject
    ) -> Callable[[Recording, datetime], Recording]:
        """Return the transition that follows from the bytes of one object: its format and its SHA-256."""
        if not has_reported_size(recording, stored.size_bytes):
            return lambda current, _: mark_failed(current, "object_size_differs")
        try:
            info = await self._probe(
                partial(self._storage.read_range, key, etag=stored.etag),
                stored.size_bytes,
                "ogg" if key.endswith(".ogg") else "mp4",
            )
        except MediaRefused as refused:
            reason = refused.reason
            return lambda current, _: mark_failed(current, reason)
        sha256 = await self._storage.sha256(key, stored)
        return lambda current, _: mark_verified(current, stored.size_bytes, sha256, info.duration_seconds)


def _becomes_ready(before: Recording, after: Recording) -> bool:
    """Return whether a video becomes READY now and needs its data key."""
    is_ready, was_ready = (one.status is RecordingStatus.READY for one in (after, before))
    return is_ready and not was_ready and after.medium is Medium.VIDEO


def _has_track(recording: Recording, people: Iterable[ParticipantSnapshot]) -> bool:
    """Return whether the microphone track is published. True for a recording of another medium."""
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
