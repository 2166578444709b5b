"""The database rows of consultations."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from app.consultations.model import (
    Consultation,
    ConsultationFilter,
    GuestRole,
    ParticipantKind,
    Registration,
)
from app.identity import permissions
from app.postgres.audited import AuditedRead
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import PATIENT
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_consultation = TypeAdapter(Consultation)


@dataclass(frozen=True)
class JoinedRoom:
    """A room for which a join token was issued recently."""

    id: UUID
    room_name: str


_NAMED: Final[LiteralString] = "coalesce(%(id)s, private.consultation_id_of(%(external_id)s))"
_JOINED: Final = AuditedRead(
    rows=_sql["read_consultation"],
    details={"participants": _sql["participants"]},
    items=Consultation,
    entity_type="consultation",
    asked="%(id)s",
    consultations="p.id",
    meter="pages",
)
_CONSULTATION: Final = EntityRead(
    entities=ENTITIES,
    entity="consultation",
    where=f"r.id = {_NAMED}",
    action=permissions.READ_CONSULTATION.action,
    asked=_NAMED,
)
_CONSULTATIONS: Final = EntityList(
    entities=ENTITIES,
    entity="consultation",
    conditions={
        "since": "r.scheduled_at >= (select %(since)s::timestamptz)",
        "patient": f"r.patient_id = (select {PATIENT})",
    },
    action=permissions.LIST_CONSULTATIONS.action,
    time="scheduled_at",
)
_ROOMS: Final = AuditedRead(
    rows=_sql["list_joined_rooms"],
    items=JoinedRoom,
    action=permissions.LIST_ROOMS.action,
    entity_type="room",
    consultations="p.id",
    meter="pages",
)


async def insert(
    tx: Transaction, consultation_id: UUID, registration: Registration, patient_id: UUID, room_name: str
) -> bool:
    """Insert a consultation of the calling doctor. Return False if a different consultation already has this
    external id.
    """
    row = await tx.one(
        _sql["insert_consultation"],
        {
            "id": consultation_id,
            "external_id": registration.external_id,
            "doctor_id": registration.doctor_id,
            "patient_id": patient_id,
            "scheduled_at": registration.scheduled_at,
            "kind": registration.kind,
            "sensitivity": registration.sensitivity,
            "room_name": room_name,
            "auto_record": registration.auto_record,
            "separate_speakers": registration.separate_speakers,
            "transcribe": registration.transcribe,
            "language": registration.language,
        },
    )
    return row is not None


async def insert_participant(
    tx: Transaction, consultation_id: UUID, kind: ParticipantKind, guest_role: GuestRole | None = None
) -> UUID:
    """Insert a participant and return the new id."""
    participant_id = uuid4()
    await tx.run(
        _sql["insert_participant"],
        {"id": participant_id, "consultation_id": consultation_id, "kind": kind, "guest_role": guest_role},
    )
    return participant_id


async def read(
    tx: Transaction, consultation_id: UUID, action: LiteralString, *, counts_as_page: bool = False
) -> Consultation | None:
    """Write the audit row of an action and return its consultation with the participants. Return None if the
    consultation does not exist or is hidden from the caller.
    """
    rows = await _JOINED.all(
        tx, {"id": consultation_id}, action=action, selected=("participants",), is_counted=counts_as_page
    )
    return rows[0] if rows else None


async def find(tx: Transaction, external_id: str) -> Consultation | None:
    """Return the caller's own consultation with this external id, without its participants."""
    row = await tx.one(_sql["find_consultation"], {"external_id": external_id})
    return None if row is None else _consultation.validate_python(row)


async def show(
    tx: Transaction,
    *,
    consultation_id: UUID | None = None,
    external_id: str | None = None,
    selection: Selection,
    action: LiteralString = permissions.READ_CONSULTATION.action,
    counts_as_page: bool = True,
) -> Row | None:
    """Write the audit row and return the consultation. Return None if the consultation does not exist or is hidden
    from the caller.
    """
    named = {"id": consultation_id, "external_id": external_id}
    return await _CONSULTATION.show(tx, selection, named, action=action, is_counted=counts_as_page)


async def list_page(
    tx: Transaction, request: PageRequest, wanted: ConsultationFilter, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page, newest appointment first."""
    until = wanted.scheduled.until if wanted.scheduled else None
    return await _CONSULTATIONS.page(tx, request.before(until), wanted.parameters, selection)


async def list_joined_rooms(tx: Transaction, fields: tuple[str, ...]) -> list[JoinedRoom]:
    """Write the audit row and return at most 100 rooms of the calling doctor in which a participant may still be."""
    return await _ROOMS.all(tx, {}, fields=fields)


async def record_access(
    tx: Transaction,
    action: LiteralString,
    consultation: Consultation,
    entity_id: UUID,
    entity_type: LiteralString,
) -> None:
    """Write the audit row of a change to something that belongs to this consultation, such as a guest."""
    await tx.run(
        _sql["record_access"],
        {
            "action": action,
            "entity_type": entity_type,
            "entity_id": entity_id,
            "patient_id": consultation.patient_id,
            "consultation_id": consultation.id,
        },
    )


async def register_patient(
    tx: Transaction, external_id: str, user_id: UUID | None, birth_date: date | None
) -> UUID:
    """Return the patient's id, and create the patient if no patient has this external id.

    Raises Conflict (patient_user_differs, patient_birth_date_differs, patient_birth_date_ahead).
    """
    parameters = {"external_id": external_id, "user_id": user_id, "birth_date": birth_date}
    return UUID(str(await tx.value(_sql["register_patient"], parameters)))


async def has_live_recording(tx: Transaction, consultation_id: UUID) -> bool:
    """Return whether the consultation is being recorded."""
    return bool(await tx.value(_sql["has_live_recording"], {"id": consultation_id}))


async def mark_joined(tx: Transaction, participant_id: UUID) -> datetime:
    """Store that a participant got a join token for the room, and return the time."""
    joined_at: datetime = await tx.value(_sql["mark_joined"], {"id": participant_id})
    return joined_at


async def store_invitation(
    tx: Transaction, participant_id: UUID, secret: bytes, lifetime: timedelta
) -> datetime:
    """Store the hash of a guest's one-time secret. Return when the invitation expires, measured by the database's
    clock.
    """
    expires_at: datetime = await tx.value(
        _sql["store_invitation"], {"participant_id": participant_id, "secret": secret, "lifetime": lifetime}
    )
    return expires_at


async def redeem_invitation(tx: Transaction, secret: bytes) -> tuple[UUID, UUID, str] | None:
    """Use an invitation. Return the invitation's participant, consultation and room, or None if the invitation is
    unknown, used or expired.
    """
    row = await tx.one(_sql["redeem_invitation"], {"secret": secret})
    return None if row is None else (row["participant_id"], row["consultation_id"], row["room_name"])
