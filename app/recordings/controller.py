"""The worker's part: what LiveKit and the bucket are asked, and what follows from their answers.

Each step commits its intent, asks a vendor with no transaction open, and commits what it learned under the row's
lock; run twice, or killed between any two lines and run again, it comes to the same. It never starts an egress
blindly a second time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.consents import service as consents
from app.db import Database, Transaction
from app.errors import AppError, Forbidden, UpstreamFailed
from app.integrations.livekit import EgressSnapshot, LiveKit, S3Target, is_definite
from app.integrations.storage import Storage
from app.recordings import store
from app.recordings.model import (
    Recording,
    RecordingStatus,
    failed,
    followed,
    recording_id_of,
    stopped,
    verified,
)

AMBIGUOUS_START = timedelta(seconds=60)
Clock = Callable[[], datetime]


@dataclass(frozen=True)
class _Attempt:
    """A start that may go on. `is_first`: LiveKit cannot have been asked before."""

    recording: Recording
    object_key: str
    is_first: bool


class RecordingController:
    """Run by jobs. `recorder_target` gives write-only credentials for one object key."""

    def __init__(
        self,
        database: Database,
        livekit: LiveKit,
        storage: Storage,
        recorder_target: Callable[[str], S3Target],
        *,
        now: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._livekit = livekit
        self._storage = storage
        self._recorder_target = recorder_target
        self._now = now

    async def start(self, recording_id: UUID) -> None:
        """Has LiveKit record, or adopts what it records already.

        Raises Timeout or UpstreamFailed where it is not known whether LiveKit began: the job then runs again.
        """
        attempt = await self._begin(recording_id)
        if attempt is None:
            return
        egress = await self._find(attempt) or await self._ask_to_start(attempt)
        if egress is not None:
            await self._follow(recording_id, egress)

    async def stop(self, recording_id: UUID) -> None:
        """Has LiveKit stop. Raises UpstreamFailed (egress_unknown) while a start is on its way: the job runs again."""
        async with self._database.as_service("stop_recording") as tx:
            recording = await store.lock(tx, recording_id)
        if recording is None or recording.status is not RecordingStatus.STOPPING:
            return
        if recording.egress_id is None:
            raise UpstreamFailed("egress_unknown")
        if await self._livekit.stop_egress(recording.egress_id) != "stopping":
            await self._follow_listed(recording.egress_id)

    async def follow_event(self, event_id: str) -> None:
        """Law 5: an event is a hint to read LiveKit's list, which alone moves a recording."""
        async with self._database.as_service("follow_egress") as tx:
            event = await store.read_event(tx, event_id)
        if event is not None and event[0] is not None:
            await self._follow_listed(event[0])

    async def enforce_consent(self, consultation_id: UUID) -> None:
        """Law 6: stops what is recorded without everybody's consent."""
        async with self._database.as_service("enforce_consent") as tx:
            if await _everyone_consents(tx, consultation_id):
                return
            for recording in await store.lock_live(tx, consultation_id):
                after = stopped(recording)
                if after != recording:
                    await store.update(tx, replace(after, error="consent_withdrawn"))
                    await store.defer(tx, "stop_recording", recording.id)

    async def verify(self, recording_id: UUID) -> None:
        """READY where the object is there whole, with its SHA-256. Raises UpstreamFailed (object_missing)."""
        async with self._database.as_service("verify_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or recording.status is not RecordingStatus.VERIFYING:
                return
            key = await store.read_object_key(tx, recording_id)
        stored = await self._storage.head(key)
        if stored is None:
            raise UpstreamFailed("object_missing")
        sha256, size_bytes = await self._storage.sha256(key)
        await self._change(recording_id, lambda current: verified(current, size_bytes, sha256))

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """The end of a job's retries: FAILED with its reason, never silence."""
        await self._change(recording_id, lambda current: failed(current, reason))

    async def _begin(self, recording_id: UUID) -> _Attempt | None:
        async with self._database.as_service("start_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or not recording.status.is_live or recording.egress_id is not None:
                return None
            is_first = recording.status is RecordingStatus.REQUESTED
            if is_first:
                recording = replace(recording, status=RecordingStatus.STARTING)
                if not await _everyone_consents(tx, recording.consultation_id):
                    recording = replace(recording, status=RecordingStatus.ABORTED, error="consent_withdrawn")
                await store.update(tx, recording)
            if not recording.status.is_live:
                return None
            return _Attempt(recording, await store.read_object_key(tx, recording_id), is_first)

    async def _find(self, attempt: _Attempt) -> EgressSnapshot | None:
        listed = await self._livekit.list_egress(room_name=attempt.recording.room_name)
        return next((egress for egress in listed if egress.object_key == attempt.object_key), None)

    async def _ask_to_start(self, attempt: _Attempt) -> EgressSnapshot | None:
        recording = attempt.recording
        if not attempt.is_first and self._now() - recording.updated_at < AMBIGUOUS_START:
            raise UpstreamFailed("egress_start_unknown")
        if recording.status is RecordingStatus.STOPPING:
            aborted = replace(recording, status=RecordingStatus.ABORTED)
            await self._change(recording.id, lambda current: aborted if current == recording else current)
            return None
        if not attempt.is_first and not await self._begin_again(recording):
            return None
        try:
            return await self._livekit.start_room_composite(
                room_name=recording.room_name,
                object_key=attempt.object_key,
                upload=self._recorder_target(attempt.object_key),
            )
        except AppError as error:
            if not is_definite(error):
                raise
            await self.give_up(recording.id, error.reason)
            return None

    async def _begin_again(self, recording: Recording) -> bool:
        """Commits that LiveKit is asked once more, from when the next minute counts; False where things moved on."""
        async with self._database.as_service("start_recording") as tx:
            if await store.lock(tx, recording.id) != recording:
                return False
            await store.update(tx, recording)
            return True

    async def _follow_listed(self, egress_id: str) -> None:
        for egress in await self._livekit.list_egress(egress_id=egress_id):
            recording_id = recording_id_of(egress.object_key or "")
            if recording_id is not None:
                await self._follow(recording_id, egress)

    async def _follow(self, recording_id: UUID, egress: EgressSnapshot) -> None:
        await self._change(recording_id, lambda current: followed(current, egress))

    async def _change(self, recording_id: UUID, decide: Callable[[Recording], Recording]) -> None:
        async with self._database.as_service("recording_controller") as tx:
            before = await store.lock(tx, recording_id)
            if before is None:
                return
            after = decide(before)
            if after != before:
                await store.update(tx, after)
            if after.status is RecordingStatus.VERIFYING and before.status is not RecordingStatus.VERIFYING:
                await store.defer(tx, "verify_recording", recording_id)


async def _everyone_consents(tx: Transaction, consultation_id: UUID) -> bool:
    try:
        await consents.require_consent(tx, consultation_id)
    except Forbidden:
        return False
    return True
