"""C2SP signed notes: the text of a note, its signature lines, and verifier keys (vkeys)."""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final, Self

from app.transparency_log.errors import NoteError

KEY_ID_BYTES: Final = 4
LARGEST_NOTE_BYTES: Final = 1_000_000
MOST_SIGNATURES: Final = 100

_LINE_START: Final = "— "
_KEY_NAME: Final = re.compile(r"[^\s+]{1,255}")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class SignatureType(IntEnum):
    """The first byte of the key material of a vkey."""

    ED25519 = 0x01
    ED25519_COSIGNATURE = 0x04
    ML_DSA_44_COSIGNATURE = 0x06


_PUBLIC_KEY_BYTES: Final = {
    SignatureType.ED25519: 32,
    SignatureType.ED25519_COSIGNATURE: 32,
    SignatureType.ML_DSA_44_COSIGNATURE: 1312,
}


@dataclass(frozen=True)
class VerifierKey:
    """The name, the signature type and the public key of a signer. A log's key has the log's origin as its name."""

    name: str
    type: SignatureType
    public_key: bytes

    def __post_init__(self) -> None:
        """Raise NoteError for a name that a signature line cannot hold, and for a key of another length."""
        require_key_name(self.name)
        if len(self.public_key) != _PUBLIC_KEY_BYTES[self.type]:
            raise NoteError("the public key does not have the length of its type")

    @property
    def key_id(self) -> bytes:
        """Return the 4 bytes that name the key in a signature line."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public_key).digest()[
            :KEY_ID_BYTES
        ]

    def format(self) -> str:
        """Return the vkey."""
        material = base64.b64encode(bytes([self.type]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Return the key of a vkey. Raises NoteError, also for an unknown type and a wrong key id."""
        name, _, rest = vkey.partition("+")
        key_id, _, material = rest.partition("+")
        decoded = decode_base64(material)
        if not decoded or decoded[0] not in list(SignatureType):
            raise NoteError("the verifier key has an unknown type")
        key = cls(name, SignatureType(decoded[0]), decoded[1:])
        if key.key_id.hex() != key_id:
            raise NoteError("the verifier key does not have its own key id")
        return key


@dataclass(frozen=True)
class NoteSignature:
    """One signature of a note. A cosignature begins with its time as 8 bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def format(self) -> str:
        """Return the signature line with its newline."""
        return f"{_LINE_START}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the signature of a line, with or without its newline. Raises NoteError."""
        name, _, encoded = line.removesuffix("\n").removeprefix(_LINE_START).partition(" ")
        decoded = decode_base64(encoded)
        if not line.startswith(_LINE_START) or len(decoded) <= KEY_ID_BYTES:
            raise NoteError("a signature line is malformed")
        require_key_name(name)
        return cls(name, decoded[:KEY_ID_BYTES], decoded[KEY_ID_BYTES:])

    def is_by(self, key: VerifierKey) -> bool:
        """Say whether the name and the id are those of the key. The signature itself is not verified."""
        return (self.name, self.key_id) == (key.name, key.key_id)


@dataclass(frozen=True)
class SignedNote:
    """A text that ends with a newline, and its signatures, which are not verified yet."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def format(self) -> bytes:
        """Return the note."""
        return self.text + b"\n" + "".join(one.format() for one in self.signatures).encode()

    @classmethod
    def parse(cls, note: bytes) -> Self:
        """Return the parts of a note. Raises NoteError."""
        if len(note) > LARGEST_NOTE_BYTES:
            raise NoteError("the note is too long")
        try:
            decoded = note.decode()
        except UnicodeDecodeError:
            raise NoteError("the note is not valid UTF-8") from None
        text, separator, lines = decoded.rpartition("\n\n")
        if not separator or not lines.endswith("\n") or _CONTROL.search(decoded):
            raise NoteError("the note is malformed")
        signatures = tuple(NoteSignature.parse(line) for line in lines[:-1].split("\n"))
        if len(signatures) > MOST_SIGNATURES:
            raise NoteError("the note has too many signatures")
        return cls(f"{text}\n".encode(), signatures)

    def with_signatures(self, signatures: Iterable[NoteSignature]) -> Self:
        """Return the note with these signatures after its own. A signature that the note has already is left out."""
        return type(self)(self.text, tuple(dict.fromkeys((*self.signatures, *signatures))))


def require_key_name(name: str) -> None:
    """Raise NoteError unless a signature line can hold this name of a key."""
    if not _KEY_NAME.fullmatch(name) or not name.isprintable() or len(name.encode()) > 255:
        raise NoteError("the name of a key is malformed")


def decode_base64(encoded: str) -> bytes:
    """Return the bytes of canonical base64. Raises NoteError."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("the base64 is malformed") from None
    if base64.b64encode(decoded).decode() != encoded:
        raise NoteError("the base64 is not canonical")
    return decoded
