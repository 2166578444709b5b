"""Decides who may be recorded (law 6), and stops recordings after a withdrawal of consent."""

from collections.abc import Collection, Iterable
from uuid import UUID

from app.consents import service as consents
from app.consents.model import ParticipantConsent, list_missing_consents
from app.postgres.database import Database
from app.recordings import store
from app.recordings.transition_writer import stop_live_recordings
from app.recordings.transitions import CONSENT_MISSING, CONSENT_WITHDRAWN, UNKNOWN_PARTICIPANT


def find_objection(participants: Iterable[ParticipantConsent], identities: Collection[str]) -> str | None:
    """Return the reason why the people in the room may not be recorded, or None if all of them are known
    participants and have consented.
    """
    known = {str(one.participant_id): one for one in participants}
    if any(identity not in known for identity in identities):
        return UNKNOWN_PARTICIPANT
    if any(known[identity].is_withdrawn for identity in identities):
        return CONSENT_WITHDRAWN
    return None if all(known[identity].is_given for identity in identities) else CONSENT_MISSING


def has_doctor_and_patient(participants: Iterable[ParticipantConsent], identities: Collection[str]) -> bool:
    """Return whether both the doctor and the patient are among the people in the room."""
    kinds = {one.kind for one in participants if str(one.participant_id) in identities}
    return {"DOCTOR", "PATIENT"} <= kinds


def find_objection_to_recording(
    participants: Collection[ParticipantConsent], identities: Collection[str]
) -> str | None:
    """Return the reason why no recording may run with these people in the room, or None if it may run. Required
    participants who are absent from the room must have consented too.
    """
    return find_objection(participants, identities) or (
        CONSENT_WITHDRAWN if list_missing_consents(participants) else None
    )


class ConsentEnforcement:
    """Stops recordings that lack a consent, as the worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def enforce(self, consultation_id: UUID) -> None:
        """Stop recordings for which a consent is missing (law 6)."""
        async with self._database.as_service("enforce_consent") as tx:
            if not await consents.everyone_consents(tx, consultation_id):
                live = await store.lock_live(tx, consultation_id)
                await stop_live_recordings(tx, live, CONSENT_WITHDRAWN)
