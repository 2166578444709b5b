"""Reads and writes the database rows of amendments. The caller opens the transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

from pydantic_core import from_json

from app.amendments.model import NewAmendment, format_statement, parse_statement
from app.disclosures.model import text_field
from app.keys.keyring import FieldKey, Keyring
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Cursor, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import ConsultationBy, consultation_parameters
from app.postgres.selection import SelectedField, Selection

_KIND: Final = "amendment"
_sql = Queries(Path(__file__).with_name("queries.sql"))
_AMENDMENTS: Final = ContentRead(
    entities=ENTITIES,
    entity="amendment",
    where="r.id = any(%(ids)s::uuid[])",
    order="created_at",
    content="private.read_amendment_texts(%(action)s, %(asked)s, e.entities, %(fields)s)",
)


@dataclass(frozen=True)
class FoundIds:
    """The ids of a page with the place of each in the list, and the consultation by which the caller asked, or None."""

    ids: tuple[UUID, ...]
    places: Mapping[UUID, Cursor]
    has_next: bool
    asked: UUID | None


async def find(tx: Transaction, request: PageRequest, consultation: ConsultationBy | None) -> FoundIds:
    """Return the ids of a page of amendments that the person may see, newest first."""
    rows = await tx.all(_sql["find"], {**request.parameters, **consultation_parameters(consultation)})
    shown = [row for row in rows if row["id"] is not None]
    page = shown[: request.first]
    return FoundIds(
        tuple(row["id"] for row in page),
        {row["id"]: Cursor(row["created_at"], row["id"]) for row in page},
        len(shown) > request.first,
        rows[0]["consultation_id"] if rows else None,
    )


async def read(
    tx: Transaction,
    keyring: Keyring,
    ids: Sequence[UUID],
    selection: Selection,
    *,
    action: LiteralString,
    asked: UUID | None = None,
) -> dict[UUID, Row]:
    """Write the audit row, and return the amendments with these ids and their decrypted statements. Raises Conflict
    (field_unreadable, root_key_unknown, data_key_wrong), RateLimited (quota_pages).
    """
    shown = (one for one in selection.fields if one.python_name not in ("statements", "id"))
    metadata = Selection((SelectedField("id", {}, Selection()), *shown))
    values = {"ids": list(ids), "asked": asked, "action": action, "fields": list(selection.paths)}
    (row,) = await _AMENDMENTS.all(tx, metadata, values)
    statements: defaultdict[UUID, list[dict[str, Any]]] = defaultdict(list)
    keys: dict[UUID, FieldKey] = {}
    names = (
        *("amendment_ids", "statement_ids", "kinds", "makers", "times"),
        *("patient_ids", "ciphertexts", "wrapped_keys", "root_keys"),
    )
    for amendment_id, statement_id, kind, maker, time, patient_id, ciphertext, wrapped, root_key in zip(
        *(row[name] or () for name in names), strict=True
    ):
        text = persons_to_inform = None
        if ciphertext is not None:
            if patient_id not in keys:
                keys[patient_id] = keyring.unwrap(wrapped, root_key)
            place = text_field(_KIND, statement_id, patient_id)
            text, persons_to_inform = parse_statement(keys[patient_id].decrypt(place, ciphertext))
        statements[amendment_id].append(
            {
                "kind": kind,
                "text": text,
                "persons_to_inform": persons_to_inform,
                "made_by": {"id": str(maker)},
                "made_at": time.isoformat(),
            }
        )
    found = {UUID(one["id"]): one for one in from_json(row["metadata"])}
    return {one: {**found[one], "statements": statements[one]} for one in ids if one in found}


async def request(tx: Transaction, keyring: Keyring, given: NewAmendment) -> UUID | None:
    """File a request and return its id. Return None if the caller may not see the consultation or the recording, or it
    does not exist. Raises Conflict (bad_amendment_date, root_key_unknown, data_key_wrong).
    """
    values = {
        **consultation_parameters(given.consultation),
        "recording_id": given.recording_id,
        "part": given.part,
        "received_on": given.received_on,
        "is_by_representative": given.is_by_representative,
    }
    return await _add(tx, keyring, "request", format_statement(given.text), values)


async def decide(
    tx: Transaction, keyring: Keyring, amendment_id: UUID, ground: str | None, text: bytes
) -> UUID | None:
    """Accept an amendment, or deny it on a ground. Return None if it does not exist. Raises Conflict
    (amendment_decided, root_key_unknown, data_key_wrong).
    """
    return await _add(tx, keyring, "decide", text, {"id": amendment_id, "ground": ground})


async def answer(tx: Transaction, keyring: Keyring, amendment_id: UUID, kind: str, text: str) -> UUID | None:
    """Add a statement of disagreement or a rebuttal. Return None if the caller may not see the amendment or it does not
    exist. Raises Conflict (amendment_not_denied, amendment_not_disputed, amendment_stated_already, root_key_unknown,
    data_key_wrong).
    """
    return await _add(tx, keyring, "answer", format_statement(text), {"id": amendment_id, "kind": kind})


async def extend(tx: Transaction, amendment_id: UUID, days: int, reason: str) -> UUID | None:
    """Extend the deadline. Raises Conflict (amendment_decided, extended_already, past_due)."""
    changed = await tx.value(_sql["extend"], {"id": amendment_id, "days": days, "reason": reason})
    return None if changed is None else UUID(str(changed))


async def include(tx: Transaction, amendment_id: UUID) -> UUID | None:
    """Note that the request and the denial go with future disclosures. Raises Conflict (amendment_not_denied)."""
    changed = await tx.value(_sql["include"], {"id": amendment_id})
    return None if changed is None else UUID(str(changed))


async def _add(
    tx: Transaction, keyring: Keyring, statement: LiteralString, text: bytes, values: Mapping[str, object]
) -> UUID | None:
    offered = keyring.new_data_key()
    keys = {"offered": offered.wrapped, "offered_root_key": offered.root_key_id}
    row = await tx.one(_sql[statement], {**values, **keys})
    if row is None:
        return None
    key = keyring.unwrap(row["wrapped"], row["root_key"])
    place = text_field(_KIND, row["statement_id"], row["patient_id"])
    await tx.run(
        _sql["store_text"],
        {"statement_id": row["statement_id"], "ciphertext": key.encrypt(place, text)},
    )
    return UUID(str(row["amendment_id"]))
