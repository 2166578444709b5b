"""Services for consent: record a consent or its withdrawal. Consents and withdrawals are stored permanently, and
the newest one counts.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple
from uuid import UUID

from app.consents import store
from app.consents.model import (
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
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.identity.permissions import Permission
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.selection import Selection

MAX_NAME_LENGTH = 200
_PLAIN = Selection()


class Consents:
    """The consent service of the API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(
        self,
        asker: Asker,
        participant_id: UUID,
        shown: ShownText,
        representative: Representative | None,
        selection: Selection = _PLAIN,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Record a participant's consent to exactly the consent text that was shown. A statement of the patient or
        the doctor about themselves has the source SELF. A statement of the doctor about the patient or a guest has
        the source ATTESTED. A repeated call with the same `idempotency_key` returns the statement of the first call.

        Raises NotFound, Conflict (withdrawn_in_person, idempotency_key_reused), InvalidInput (consent_text_unknown,
        consent_text_differs, bad_representative, bad_idempotency_key).
        """
        call = RepeatableCall(
            "recordConsent", idempotency_key, participant_id, *astuple(shown), *_values(representative)
        )
        require_known(shown)
        _require_named(representative)
        async with self._open(asker, participant_id, permissions.GIVE_CONSENT) as (tx, participant, source):
            earlier = await call.claim(tx)
            if earlier is None:
                consent = await store.insert(tx, participant, Decision.GIVEN, source, shown, representative)
                await call.settle(tx, consent.id)
                earlier = consent.id
            return await store.show(tx, earlier, selection, permissions.GIVE_CONSENT.action)

    async def withdraw(
        self,
        asker: Asker,
        participant_id: UUID,
        representative: Representative | None,
        selection: Selection = _PLAIN,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Record that a participant withdraws the consent given earlier. The withdrawal stops a running recording.
        While the newest statement is a withdrawal, a repeated call changes nothing. A repeated call with the same
        `idempotency_key` returns the statement of the first call, even if the participant has consented again.

        Raises NotFound, Conflict (no_consent_to_withdraw, idempotency_key_reused), InvalidInput (bad_representative,
        bad_idempotency_key).
        """
        call = RepeatableCall("withdrawConsent", idempotency_key, participant_id, *_values(representative))
        _require_named(representative)
        async with self._open(asker, participant_id, permissions.WITHDRAW_CONSENT) as (
            tx,
            participant,
            source,
        ):
            earlier = await call.claim(tx)
            if earlier is None:
                consent = require_any(await store.read_history(tx, participant_id))
                if consent.decision is Decision.GIVEN:
                    consent = await store.insert(
                        tx, participant, Decision.WITHDRAWN, source, consent.shown, representative
                    )
                    await store.defer_enforcement(tx, participant.consultation_id)
                await call.settle(tx, consent.id)
                earlier = consent.id
            return await store.show(tx, earlier, selection, permissions.WITHDRAW_CONSENT.action)

    @asynccontextmanager
    async def _open(
        self, asker: Asker, participant_id: UUID, permission: Permission
    ) -> AsyncIterator[tuple[Transaction, ConsentingParticipant, Source]]:
        async with self._database.as_user(asker, permission.on(participant_id)) as tx:
            participant = await store.find_participant(tx, participant_id)
            if participant is None:
                await store.read_participant(tx, participant_id, permission.action)
                raise NotFound("participant_not_found")
            await store.lock_consultation(tx, participant.consultation_id)
            is_own = tx.role == "patient" or participant.kind == "DOCTOR"
            yield tx, participant, Source.SELF if is_own else Source.ATTESTED


async def lock_consultation(tx: Transaction, consultation_id: UUID) -> None:
    """Lock one consultation, so that its consents, joins and recording starts happen one after another."""
    await store.lock_consultation(tx, consultation_id)


async def require_consent(tx: Transaction, consultation_id: UUID) -> None:
    """Raise Conflict (consent_missing, with the participants) unless every required participant consents (law 6)."""
    require_everyone(await store.read_participant_consents(tx, consultation_id))


async def read_participant_consents(tx: Transaction, consultation_id: UUID) -> list[ParticipantConsent]:
    """Return for every participant of a consultation whether the participant consents now."""
    return await store.read_participant_consents(tx, consultation_id)


async def everyone_consents(tx: Transaction, consultation_id: UUID) -> bool:
    """Return whether every required participant consents now (law 6)."""
    return not list_missing_consents(await store.read_participant_consents(tx, consultation_id))


def _values(representative: Representative | None) -> tuple[str | None, str | None]:
    return (None, None) if representative is None else (representative.relationship, representative.name)


def _require_named(representative: Representative | None) -> None:
    if representative is not None and not 1 <= len(representative.name.strip()) <= MAX_NAME_LENGTH:
        raise InvalidInput("bad_representative")
