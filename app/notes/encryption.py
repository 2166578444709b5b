"""Encrypts and decrypts note drafts with the recording's data key (AES-256-GCM).

Each ciphertext is bound to its recording and its version, so an earlier version cannot be put back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.insights.encryption import insights_field
from app.insights.insights_format import parse_insights
from app.keys.keyring import Field, FieldKey, Keyring
from app.notes.draft_format import format_draft, parse_draft
from app.notes.editing import LineChecker, compose_draft
from app.notes.model import EMPTY_DRAFT, Draft
from app.notes.store import EncryptedDraft
from app.transcripts.corrections import apply_corrections
from app.transcripts.encryption import correction_field, transcript_field
from app.transcripts.model import Turn
from app.transcripts.transcript_format import parse_correction, parse_transcript


def draft_field(recording_id: UUID, version: int) -> Field:
    """Return the table, row and column in which a version of a recording's draft is stored."""
    return Field("note_drafts", f"{recording_id}:{version}", "ciphertext", key_id=str(recording_id))


@dataclass(frozen=True)
class DecryptedDraft:
    """A decrypted draft, the turns of its transcript by number, and the checker of its lines."""

    draft: Draft = field(repr=False)
    turns: Sequence[Turn] = field(repr=False)
    checker: LineChecker = field(repr=False)
    key: FieldKey = field(repr=False)


def decrypt_draft(keyring: Keyring, encrypted: EncryptedDraft) -> DecryptedDraft:
    """Decrypt the stored draft, or compose the draft of the insights, or return an empty one.

    Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong, note_draft_..., insights_..., transcript_...).
    """
    key = keyring.unwrap(encrypted.wrapped, encrypted.root_key_id)
    turns = _decrypt_turns(key, encrypted)
    return DecryptedDraft(_decrypt(key, encrypted), turns, LineChecker(turns), key)


def encrypt_draft(key: FieldKey, recording_id: UUID, version: int, draft: Draft) -> bytes:
    """Return the encrypted draft."""
    return key.encrypt(draft_field(recording_id, version), format_draft(draft))


def _decrypt(key: FieldKey, encrypted: EncryptedDraft) -> Draft:
    if encrypted.draft is not None:
        return parse_draft(
            key.decrypt(draft_field(encrypted.recording_id, encrypted.version), encrypted.draft)
        )
    if encrypted.insights is None or encrypted.generation is None:
        return EMPTY_DRAFT
    place = insights_field(encrypted.recording_id, encrypted.generation)
    stored = parse_insights(key.decrypt(place, encrypted.insights))
    return compose_draft(
        stored.insights.note,
        dismissed=encrypted.dismissed,
        generation=encrypted.generation,
        writer=encrypted.writer,
    )


def _decrypt_turns(key: FieldKey, encrypted: EncryptedDraft) -> Sequence[Turn]:
    if encrypted.transcript is None:
        return ()
    original = parse_transcript(key.decrypt(transcript_field(encrypted.recording_id), encrypted.transcript))
    corrections = [
        parse_correction(key.decrypt(correction_field(encrypted.recording_id, number), one))
        for number, one in enumerate(encrypted.corrections, start=1)
    ]
    return apply_corrections(original, corrections).turns
