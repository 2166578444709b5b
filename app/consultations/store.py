"""The database rows of consultations."""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from app.consultations.labels import encrypt_label, is_label
from app.consultations.model import (
    Consultation,
    ConsultationFilter,
    GuestRole,
    ParticipantKind,
    Registration,
)
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import MAX_PAGE_SIZE, Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import PATIENT
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_consultation = TypeAdapter(Consultation)


_NAMED: Final[LiteralString] = "coalesce(%(id)s, private.consultation_id_of(%(external_id)s))"
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
_PARTICIPANT: Final = EntityRead(
    entities=ENTITIES,
    entity="participant",
    where="r.id = %(id)s",
    action=permissions.JOIN_CONSULTATION.action,
    asked="%(id)s",
)
_ROOMS: Final = EntityList(
    entities=ENTITIES,
    entity="room",
    narrow={"ids": "r.id = any(%(ids)s::uuid[])"},
    action=permissions.LIST_ROOMS.action,
    time="scheduled_at",
    meter=None,
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


async def set_label(tx: Transaction, keyring: Keyring, consultation_id: UUID, label: str | None) -> bool:
    """Set or remove (None) the label of a consultation, and write the audit row before the commit. If the label is the
    same as before, the stored ciphertext does not change. Return False, after the audit row is written, if the
    consultation does not exist or is hidden from the caller.

    The first label of a patient without a signed note makes the patient's data key. Raises Conflict
    (recording_deleted, root_key_unknown, data_key_wrong), RateLimited (quota_pages).
    """
    offered = None if label is None else keyring.new_data_key()
    row = await tx.one(
        _sql["begin_label"],
        {
            "id": consultation_id,
            "wrapped": None if offered is None else offered.wrapped,
            "root_key_id": None if offered is None else offered.root_key_id,
        },
    )
    if row is None:
        return False
    ciphertext = None
    if label is not None:
        key = keyring.unwrap(row["wrapped"], row["root_key"])
        if is_label(key, row["patient_id"], consultation_id, label, row["ciphertext"]):
            return True
        ciphertext = encrypt_label(key, row["patient_id"], consultation_id, label)
    await tx.run(_sql["store_label"], {"id": consultation_id, "ciphertext": ciphertext})
    return True


async def read(tx: Transaction, consultation_id: UUID) -> Consultation | None:
    """Return the consultation, or None if it does not exist or is hidden from the caller. Writes no audit row."""
    row = await tx.one(_sql["read_consultation"], {"id": consultation_id})
    return None if row is None else _consultation.validate_python(row)


async def find(tx: Transaction, external_id: str) -> Consultation | None:
    """Return the caller's own consultation with this external id. Writes no audit row."""
    row = await tx.one(_sql["find_consultation"], {"external_id": external_id})
    return None if row is None else _consultation.validate_python(row)


async def find_participant(
    tx: Transaction, consultation_id: UUID, kind: ParticipantKind
) -> tuple[UUID, bool] | None:
    """Return the id of the doctor or the patient as a participant, and whether they consent now. Return None if the
    consultation does not exist or is hidden from the caller. Writes no audit row.
    """
    row = await tx.one(_sql["find_participant"], {"consultation_id": consultation_id, "kind": kind})
    return None if row is None else (row["participant_id"], row["is_given"])


async def show_participant(
    tx: Transaction,
    participant_id: UUID,
    selection: Selection,
    action: LiteralString,
    *,
    counts_as_page: bool,
    besides: Collection[str],
) -> Row | None:
    """Write the audit row of an action and return the participant. The audit row also names the fields `besides`."""
    return await _PARTICIPANT.show(
        tx, selection, {"id": participant_id}, action=action, is_counted=counts_as_page, besides=besides
    )


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


async def count_page(tx: Transaction) -> None:
    """Count one page against the caller's quota. Raises RateLimited."""
    await tx.run(_sql["count_page"])


async def list_joined_rooms(tx: Transaction) -> dict[str, UUID]:
    """Return at most 100 rooms of the calling doctor in which a participant may still be: the consultation's id by the
    name of the room. Writes no audit row.
    """
    return {row["room_name"]: row["id"] for row in await tx.all(_sql["list_joined_rooms"])}


async def show_rooms(tx: Transaction, consultation_ids: Sequence[UUID], selection: Selection) -> list[Row]:
    """Write the audit row and return the rooms of those consultations, at most 100, that the caller may see, without
    what LiveKit knows about them.
    """
    request = PageRequest(MAX_PAGE_SIZE, None)
    page = await _ROOMS.page(tx, request, {"ids": list(consultation_ids)}, selection)
    return list(page.items)


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


async def redeem_invitation(tx: Transaction, secret: bytes, fields: Sequence[str]) -> Row | None:
    """Use an invitation, and write the audit row with the fields that are shown to the guest. Return the `id`, `kind`
    and `guest_role` of the invitation's participant, with the `consultation_id` and the `room_name`. Return None if
    the invitation is unknown, used or expired.
    """
    return await tx.one(_sql["redeem_invitation"], {"secret": secret, "fields": list(fields)})
