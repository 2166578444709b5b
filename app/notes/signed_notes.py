"""The service with which a doctor reads signed notes, and verifies them.

Each version is decrypted and compared with the hash that its signature left in the database and in the audit log. A
version whose bytes differ is returned with a problem in place of its content, and never as a valid note.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final
from uuid import UUID

import anyio.to_thread
from psycopg.rows import DictRow
from pydantic_core import from_json

from app.errors import AppError
from app.identity import permissions
from app.keys.keyring import Keyring
from app.notes.note_format import SignedNote, parse_note
from app.notes.signed_store import version_field
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Asker, Database, Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import PatientBy, patient_parameters
from app.postgres.selection import SelectedField, Selection

ALTERED: Final = "signed_note_altered"
_sql = Queries(Path(__file__).with_name("signed_queries.sql"))
_NOTES: Final = ContentRead(
    entities=ENTITIES,
    entity="signed_note",
    where="r.id = any(%(ids)s::uuid[])",
    order="signed_at",
    content="private.read_signed_notes(%(asked_type)s, %(asked)s, e.entities, %(fields)s)",
)
_METADATA: Final = ("id", "recording", "consultation", "is_destroyed", "retention_ends_at")
"""The fields of a signed note that the database reads in clear."""


@dataclass(frozen=True)
class StoredVersion:
    """A version as the database has it: whose note it is, and the hash of its signed file. `ciphertext` is None if
    the note is destroyed. `is_logged` says whether the audit log has the hash.
    """

    note_id: UUID
    version: int
    patient_id: UUID
    consultation_id: UUID
    recording_id: UUID
    signed_at: datetime
    sha256: str
    quote_count: int
    is_logged: bool
    ciphertext: bytes | None = field(repr=False)
    wrapped: bytes | None = field(repr=False)
    root_key_id: str | None


@dataclass(frozen=True)
class ReadVersion:
    """A version of a signed note. Either `note` and `file` have the verified content, or `problem` says why there is
    none.
    """

    version: int
    signed_at: datetime
    sha256: str
    quote_count: int
    note: SignedNote | None = field(default=None, repr=False)
    file: bytes | None = field(default=None, repr=False)
    problem: str | None = None


@dataclass(frozen=True)
class ReadNote:
    """A signed note with all its versions, oldest first. `metadata` has the selected metadata of the note. `has_notice`
    says whether the note is about a consultation of the sensitivity SUBSTANCE_USE.
    """

    id: UUID
    recording_id: UUID
    signed_at: datetime
    metadata: Row
    versions: tuple[ReadVersion, ...]
    has_notice: bool


class SignedNotes:
    """The service."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        recording_id: UUID | None,
        patient: PatientBy | None,
        selection: Selection,
    ) -> Page[ReadNote]:
        """Return a page of the doctor's signed notes, newest first: of one recording, of one patient, or all. The
        page is empty if the recording or patient is not the doctor's, and the audit row says so.

        Raises InvalidInput (bad_page_size, bad_cursor), RateLimited (quota_pages).
        """
        access = permissions.READ_SIGNED_NOTES.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            found = await tx.all(
                _sql["find_signed_notes"],
                {**request.parameters, **patient_parameters(patient), "recording_id": recording_id},
            )
            asked = found[0]["patient_id"] if recording_id is None else recording_id
            ids = [row["id"] for row in found if row["id"] is not None]
            rows = await self._read(tx, ids[: request.first], asked, recording_id is None, selection)
        read = await anyio.to_thread.run_sync(read_notes, self._keyring, rows)
        return Page(tuple(read), len(ids) > request.first)

    async def _read(
        self,
        tx: Transaction,
        ids: Sequence[UUID],
        asked: UUID | None,
        is_by_patient: bool,
        selection: Selection,
    ) -> list[DictRow]:
        shown = (one for one in selection.fields if one.python_name in _METADATA[1:])
        metadata = Selection((SelectedField("id", {}, Selection()), *shown))
        return await _NOTES.all(
            tx,
            metadata,
            {
                "ids": ids,
                "asked": asked,
                "asked_type": None if asked is None else "patient" if is_by_patient else "recording",
                "fields": list(selection.paths),
            },
        )


def read_notes(keyring: Keyring, rows: Iterable[DictRow]) -> list[ReadNote]:
    """Return the notes of the rows of `private.read_signed_notes`, newest first, with each version verified."""
    notes = []
    for note_id, of_note in groupby(rows, key=lambda row: row["note_id"]):
        versions = list(of_note)
        metadata = {one["id"]: one for one in from_json(versions[0]["metadata"])}
        notes.append(
            ReadNote(
                note_id,
                versions[0]["recording_id"],
                versions[0]["signed_at"],
                metadata.get(str(note_id), {}),
                read_versions(keyring, [_stored(row) for row in versions]),
                versions[0]["has_notice"],
            )
        )
    return sorted(notes, key=lambda note: (note.signed_at, note.id), reverse=True)


def read_versions(keyring: Keyring, stored: Sequence[StoredVersion]) -> tuple[ReadVersion, ...]:
    """Decrypt and verify the versions of one note, which are in their order."""
    read = []
    before: str | None = None
    for one in stored:
        file, note, problem = _verify(keyring, one, before)
        read.append(ReadVersion(one.version, one.signed_at, one.sha256, one.quote_count, note, file, problem))
        before = one.sha256
    return tuple(read)


def _verify(
    keyring: Keyring, stored: StoredVersion, previous_sha256: str | None
) -> tuple[bytes | None, SignedNote | None, str | None]:
    if stored.ciphertext is None or stored.wrapped is None or stored.root_key_id is None:
        return None, None, "signed_note_destroyed"
    place = version_field(stored.note_id, stored.version, stored.patient_id)
    try:
        file = keyring.unwrap(stored.wrapped, stored.root_key_id).decrypt(place, stored.ciphertext)
        if hashlib.sha256(file).hexdigest() != stored.sha256 or not stored.is_logged:
            return None, None, ALTERED
        note = parse_note(file)
    except AppError as error:
        return None, None, error.reason
    is_its_own = (
        note.version,
        note.previous_sha256,
        note.recording_id,
        note.consultation_id,
        note.patient_id,
        note.quote_count,
    ) == (
        stored.version,
        previous_sha256,
        stored.recording_id,
        stored.consultation_id,
        stored.patient_id,
        stored.quote_count,
    )
    return (file, note, None) if is_its_own else (None, None, ALTERED)


def _stored(row: DictRow) -> StoredVersion:
    return StoredVersion(
        row["note_id"],
        row["version"],
        row["patient_id"],
        row["consultation_id"],
        row["recording_id"],
        row["signed_at"],
        row["sha256"],
        row["quote_count"],
        row["is_logged"],
        row["ciphertext"],
        row["wrapped"],
        row["root_key"],
    )
