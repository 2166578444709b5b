"""Encrypts and decrypts transcripts, chunks and corrections with the recording's data key (AES-256-GCM).

Each ciphertext is bound to its table, row and column, so a ciphertext that was moved to another row cannot be
decrypted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.keys.keyring import Field, FieldKey, Keyring
from app.transcripts.corrections import Correction, apply_corrections
from app.transcripts.model import Transcript
from app.transcripts.search.word_index import IndexKey, hash_transcript
from app.transcripts.store import EncryptedTranscript
from app.transcripts.transcript_format import format_correction, parse_correction, parse_transcript


def transcript_field(recording_id: UUID) -> Field:
    """Return the table, row and column in which a recording's encrypted transcript is stored."""
    return _field("transcript_texts", recording_id, str(recording_id))


def chunk_field(recording_id: UUID, number: int) -> Field:
    """Return the table, row and column in which the encrypted answer for one chunk of sound is stored."""
    return _field("transcript_chunks", recording_id, f"{recording_id}:{number}")


def correction_field(recording_id: UUID, number: int) -> Field:
    """Return the table, row and column in which one encrypted correction of a recording's transcript is stored. The
    corrections of a transcript are counted from 1.
    """
    return _field("transcript_corrections", recording_id, f"{recording_id}:{number}")


def _field(table: str, recording_id: UUID, row: str) -> Field:
    column = "answer" if table == "transcript_chunks" else "ciphertext"
    return Field(table, row, column, key_id=str(recording_id))


@dataclass(frozen=True)
class DecryptedTranscript:
    """The decrypted bytes of a transcript (`transcript_format.format_transcript`) and its corrections."""

    text: bytes = field(repr=False)
    corrections: tuple[Correction, ...]


def decrypt_transcript(keyring: Keyring, encrypted: EncryptedTranscript) -> DecryptedTranscript:
    """Decrypt the text and the corrections of a transcript.

    Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong, transcript_malformed).
    """
    key = keyring.unwrap(encrypted.wrapped, encrypted.root_key_id)
    corrections = (
        parse_correction(key.decrypt(correction_field(encrypted.recording_id, number), one))
        for number, one in enumerate(encrypted.corrections, start=1)
    )
    return DecryptedTranscript(
        key.decrypt(transcript_field(encrypted.recording_id), encrypted.text), tuple(corrections)
    )


@dataclass(frozen=True)
class CorrectedTranscript:
    """A decrypted transcript in its original form, its corrections, and the transcript with the corrections
    applied.
    """

    original: Transcript = field(repr=False)
    corrections: tuple[Correction, ...]
    transcript: Transcript = field(repr=False)


def read_transcript(keyring: Keyring, encrypted: EncryptedTranscript) -> CorrectedTranscript:
    """Decrypt and parse a transcript and its corrections. Raises the errors of `decrypt_transcript` and
    `apply_corrections`.
    """
    decrypted = decrypt_transcript(keyring, encrypted)
    original = parse_transcript(decrypted.text)
    return CorrectedTranscript(
        original, decrypted.corrections, apply_corrections(original, decrypted.corrections)
    )


def read_corrected_transcript(
    key: FieldKey, recording_id: UUID, text: bytes, corrections: Sequence[bytes]
) -> Transcript:
    """Decrypt and parse a transcript, and return it with the given corrections applied. Raises the errors of
    `read_transcript` about the text.
    """
    original = parse_transcript(key.decrypt(transcript_field(recording_id), text))
    parsed = [
        parse_correction(key.decrypt(correction_field(recording_id, number), one))
        for number, one in enumerate(corrections, start=1)
    ]
    return apply_corrections(original, parsed)


@dataclass(frozen=True)
class EncryptedCorrection:
    """An encrypted correction, and the word index's numbers for the corrected transcript."""

    number: int
    ciphertext: bytes = field(repr=False)
    terms: frozenset[int] = field(repr=False)


def add_correction(
    keyring: Keyring,
    index_key: IndexKey,
    encrypted: EncryptedTranscript,
    make: Callable[[Transcript, Sequence[Correction]], Correction | None],
) -> tuple[CorrectedTranscript, EncryptedCorrection | None]:
    """Return the transcript with the correction that `make` returns appended, or the unchanged transcript if `make`
    returns None.

    Raises the errors of `read_transcript` and `make`.
    """
    before = read_transcript(keyring, encrypted)
    made = make(before.original, before.corrections)
    if made is None:
        return before, None
    corrections = (*before.corrections, made)
    now = CorrectedTranscript(before.original, corrections, apply_corrections(before.original, corrections))
    field_address = correction_field(encrypted.recording_id, len(corrections))
    key = keyring.unwrap(encrypted.wrapped, encrypted.root_key_id)
    ciphertext = key.encrypt(field_address, format_correction(made))
    return now, EncryptedCorrection(len(corrections), ciphertext, hash_transcript(index_key, now.transcript))
