"""Checks who is in the room during a recording (law 6), and starts recordings automatically.

The job that starts a recording checks the consents of the people in the room, and this module checks the people who
join later. If anyone in the room has not consented, or is unknown, the module stops the recording. The recording's
error tells the doctor why the recording was stopped.
"""

from collections.abc import Iterable
from uuid import UUID

from app.consents import service as consents
from app.integrations.livekit.client import LiveKit, ParticipantSnapshot
from app.postgres.database import Database, Transaction
from app.recordings import store
from app.recordings.consent_enforcement import find_objection_to_recording, has_doctor_and_patient
from app.recordings.model import Medium, Recording, SoundMode
from app.recordings.transition_writer import stop_live_recordings, write_transition
from app.recordings.transitions import note_recorder


class RoomWatch:
    """Checks the LiveKit rooms of this deployment, as the worker."""

    def __init__(self, database: Database, livekit: LiveKit, sound: SoundMode | None = None) -> None:
        self._database = database
        self._livekit = livekit
        self._sound = sound or SoundMode()

    async def check_room_of_event(self, event_id: str) -> None:
        """Check the room of a webhook event, which says that a person joined or started to publish. Raises
        UpstreamFailed, Timeout.
        """
        async with self._database.as_service("watch_room") as tx:
            event = await store.read_event(tx, event_id)
        if event is not None and event[1] is not None:
            await self.check_room(event[1])

    async def check_room(self, room_name: str) -> str | None:
        """Stop or start recordings according to the people in the room. Return the reason of the stop or start, or
        None if the check changed nothing. If the room's video is being recorded, also request the sound recordings
        of newly published microphones. Raises UpstreamFailed and Timeout, and changes nothing, if LiveKit does not
        answer.
        """
        async with self._database.as_service("watch_room") as tx:
            consultation_id = await store.find_watched_consultation(tx, room_name)
        if consultation_id is None:
            return None
        present = await self._list_present(room_name)
        people = [somebody for somebody in present if not is_recorder(somebody)]
        identities = {somebody.identity for somebody in people}
        async with self._database.as_service("watch_room") as tx:
            live = [
                await _store_recorder(tx, one, present) for one in await store.lock_live(tx, consultation_id)
            ]
            participants = await consents.read_participant_consents(tx, consultation_id)
            why = find_objection_to_recording(participants, identities)
            if why is not None:
                return why if await stop_live_recordings(tx, live, why) else None
            is_to_begin = not live and has_doctor_and_patient(participants, identities)
        begun = await self._request_recording(room_name, consultation_id) if is_to_begin else None
        video_id = begun or next((one.id for one in live if one.medium is Medium.VIDEO), None)
        if video_id is None:
            return None
        requested = await self._request_sound(video_id, people)
        return "auto_record" if begun else requested

    async def _request_recording(self, room_name: str, consultation_id: UUID) -> UUID | None:
        """Request the recording if the doctor and the patient are connected. After a crash of its server, LiveKit
        still lists people who have left the room.
        """
        there = {one.identity for one in await self._livekit.connected(room_name) if not is_recorder(one)}
        async with self._database.as_service("watch_room") as tx:
            live = await store.lock_live(tx, consultation_id)
            participants = await consents.read_participant_consents(tx, consultation_id)
            why = find_objection_to_recording(participants, there)
            if live or why is not None or not has_doctor_and_patient(participants, there):
                return None
            return await store.request_recording(tx, consultation_id)

    async def _request_sound(self, video_id: UUID, people: Iterable[ParticipantSnapshot]) -> str | None:
        """Request the sound recordings in a separate transaction, because the request must lock the consultation
        before it locks the recordings.
        """
        microphones = [(one.identity, track_sid) for one in people for track_sid in one.microphones]
        if not microphones and not self._sound.is_routed:
            return None
        async with self._database.as_service("watch_room") as tx:
            requested = await store.request_sound(tx, video_id, microphones, self._sound)
        return "separate_speakers" if requested else None

    async def list_people(self, room_name: str) -> list[ParticipantSnapshot]:
        """Return the people in the room, without LiveKit's recorders."""
        return [one for one in await self._list_present(room_name) if not is_recorder(one)]

    async def _list_present(self, room_name: str) -> list[ParticipantSnapshot]:
        listed = await self._livekit.participants(room_name)
        return [somebody for somebody in listed if somebody.state != "disconnected"]


async def _store_recorder(
    tx: Transaction, recording: Recording, present: list[ParticipantSnapshot]
) -> Recording:
    """Store the SID of the recorder in the room. Return the recording, which is `interrupted` if the recorder left
    the room and came back.
    """
    after = recording
    for somebody in present:
        if is_recorder(somebody) and somebody.identity == recording.egress_id:
            after = note_recorder(recording, somebody.sid, somebody.joined_at)
    await write_transition(tx, recording, after)
    return after


def is_recorder(somebody: ParticipantSnapshot) -> bool:
    """Return whether the participant is a recorder of LiveKit and not a person."""
    return somebody.kind == "egress"
