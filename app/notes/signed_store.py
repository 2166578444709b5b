"""Stores the signed versions of notes, encrypted with the data key of the patient.

A signature takes two steps in one transaction of the doctor. `begin_signing` returns what the signed file must contain,
such as the time of the signature. `store_version` then stores the file. The commit writes the one audit row of the
signature, with the SHA-256 of the file. The module does not know what the file contains.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from app.keys.keyring import Field, FieldKey, Keyring
from app.postgres.database import Transaction
from app.postgres.queries import Queries

_sql = Queries(Path(__file__).with_name("signed_queries.sql"))


@dataclass(frozen=True)
class Signing:
    """A signature that has begun: the note, its version, whose note it is, and the time of the signature. The signed
    file must contain these values.
    """

    note_id: UUID
    version: int
    recording_id: UUID
    consultation_id: UUID
    patient_id: UUID
    signed_at: datetime
    key: FieldKey = field(repr=False)


@dataclass(frozen=True)
class SignedVersion:
    """A stored version of a note. `sha256` is the SHA-256 of the signed file, in hex."""

    note_id: UUID
    version: int
    signed_at: datetime
    sha256: str


def version_field(note_id: UUID, version: int, patient_id: UUID) -> Field:
    """Return the table, row and column in which a signed version is stored, encrypted with the patient's data key."""
    return Field("signed_note_texts", f"{note_id}:{version}", "ciphertext", key_id=str(patient_id))


async def begin_signing(
    tx: Transaction, keyring: Keyring, recording_id: UUID, version: int, *, totp_max_age_seconds: int | None
) -> Signing | None:
    """Begin to sign a version of the note on a recording: version 1 is the note, and each later version an addendum.
    Return None if the recording does not belong to the doctor or does not exist; the audit row then says so.

    The first signature for a patient makes the patient's data key. Raises Forbidden (totp_stale), Conflict
    (recording_being_deleted, recording_deleted, signed_note_destroyed, signed_note_version_taken, signed_note_full,
    root_key_unknown, data_key_wrong).
    """
    offered = keyring.new_data_key()
    row = await tx.one(
        _sql["begin_signing"],
        {
            "recording_id": recording_id,
            "version": version,
            "totp_max_age_seconds": totp_max_age_seconds,
            "wrapped": offered.wrapped,
            "root_key_id": offered.root_key_id,
        },
    )
    if row is None:
        return None
    return Signing(
        row["note_id"],
        version,
        recording_id,
        row["consultation_id"],
        row["patient_id"],
        row["signed_at"],
        keyring.unwrap(row["wrapped"], row["root_key"]),
    )


async def store_version(tx: Transaction, signing: Signing, file: bytes, *, quote_count: int) -> SignedVersion:
    """Store a signed file in the transaction in which its signature began. `quote_count` is how many quotes of the
    recording the file keeps.

    Raises Conflict (note_quotes_not_permitted) if the file has quotes and the consents do not allow them. Raises
    Conflict (signed_note_version_taken) if another signature of the same version came first.
    """
    sha256 = hashlib.sha256(file).hexdigest()
    place = version_field(signing.note_id, signing.version, signing.patient_id)
    await tx.run(
        _sql["store_signed_note"],
        {
            "note_id": signing.note_id,
            "recording_id": signing.recording_id,
            "version": signing.version,
            "signed_at": signing.signed_at,
            "ciphertext": signing.key.encrypt(place, file),
            "sha256": sha256,
            "size_bytes": len(file),
            "quote_count": quote_count,
        },
    )
    return SignedVersion(signing.note_id, signing.version, signing.signed_at, sha256)
