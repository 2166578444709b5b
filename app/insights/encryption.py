"""The places of encrypted insights, for their encryption with the recording's data key (AES-256-GCM).

Each ciphertext is bound to its table, row, column and generation, so a ciphertext that was moved to another row, or
kept from an earlier generation, cannot be decrypted.
"""

from uuid import UUID

from app.keys.keyring import Field


def insights_field(recording_id: UUID, generation: int) -> Field:
    """Return the table, row and column in which a generation of the insights into a recording is stored."""
    return Field("insight_texts", f"{recording_id}:{generation}", "ciphertext", key_id=str(recording_id))


def answer_field(recording_id: UUID, generation: int, part: int, round_number: int) -> Field:
    """Return the table, row and column in which the language service's answer for a part is stored. `round_number` is
    0 for the first answer and 1 for the repaired one.
    """
    row = f"{recording_id}:{generation}:{part}:{round_number}"
    return Field("insight_answers", row, "ciphertext", key_id=str(recording_id))
