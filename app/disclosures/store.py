"""Reads and writes the database rows of disclosures and suspensions. The caller opens the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.rows import DictRow
from pydantic_core import from_json

from app.disclosures.model import NewDisclosure, NewSuspension, format_text, text_field
from app.keys.keyring import FieldKey, Keyring
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Cursor, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    consultation_parameters,
    patient_parameters,
)
from app.postgres.selection import SelectedField, Selection

DISCLOSURE: Final = "disclosure"
SUSPENSION: Final = "suspension"
_sql = Queries(Path(__file__).with_name("queries.sql"))
_CONTENT: Final[LiteralString] = (
    "private.read_disclosure_texts(%(action)s, %(asked)s, e.entities, %(fields)s)"
)
_DISCLOSURES: Final = ContentRead(
    entities=ENTITIES,
    entity="disclosure",
    where="r.id = any(%(ids)s::uuid[])",
    order="disclosed_on",
    content=_CONTENT,
)
_SUSPENSIONS: Final = ContentRead(
    entities=ENTITIES,
    entity="disclosure_suspension",
    where="r.id = any(%(ids)s::uuid[])",
    order="starts_at",
    content=_CONTENT,
)
_NEVER_IN_CLEAR: Final = ("recipient", "description", "purpose_statement", "official")
"""The fields that only the encrypted text has."""


@dataclass(frozen=True)
class FoundIds:
    """The ids of a page with the place of each in the list, and the patient by which the caller asked, or None."""

    ids: tuple[UUID, ...]
    places: Mapping[UUID, Cursor]
    has_next: bool
    asked: UUID | None


@dataclass(frozen=True)
class StoredText:
    """A row with its metadata and its text, which is decrypted, or None if its key was destroyed."""

    metadata: Row
    text: bytes | None


async def find_disclosures(
    tx: Transaction,
    request: PageRequest,
    patient: PatientBy | None,
    *,
    since: date | None,
    until: date | None,
    purposes: Sequence[str] | None,
    only_accounted: bool,
) -> FoundIds:
    """Return the ids of a page of disclosures, the latest day first. With `only_accounted`, these are the disclosures
    that an accounting would contain now.
    """
    values = {
        **patient_parameters(patient),
        "since": since,
        "until": until,
        "purposes": purposes,
        "only_accounted": only_accounted,
    }
    rows = await tx.all(_sql["find_disclosures"], {**request.parameters, **values})
    return _found(rows, request, "disclosed_on")


async def find_suspensions(tx: Transaction, request: PageRequest, patient: PatientBy | None) -> FoundIds:
    """Return the ids of a page of suspensions, newest first."""
    rows = await tx.all(_sql["find_suspensions"], {**request.parameters, **patient_parameters(patient)})
    return _found(rows, request, "starts_at")


async def read_texts(
    tx: Transaction,
    keyring: Keyring,
    kind: str,
    ids: Sequence[UUID],
    selection: Selection,
    *,
    action: LiteralString,
    asked: UUID | None = None,
) -> dict[UUID, StoredText]:
    """Write the audit row, and return the disclosures or suspensions with these ids, decrypted. Raises Conflict
    (field_unreadable, root_key_unknown, data_key_wrong), RateLimited (quota_pages).
    """
    read = _DISCLOSURES if kind == DISCLOSURE else _SUSPENSIONS
    shown = (one for one in selection.fields if one.python_name not in (*_NEVER_IN_CLEAR, "id"))
    metadata = Selection((SelectedField("id", {}, Selection()), *shown))
    values = {"ids": list(ids), "asked": asked, "action": action, "fields": list(selection.paths)}
    (row,) = await read.all(tx, metadata, values)
    keys: dict[UUID, FieldKey] = {}
    texts: dict[UUID, bytes] = {}
    names = ("row_ids", "patient_ids", "ciphertexts", "wrapped_keys", "root_keys")
    for row_id, patient_id, ciphertext, wrapped, root_key in zip(
        *(row[name] or () for name in names), strict=True
    ):
        if patient_id not in keys:
            keys[patient_id] = keyring.unwrap(wrapped, root_key)
        texts[row_id] = keys[patient_id].decrypt(text_field(kind, row_id, patient_id), ciphertext)
    found = {UUID(one["id"]): one for one in from_json(row["metadata"])}
    return {one: StoredText(found[one], texts.get(one)) for one in ids if one in found}


async def record(
    tx: Transaction,
    keyring: Keyring,
    patient: PatientBy,
    consultation: ConsultationBy | None,
    given: NewDisclosure,
) -> UUID | None:
    """Record a disclosure and return its id. Return None if the patient or the consultation does not exist. Raises
    Conflict (disclosed_on_ahead, authorization_expired, root_key_unknown, data_key_wrong).
    """
    permitted = given.authorization
    offered = keyring.new_data_key()
    row = await tx.one(
        _sql["record_disclosure"],
        {
            **patient_parameters(patient),
            **consultation_parameters(consultation),
            "disclosed_on": given.disclosed_on,
            "last_disclosed_on": given.last_disclosed_on,
            "count": given.count,
            "purpose": given.purpose,
            "signed_on": permitted.signed_on if permitted else None,
            "expires_on": permitted.expires_on if permitted else None,
            "offered": offered.wrapped,
            "offered_root_key": offered.root_key_id,
        },
    )
    if row is None:
        return None
    await _store(tx, keyring, row, DISCLOSURE, row["disclosure_id"], format_text(given))
    return UUID(str(row["disclosure_id"]))


async def suspend(tx: Transaction, keyring: Keyring, patient: PatientBy, given: NewSuspension) -> UUID | None:
    """Suspend the patient's right to see the disclosures to an agency, and return the id of the suspension. Return None
    if the patient does not exist. Raises Conflict (suspension_over, suspension_too_long, suspension_not_written,
    root_key_unknown, data_key_wrong).
    """
    offered = keyring.new_data_key()
    row = await tx.one(
        _sql["suspend_disclosures"],
        {
            **patient_parameters(patient),
            "agency": given.agency,
            "is_written": given.is_written,
            "ends_at": given.ends_at,
            "offered": offered.wrapped,
            "offered_root_key": offered.root_key_id,
        },
    )
    if row is None:
        return None
    await _store(tx, keyring, row, SUSPENSION, row["suspension_id"], given.official.encode())
    return UUID(str(row["suspension_id"]))


async def lift_suspension(tx: Transaction, suspension_id: UUID) -> UUID | None:
    """Lift a suspension before its time and return its id. Return None if it does not exist."""
    lifted = await tx.value(_sql["lift_suspension"], {"id": suspension_id})
    return None if lifted is None else UUID(str(lifted))


async def _store(
    tx: Transaction, keyring: Keyring, row: DictRow, kind: str, row_id: UUID, text: bytes
) -> None:
    key = keyring.unwrap(row["wrapped"], row["root_key"])
    ciphertext = key.encrypt(text_field(kind, row_id, row["patient_id"]), text)
    await tx.run(
        _sql["store_text"], {"id": row_id, "patient_id": row["patient_id"], "ciphertext": ciphertext}
    )


def _found(rows: Sequence[DictRow], request: PageRequest, order: str) -> FoundIds:
    shown = [row for row in rows if row["id"] is not None]
    page = shown[: request.first]
    return FoundIds(
        tuple(row["id"] for row in page),
        {row["id"]: Cursor(_moment(row[order]), row["id"]) for row in page},
        len(shown) > request.first,
        rows[0]["patient_id"] if rows else None,
    )


def _moment(value: date | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time(), tzinfo=UTC)
