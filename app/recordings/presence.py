"""Who is in the room: law 6 as it goes on, and recordings that start by themselves.

Consent was asked before the start; whoever comes later, or came without being let in by us, is met here. What is
recorded with somebody in the room who did not consent, or whom we do not know, is stopped, and its error tells the
doctor why.
"""

from collections.abc import Collection, Iterable
from uuid import UUID

from app.consents import service as consents
from app.consents.model import Standing, missing_consents
from app.db import Database, Transaction
from app.integrations.livekit import LiveKit, ParticipantSnapshot
from app.recordings import store
from app.recordings.model import (
    CONSENT_MISSING,
    CONSENT_WITHDRAWN,
    UNKNOWN_PARTICIPANT,
    Medium,
    Recording,
    SoundMode,
    seen_recorder,
)
from app.recordings.steps import stop_consultation, take


def objection(standings: Iterable[Standing], identities: Collection[str]) -> str | None:
    """Why these people may not be recorded, None where they may: everybody is known, and each consents."""
    known = {str(standing.participant_id): standing for standing in standings}
    if any(identity not in known for identity in identities):
        return UNKNOWN_PARTICIPANT
    if any(known[identity].is_withdrawn for identity in identities):
        return CONSENT_WITHDRAWN
    return None if all(known[identity].is_given for identity in identities) else CONSENT_MISSING


def has_doctor_and_patient(standings: Iterable[Standing], identities: Collection[str]) -> bool:
    """Whether both are among these people."""
    kinds = {standing.kind for standing in standings if str(standing.participant_id) in identities}
    return {"DOCTOR", "PATIENT"} <= kinds


def objection_to_recording(standings: Collection[Standing], identities: Collection[str]) -> str | None:
    """Why nothing may be recorded with these people in the room: whoever is not there must consent, too."""
    return objection(standings, identities) or (CONSENT_WITHDRAWN if missing_consents(standings) else None)


class RoomWatch:
    """Looks into rooms of ours, as the worker."""

    def __init__(self, database: Database, livekit: LiveKit, sound: SoundMode | None = None) -> None:
        self._database = database
        self._livekit = livekit
        self._sound = sound or SoundMode()

    async def follow_event(self, event_id: str) -> None:
        """Somebody came or began to publish: looks who is there. Raises UpstreamFailed, Timeout."""
        async with self._database.as_service("watch_room") as tx:
            event = await store.read_event(tx, event_id)
        if event is not None and event[1] is not None:
            await self.look(event[1])

    async def look(self, room_name: str) -> str | None:
        """Stops or starts what the people in the room ask for; what was done, None for nothing.

        What is recorded goes on with the sound of the microphones that were published since. Raises UpstreamFailed,
        Timeout where LiveKit does not say who is there: then nothing is done.
        """
        async with self._database.as_service("watch_room") as tx:
            consultation_id = await store.watched_consultation(tx, room_name)
        if consultation_id is None:
            return None
        present = await self._present(room_name)
        people = [somebody for somebody in present if not is_recorder(somebody)]
        identities = {somebody.identity for somebody in people}
        async with self._database.as_service("watch_room") as tx:
            live = [await _mark(tx, one, present) for one in await store.lock_live(tx, consultation_id)]
            standings = await consents.standings(tx, consultation_id)
            why = objection_to_recording(standings, identities)
            if why is not None:
                return why if await stop_consultation(tx, live, why) else None
            is_to_begin = not live and has_doctor_and_patient(standings, identities)
        begun = await self._begin(room_name, consultation_id) if is_to_begin else None
        video_id = begun or next((one.id for one in live if one.medium is Medium.VIDEO), None)
        if video_id is None:
            return None
        requested = await self._request_sound(video_id, people)
        return "auto_record" if begun else requested

    async def _begin(self, room_name: str, consultation_id: UUID) -> UUID | None:
        """Requests the recording if doctor and patient are really there: after a crash LiveKit lists ghosts."""
        there = {one.identity for one in await self._livekit.connected(room_name) if not is_recorder(one)}
        async with self._database.as_service("watch_room") as tx:
            live = await store.lock_live(tx, consultation_id)
            standings = await consents.standings(tx, consultation_id)
            why = objection_to_recording(standings, there)
            if live or why is not None or not has_doctor_and_patient(standings, there):
                return None
            return await store.request(tx, consultation_id)

    async def _request_sound(self, video_id: UUID, people: Iterable[ParticipantSnapshot]) -> str | None:
        """In a transaction of its own: it locks the consultation before the recordings."""
        microphones = [(one.identity, track_sid) for one in people for track_sid in one.microphones]
        if not microphones and not self._sound.is_routed:
            return None
        async with self._database.as_service("watch_room") as tx:
            requested = await store.request_sound(tx, video_id, microphones, self._sound)
        return "separate_speakers" if requested else None

    async def people(self, room_name: str) -> list[ParticipantSnapshot]:
        """Who is in the room, recorders left out."""
        return [one for one in await self._present(room_name) if not is_recorder(one)]

    async def _present(self, room_name: str) -> list[ParticipantSnapshot]:
        listed = await self._livekit.participants(room_name)
        return [somebody for somebody in listed if somebody.state != "disconnected"]


async def _mark(tx: Transaction, recording: Recording, present: list[ParticipantSnapshot]) -> Recording:
    """Writes under which SID the recorder is in the room; the recording after it, `interrupted` if it came back."""
    after = recording
    for somebody in present:
        if is_recorder(somebody) and somebody.identity == recording.egress_id:
            after = seen_recorder(recording, somebody.sid, somebody.joined_at)
    await take(tx, recording, after)
    return after


def is_recorder(somebody: ParticipantSnapshot) -> bool:
    """Whether it is LiveKit's own egress."""
    return somebody.kind == "egress"
