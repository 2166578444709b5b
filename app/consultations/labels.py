"""Encrypts and decrypts the labels of consultations with the data key of the patient.

A label is a few words by which the doctor and the patient recognise a consultation. The label is deleted with the
patient's data key.
"""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from app.errors import Conflict, InvalidInput
from app.keys.keyring import Field, FieldKey, Keyring
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters

MAX_LABEL_CHARACTERS: Final = 100


def check_label(label: str) -> str:
    """Return the label in NFC with single spaces. Raises InvalidInput (bad_label) if it has no visible character, has
    control characters, or is too long.
    """
    words = remove_unsafe_characters(label)
    if has_unsafe_characters(label) or not words or max(len(label), len(words)) > MAX_LABEL_CHARACTERS:
        raise InvalidInput("bad_label", maximum=MAX_LABEL_CHARACTERS)
    return words


def encrypt_label(key: FieldKey, patient_id: UUID, consultation_id: UUID, label: str) -> bytes:
    """Return the label, encrypted with the patient's data key for this consultation."""
    return key.encrypt(_field(patient_id, consultation_id), label.encode())


def is_label(
    key: FieldKey, patient_id: UUID, consultation_id: UUID, label: str, ciphertext: bytes | None
) -> bool:
    """Return whether the ciphertext is this label. A ciphertext that cannot be decrypted is no label."""
    if ciphertext is None:
        return False
    try:
        return key.decrypt(_field(patient_id, consultation_id), ciphertext) == label.encode()
    except Conflict:
        return False


class LabelReader:
    """Decrypts the labels that a statement has read (`private.label_of`)."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def read(self, encrypted: Mapping[str, Any]) -> str:
        """Return the label. Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong)."""
        key = self._keyring.unwrap(b64decode(encrypted["wrapped"]), encrypted["root_key"])
        place = _field(UUID(encrypted["patient_id"]), UUID(encrypted["consultation_id"]))
        return key.decrypt(place, b64decode(encrypted["ciphertext"])).decode()


def _field(patient_id: UUID, consultation_id: UUID) -> Field:
    return Field("consultation_labels", str(consultation_id), "ciphertext", key_id=str(patient_id))
