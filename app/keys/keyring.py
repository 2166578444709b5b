"""Root keys, the data keys that they wrap, and the encryption of fields with a data key.

The module stores nothing; `app/keys/service.py` stores the wrapped keys. No key appears in a repr, an error or a
log. Data keys are wrapped with AES Key Wrap (RFC 3394), as the library `cryptography` implements it. A field is
encrypted with AES-256-GCM (NIST SP 800-38D) and a random nonce of 96 bits. A data key encrypts only the few fields
of one recording, far fewer than the 2^32 messages that random nonces of 96 bits allow.
"""

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from app.errors import Conflict, InvalidInput

KEY_BYTES: Final = 32
CHECK_VALUE_BYTES: Final = 16
FIELD_VERSION: Final = 1
"""The first byte of an encrypted field. Another format would use another byte."""

_ID = re.compile(r"[a-z0-9-]{1,32}")
_PLACE = re.compile(r"(?:[A-Za-z0-9_.:-]{1,128}\|){4}")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LEAST_DISTINCT_BYTES: Final = 8
_CHECK_LABEL: Final = b"resguardo root key check value 1\0"


@dataclass(frozen=True)
class DataKey:
    """A data key as the database stores it: wrapped by the root key with the id `root_key_id`."""

    wrapped: bytes = field(repr=False)
    root_key_id: str


@dataclass(frozen=True)
class Field:
    """The place of an encrypted field: its table, row and column. A field can be decrypted only in the place for
    which it was encrypted. `key_id` is the id of the field's data key.
    """

    table: str
    row: str
    column: str
    key_id: str

    def __post_init__(self) -> None:
        """Raise ValueError if a part is too long or has a forbidden character, because two different places could
        then have the same text.
        """
        if not _PLACE.fullmatch(f"{self.table}|{self.row}|{self.column}|{self.key_id}|"):
            raise ValueError(
                "a part of a field's place is empty, too long, or has a character that none may have"
            )

    def associated_data(self, version: int) -> bytes:
        """Return the associated data that GCM authenticates: `table|row|column|key id|version`."""
        return f"{self.table}|{self.row}|{self.column}|{self.key_id}|{version}".encode()


class FieldKey:
    """An unwrapped data key. A field key encrypts and decrypts fields, and never reveals its bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, place: Field, text: bytes) -> bytes:
        """Return the encrypted text: version (1 byte), nonce (12 bytes), ciphertext with its tag (16 bytes longer
        than the text).
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text, place.associated_data(FIELD_VERSION))
        return bytes([FIELD_VERSION]) + nonce + sealed

    def decrypt(self, place: Field, blob: bytes) -> bytes:
        """Return the decrypted text. Raises Conflict (field_unreadable) if the field was encrypted with a different
        key or for a different place, or if its bytes have changed.
        """
        if len(blob) < 1 + _NONCE_BYTES + _TAG_BYTES or blob[0] != FIELD_VERSION:
            raise Conflict("field_unreadable")
        nonce, sealed = blob[1 : 1 + _NONCE_BYTES], blob[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, place.associated_data(FIELD_VERSION))
        except InvalidTag:
            raise Conflict("field_unreadable") from None


class Keyring:
    """The root keys that the setting ROOT_KEYS contains, by id. The first root key is the current one and wraps new
    data keys.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self.current_id = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the setting ROOT_KEYS, in the form `id:base64 of 32 bytes[,id:...]`. Raises InvalidInput
        (root_keys_malformed, root_key_twice, root_key_weak).
        """
        keys: dict[str, bytes] = {}
        for number, part in enumerate(text.split(","), start=1):
            key_id, key = _parsed(part.strip(), number)
            if key_id in keys or key in keys.values():
                raise InvalidInput("root_key_twice", number=number)
            keys[key_id] = key
        return cls(keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids of all root keys, the current root key first."""
        return tuple(self._keys)

    def check_values(self) -> dict[str, bytes]:
        """Return for the id of each root key a check value of 16 bytes, which identifies the key and reveals
        nothing else.
        """
        return {
            key_id: hmac.digest(key, _CHECK_LABEL + key_id.encode(), "sha256")[:CHECK_VALUE_BYTES]
            for key_id, key in self._keys.items()
        }

    def new_data_key(self) -> DataKey:
        """Return a random data key, wrapped by the current root key."""
        return self._wrap(secrets.token_bytes(KEY_BYTES))

    def offer_data_key(self) -> tuple[DataKey, ...]:
        """Return one random data key, wrapped by each root key, the current root key first. During a rotation, the
        worker may not have registered the current root key yet.
        """
        key = secrets.token_bytes(KEY_BYTES)
        return tuple(DataKey(aes_key_wrap(root, key), key_id) for key_id, root in self._keys.items())

    def unwrap(self, wrapped: bytes, root_key_id: str) -> FieldKey:
        """Return the unwrapped data key. Raises Conflict (root_key_unknown, data_key_wrong)."""
        return FieldKey(self._unwrap(wrapped, root_key_id))

    def unwrap_secret(self, wrapped: bytes, root_key_id: str) -> bytes:
        """Return the unwrapped key of a blind index. The key of an index has 32 bytes and encrypts nothing. Raises
        Conflict (root_key_unknown, data_key_wrong).
        """
        return self._unwrap(wrapped, root_key_id)

    def rewrap(self, wrapped: bytes, root_key_id: str) -> DataKey:
        """Unwrap a data key, and wrap it with the current root key. Raises Conflict (root_key_unknown,
        data_key_wrong).
        """
        return self._wrap(self._unwrap(wrapped, root_key_id))

    def _wrap(self, key: bytes) -> DataKey:
        return DataKey(aes_key_wrap(self._keys[self.current_id], key), self.current_id)

    def _unwrap(self, wrapped: bytes, root_key_id: str) -> bytes:
        root = self._keys.get(root_key_id)
        if root is None:
            raise Conflict("root_key_unknown", root_key_id=root_key_id)
        try:
            key = aes_key_unwrap(root, wrapped)
        except InvalidUnwrap:
            raise Conflict("data_key_wrong", root_key_id=root_key_id) from None
        if len(key) != KEY_BYTES:
            raise Conflict("data_key_wrong", root_key_id=root_key_id)
        return key


def new_key_line(key_id: str) -> str:
    """Return a new root key in the format of ROOT_KEYS. Raises InvalidInput (root_key_id)."""
    if _ID.fullmatch(key_id) is None:
        raise InvalidInput("root_key_id")
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def _parsed(part: str, number: int) -> tuple[str, bytes]:
    key_id, _, encoded = part.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("root_keys_malformed", number=number) from None
    if _ID.fullmatch(key_id) is None or len(key) != KEY_BYTES:
        raise InvalidInput("root_keys_malformed", number=number)
    if len(set(key)) < _LEAST_DISTINCT_BYTES:
        raise InvalidInput("root_key_weak", number=number)
    return key_id, key
