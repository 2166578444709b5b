"""Brings recordings into the states that LiveKit's list of egresses shows, and stops egresses.

A webhook from LiveKit is only a hint that something has changed. After each webhook event the worker reads
LiveKit's list of egresses, and only this list changes the status of a recording (law 5).
"""

from uuid import UUID

from app.integrations.livekit.client import EgressSnapshot, LiveKit
from app.postgres.database import Database
from app.recordings import store
from app.recordings.media_ids import media_of_key
from app.recordings.model import Recording, RecordingStatus
from app.recordings.transition_writer import TransitionWriter, stop_sound
from app.recordings.transitions import apply_egress


class EgressUpdates:
    """Brings recordings into the states that LiveKit's list of egresses shows, as the worker."""

    def __init__(self, database: Database, livekit: LiveKit, transitions: TransitionWriter) -> None:
        self._database = database
        self._livekit = livekit
        self._transitions = transitions

    async def stop(self, recording_id: UUID) -> None:
        """Stop the egress. While the start job of the recording is in progress, the method does nothing, because
        the start job then stops the egress itself.
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
            await self._apply_all(await self._livekit.list_egress(egress_id=recording.egress_id))

    async def apply_event(self, event_id: str) -> None:
        """Read LiveKit's list of egresses after a webhook event. Only LiveKit's list changes the status of a
        recording (law 5).
        """
        async with self._database.as_service("follow_egress") as tx:
            event = await store.read_event(tx, event_id)
        match event:
            case (str(egress_id), _):
                await self._apply_all(await self._livekit.list_egress(egress_id=egress_id))
            case (None, str(room_name)):
                await self._apply_all(await self._livekit.list_egress(room_name=room_name))

    async def apply(self, egress: EgressSnapshot) -> Recording | None:
        """Bring a recording into the state that LiveKit lists for one egress. Return the recording in its new
        state, or None if the egress belongs to no recording of this deployment.
        """
        media = media_of_key(egress.object_key)
        if media is None:
            return None
        async with self._database.as_service("move_recording") as tx:
            recording_id = await store.find_by_media(tx, media)
        if recording_id is None:
            return None
        if egress.is_over and await self._is_superseded(recording_id, egress):
            return None
        return await self._transitions.apply(
            recording_id, lambda current, _: apply_egress(current, egress), egress.object_key
        )

    async def _apply_all(self, listed: list[EgressSnapshot]) -> None:
        for egress in sorted(listed, key=lambda one: one.is_over):
            await self.apply(egress)

    async def _is_superseded(self, recording_id: UUID, egress: EgressSnapshot) -> bool:
        """Return whether an earlier start request started this egress, and a later start request is still
        unanswered.
        """
        async with self._database.as_service("move_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or not recording.status.is_live or recording.egress_id is not None:
                return False
            return await store.read_object_key(tx, recording_id) != egress.object_key
