"""The database rows of consents."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from app.consents.model import Consent, Decision, ParticipantConsent, Representative, ShownText, Source
from app.errors import NotFound
from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.composer import EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_consents = TypeAdapter(list[Consent])
_participant_consents = TypeAdapter(list[ParticipantConsent])


@dataclass(frozen=True)
class ConsentingParticipant:
    """The participant who gives or withdraws consent."""

    id: UUID
    kind: str
    consultation_id: UUID
    doctor_id: UUID
    patient_id: UUID


_PARTICIPANT: Final = AuditedRead(
    rows=_sql["read_participant"],
    items=ConsentingParticipant,
    entity_type="participant",
    asked="%(id)s",
)
_CONSENT: Final = EntityRead(
    entities=ENTITIES,
    entity="consent",
    where="r.id = %(id)s",
    action=permissions.GIVE_CONSENT.action,
    asked="%(id)s",
)


async def lock_consultation(tx: Transaction, consultation_id: UUID) -> None:
    """Lock a consultation. The call first waits for all transactions that are recording a consent, a join or a
    recording start in this consultation.
    """
    await tx.run(_sql["lock_consultation"], {"consultation_id": consultation_id})


async def read_participant(
    tx: Transaction, participant_id: UUID, action: LiteralString
) -> ConsentingParticipant | None:
    """Write the audit row of the consent action and return the participant. Return None if the participant does not
    exist or is hidden from the caller.
    """
    found = await _PARTICIPANT.all(tx, {"id": participant_id}, action=action)
    return found[0] if found else None


async def find_participant(tx: Transaction, participant_id: UUID) -> ConsentingParticipant | None:
    """Return the participant, or None if the participant does not exist or is hidden from the caller."""
    row = await tx.one(_sql["read_participant"], {"id": participant_id})
    return None if row is None else ConsentingParticipant(**row)


async def show(tx: Transaction, consent_id: UUID, selection: Selection, action: LiteralString) -> Row:
    """Write the audit row of the consent action and return the statement, with its participant and the live recording
    of its consultation if they are selected. A patient may not read recordings, so a patient gets no recording.
    """
    shown = await _CONSENT.show(tx, selection, {"id": consent_id}, action=action, is_counted=False)
    if shown is None:
        raise NotFound("participant_not_found")
    return shown


async def insert(
    tx: Transaction,
    participant: ConsentingParticipant,
    decision: Decision,
    source: Source,
    shown: ShownText,
    representative: Representative | None,
) -> Consent:
    """Insert a statement. The database's access policies raise Forbidden if the caller may not record this consent
    or withdrawal.
    """
    rows = await tx.all(
        _sql["insert_consent"],
        {
            "id": uuid4(),
            "participant_id": participant.id,
            "decision": decision,
            "source": source,
            "relationship": representative.relationship if representative else None,
            "name": representative.name if representative else None,
            **asdict(shown),
        },
    )
    return _consents.validate_python(rows)[0]


async def read_history(tx: Transaction, participant_id: UUID) -> list[Consent]:
    """Return all consents and withdrawals of a participant, oldest first."""
    return _consents.validate_python(await tx.all(_sql["history"], {"participant_id": participant_id}))


async def read_participant_consents(tx: Transaction, consultation_id: UUID) -> list[ParticipantConsent]:
    """Return for every participant of a consultation whether the participant consents now."""
    return _participant_consents.validate_python(
        await tx.all(_sql["participant_consents"], {"consultation_id": consultation_id})
    )


async def defer_enforcement(tx: Transaction, consultation_id: UUID) -> None:
    """Queue the job that stops the recordings of a consultation if a consent is missing."""
    await tx.run(_sql["defer_enforcement"], {"consultation_id": consultation_id})
