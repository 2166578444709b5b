"""The places of encrypted text. A ciphertext is bound to its place and can be decrypted only there."""

from uuid import UUID

from app.keys.keyring import Field


def of_words(recording_id: UUID) -> Field:
    """Return the place of a recording's transcript."""
    return _place("transcript_words", recording_id, str(recording_id))


def of_piece(recording_id: UUID, number: int) -> Field:
    """Return the place of the answer for one piece."""
    return _place("transcript_pieces", recording_id, f"{recording_id}:{number}")


def of_correction(recording_id: UUID, number: int) -> Field:
    """Return the place of one correction, counted from 1."""
    return _place("transcript_corrections", recording_id, f"{recording_id}:{number}")


def _place(table: str, recording_id: UUID, row: str) -> Field:
    column = "heard" if table == "transcript_pieces" else "sealed"
    return Field(table, row, column, key_id=str(recording_id))
