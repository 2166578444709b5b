"""Encrypts and decrypts transcripts, chunks and corrections with the recording's data key (AES-256-GCM).

Each ciphertext is bound to its table, row and column, so a ciphertext that was moved to another row cannot be
decrypted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.keys.keyring import Field, Keyring
from app.transcripts.corrections import Correction, corrected
from app.transcripts.model import Transcript
from app.transcripts.search.word_index import IndexKey, blind_transcript
from app.transcripts.store import Sealed
from app.transcripts.transcript_format import correction_bytes, correction_of, transcript_of


def transcript_field(recording_id: UUID) -> Field:
    """Return the table, row and column of a recording's transcript."""
    return _field("transcript_texts", recording_id, str(recording_id))


def chunk_field(recording_id: UUID, number: int) -> Field:
    """Return the table, row and column of the answer for one chunk."""
    return _field("transcript_chunks", recording_id, f"{recording_id}:{number}")


def correction_field(recording_id: UUID, number: int) -> Field:
    """Return the table, row and column of one correction, counted from 1."""
    return _field("transcript_corrections", recording_id, f"{recording_id}:{number}")


def _field(table: str, recording_id: UUID, row: str) -> Field:
    column = "answer" if table == "transcript_chunks" else "ciphertext"
    return Field(table, row, column, key_id=str(recording_id))


@dataclass(frozen=True)
class Unsealed:
    """The decrypted bytes of a transcript (`stored.transcript_bytes`) and its corrections."""

    words: bytes = field(repr=False)
    corrections: tuple[Correction, ...]


def unseal(keyring: Keyring, sealed: Sealed) -> Unsealed:
    """Decrypt. Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong, transcript_malformed)."""
    key = keyring.unwrap(sealed.wrapped, sealed.root_key_id)
    corrections = (
        correction_of(key.decrypt(correction_field(sealed.recording_id, number), one))
        for number, one in enumerate(sealed.corrections, start=1)
    )
    return Unsealed(key.decrypt(transcript_field(sealed.recording_id), sealed.words), tuple(corrections))


@dataclass(frozen=True)
class Readable:
    """A transcript as it was transcribed, its corrections, and its corrected form."""

    heard: Transcript = field(repr=False)
    corrections: tuple[Correction, ...]
    transcript: Transcript = field(repr=False)


def read(keyring: Keyring, sealed: Sealed) -> Readable:
    """Decrypt and parse everything. Raises the errors of `unseal` and `corrected`."""
    unsealed = unseal(keyring, sealed)
    heard = transcript_of(unsealed.words)
    return Readable(heard, unsealed.corrections, corrected(heard, unsealed.corrections))


@dataclass(frozen=True)
class SealedCorrection:
    """A correction, encrypted at its place, with the index numbers of the corrected transcript."""

    number: int
    sealed: bytes = field(repr=False)
    terms: frozenset[int] = field(repr=False)


def correct(
    keyring: Keyring,
    index_key: IndexKey,
    sealed: Sealed,
    make: Callable[[Transcript, Sequence[Correction]], Correction | None],
) -> tuple[Readable, SealedCorrection | None]:
    """Return the transcript with the correction that `make` returns, or unchanged if it returns none.

    Raises the errors of `read` and `make`.
    """
    before = read(keyring, sealed)
    made = make(before.heard, before.corrections)
    if made is None:
        return before, None
    corrections = (*before.corrections, made)
    now = Readable(before.heard, corrections, corrected(before.heard, corrections))
    place = correction_field(sealed.recording_id, len(corrections))
    key = keyring.unwrap(sealed.wrapped, sealed.root_key_id)
    encrypted = key.encrypt(place, correction_bytes(made))
    return now, SealedCorrection(len(corrections), encrypted, blind_transcript(index_key, now.transcript))
