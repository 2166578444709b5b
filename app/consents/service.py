"""Services for consent: record a consent or its withdrawal. Consents and withdrawals are stored permanently, and
the newest one counts.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from app.consents import store
from app.consents.model import (
    Consent,
    Decision,
    ParticipantConsent,
    Representative,
    ShownText,
    Source,
    list_missing_consents,
    require_any,
    require_everyone,
)
from app.consents.store import ConsentingParticipant
from app.consents.texts import require_known
from app.errors import InvalidInput, NotFound
from app.identity import permissions
from app.identity.permissions import Permission
from app.postgres.database import Asker, Database, Transaction

MAX_NAME_LENGTH = 200


class Consents:
    """The consent service of the API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(
        self, asker: Asker, participant_id: UUID, shown: ShownText, representative: Representative | None
    ) -> Consent:
        """Record a participant's consent to exactly the consent text that was shown. A statement of the patient or
        the doctor about themselves has the source SELF. A statement of the doctor about the patient or a guest has
        the source ATTESTED. Raises NotFound, Conflict (withdrawn_in_person), InvalidInput (consent_text_unknown,
        consent_text_differs, bad_representative).
        """
        require_known(shown)
        _require_named(representative)
        async with self._open(asker, participant_id, permissions.GIVE_CONSENT) as (tx, participant, source):
            return await store.insert(tx, participant, Decision.GIVEN, source, shown, representative)

    async def withdraw(
        self, asker: Asker, participant_id: UUID, representative: Representative | None
    ) -> Consent:
        """Record that a participant withdraws the consent given earlier. The withdrawal stops a running recording.
        Safe to repeat.

        Raises NotFound, Conflict (no_consent_to_withdraw), InvalidInput (bad_representative).
        """
        _require_named(representative)
        async with self._open(asker, participant_id, permissions.WITHDRAW_CONSENT) as (
            tx,
            participant,
            source,
        ):
            newest = require_any(await store.read_history(tx, participant_id))
            if newest.decision is Decision.WITHDRAWN:
                return newest
            consent = await store.insert(
                tx, participant, Decision.WITHDRAWN, source, newest.shown, representative
            )
            await store.defer_enforcement(tx, participant.consultation_id)
            return consent

    @asynccontextmanager
    async def _open(
        self, asker: Asker, participant_id: UUID, permission: Permission
    ) -> AsyncIterator[tuple[Transaction, ConsentingParticipant, Source]]:
        async with self._database.as_user(asker, permission.on(participant_id)) as tx:
            participant = await store.read_participant(tx, participant_id, permission.action)
            if participant is None:
                raise NotFound("participant_not_found")
            await store.lock_consultation(tx, participant.consultation_id)
            is_own = tx.role == "patient" or participant.kind == "DOCTOR"
            yield tx, participant, Source.SELF if is_own else Source.ATTESTED


async def lock_consultation(tx: Transaction, consultation_id: UUID) -> None:
    """Lock one consultation, so that its consents, joins and recording starts happen one after another."""
    await store.lock_consultation(tx, consultation_id)


async def require_consent(tx: Transaction, consultation_id: UUID) -> None:
    """Raise Forbidden (consent_missing, with the roles) unless every required participant consents now (law 6)."""
    require_everyone(await store.read_participant_consents(tx, consultation_id))


async def read_participant_consents(tx: Transaction, consultation_id: UUID) -> list[ParticipantConsent]:
    """Return for every participant of a consultation whether the participant consents now."""
    return await store.read_participant_consents(tx, consultation_id)


async def everyone_consents(tx: Transaction, consultation_id: UUID) -> bool:
    """Return whether every required participant consents now (law 6)."""
    return not list_missing_consents(await store.read_participant_consents(tx, consultation_id))


def _require_named(representative: Representative | None) -> None:
    if representative is not None and not 1 <= len(representative.name.strip()) <= MAX_NAME_LENGTH:
        raise InvalidInput("bad_representative")
