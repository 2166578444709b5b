"""C2SP checkpoints: the signed statement of a log's size and root, the log's signature, and witnesses' cosignatures.

Each log has a key of its own, which `Ed25519Signer.from_seed` derives from the deployment's seed and the log's origin:
a tlog-policy refuses two logs with one public key.
"""

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.transparency_log.errors import NoteError, SignatureError
from app.transparency_log.merkle import EMPTY_ROOT, HASH_BYTES
from app.transparency_log.notes import (
    NoteSignature,
    SignatureType,
    SignedNote,
    VerifierKey,
    decode_base64,
)

SEED_BYTES: Final = 32
_TIME_BYTES: Final = 8
_LARGEST_TIME: Final = 2**63 - 1
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_DERIVATION: Final = b"resguardo audit log key 1\0"


@dataclass(frozen=True)
class Checkpoint:
    """The size and the root of the log with this origin."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Raise NoteError for an origin, a size or a root that a checkpoint cannot hold."""
        if not self.origin or "\n" in self.origin or not 0 <= self.size <= _LARGEST_TIME:
            raise NoteError("the checkpoint is malformed")
        if len(self.root) != HASH_BYTES or (self.size == 0 and self.root != EMPTY_ROOT):
            raise NoteError("the root of the checkpoint is malformed")

    def format(self) -> bytes:
        """Return the text that the log signs."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the checkpoint of a note's text. Raises NoteError, also for extension lines, which no log of ours
        has.
        """
        try:
            lines = text.decode().split("\n")
        except UnicodeDecodeError:
            raise NoteError("the checkpoint is not valid UTF-8") from None
        if len(lines) != 4 or lines[3] or not _SIZE.fullmatch(lines[1]):
            raise NoteError("the checkpoint is malformed")
        return cls(lines[0], int(lines[1]), decode_base64(lines[2]))


@dataclass(frozen=True)
class VerifiedSignature:
    """The key of a correct signature. `time` is the POSIX time of a cosignature, and None for a plain signature."""

    key: VerifierKey
    time: int | None


class Signer(Protocol):
    """Signs the checkpoints of one log. The algorithm is the signer's own."""

    @property
    def verifier_key(self) -> VerifierKey:
        """Return the public key. Its name is the log's origin."""

    def sign(self, text: bytes) -> NoteSignature:
        """Sign the text of a checkpoint."""


class Ed25519Signer:
    """A log's key. Its signature covers the text of the note."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifier_key = VerifierKey(name, SignatureType.ED25519, key.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Derive the key of the log with the origin `name` from the deployment's seed (HKDF-SHA256)."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(_derive(name, seed)))

    def sign(self, text: bytes) -> NoteSignature:
        """Sign the text of a note."""
        key = self.verifier_key
        return NoteSignature(key.name, key.key_id, self._key.sign(text))


class Ed25519Cosigner:
    """A witness's key. Its signature covers the time and the checkpoint."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes_raw()
        self.verifier_key = VerifierKey(name, SignatureType.ED25519_COSIGNATURE, public)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Return the cosigner with this name. The seed is the private key itself."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    def cosign(self, text: bytes, time: int) -> NoteSignature:
        """Cosign the text of a checkpoint at a POSIX time."""
        signature = self._key.sign(_ed25519_message(text, time))
        return _cosignature(self.verifier_key, time, signature)


class MlDsa44Cosigner:
    """A key of a witness or of a log. Its signature covers its own name, the time, and the checkpoint."""

    def __init__(self, name: str, key: MLDSA44PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes_raw()
        self.verifier_key = VerifierKey(name, SignatureType.ML_DSA_44_COSIGNATURE, public)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Return the cosigner with this name. The seed is the private key itself."""
        return cls(name, MLDSA44PrivateKey.from_seed_bytes(seed))

    def cosign(self, text: bytes, time: int) -> NoteSignature:
        """Cosign the text of a checkpoint at a POSIX time."""
        signature = self._key.sign(_ml_dsa_message(self.verifier_key.name, text, time))
        return _cosignature(self.verifier_key, time, signature)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> SignedNote:
    """Return the signed note of a checkpoint. Raises NoteError if the key belongs to a log with another origin."""
    if signer.verifier_key.name != checkpoint.origin:
        raise NoteError("the key belongs to another log")
    text = checkpoint.format()
    return SignedNote(text, (signer.sign(text),))


def verify_note(note: SignedNote, keys: Iterable[VerifierKey]) -> tuple[VerifiedSignature, ...]:
    """Return the correct signatures by these keys, at most one for each key. Signatures of other keys are ignored.
    Raises SignatureError if a signature by one of these keys is wrong, or none of the keys has signed.
    """
    verified: dict[VerifierKey, VerifiedSignature] = {}
    known = {(key.name, key.key_id): key for key in keys}
    for one in note.signatures:
        key = known.get((one.name, one.key_id))
        if key is not None:
            verified.setdefault(key, VerifiedSignature(key, _VERIFY[key.type](key, note.text, one.signature)))
    if not verified:
        raise SignatureError("no known key has signed the note")
    return tuple(verified.values())


def _verify_ed25519(key: VerifierKey, text: bytes, signature: bytes) -> None:
    _require_ed25519(key, signature, text)


def _verify_ed25519_cosignature(key: VerifierKey, text: bytes, signature: bytes) -> int:
    time = _read_time(signature)
    _require_ed25519(key, signature[_TIME_BYTES:], _ed25519_message(text, time))
    return time


def _verify_ml_dsa_cosignature(key: VerifierKey, text: bytes, signature: bytes) -> int:
    time = _read_time(signature)
    message = _ml_dsa_message(key.name, text, time)
    try:
        MLDSA44PublicKey.from_public_bytes(key.public_key).verify(signature[_TIME_BYTES:], message)
    except (InvalidSignature, ValueError):
        raise SignatureError("a signature is wrong") from None
    return time


_VERIFY: Final[dict[SignatureType, Callable[[VerifierKey, bytes, bytes], int | None]]] = {
    SignatureType.ED25519: _verify_ed25519,
    SignatureType.ED25519_COSIGNATURE: _verify_ed25519_cosignature,
    SignatureType.ML_DSA_44_COSIGNATURE: _verify_ml_dsa_cosignature,
}


def _require_ed25519(key: VerifierKey, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError("a signature is wrong") from None


def _read_time(signature: bytes) -> int:
    time = int.from_bytes(signature[:_TIME_BYTES], "big")
    if len(signature) <= _TIME_BYTES or time > _LARGEST_TIME:
        raise SignatureError("a cosignature is malformed")
    return time


def _cosignature(key: VerifierKey, time: int, signature: bytes) -> NoteSignature:
    return NoteSignature(key.name, key.key_id, time.to_bytes(_TIME_BYTES, "big") + signature)


def _ed25519_message(text: bytes, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n".encode() + text


def _ml_dsa_message(name: str, text: bytes, time: int) -> bytes:
    """Return the struct `cosigned_message` of tlog-cosignature for a whole checkpoint."""
    checkpoint = Checkpoint.parse(text)
    origin = checkpoint.origin.encode()
    if len(origin) > 255:
        raise NoteError("the origin is too long")
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes([len(name.encode())]) + name.encode(),
            time.to_bytes(_TIME_BYTES, "big"),
            bytes([len(origin)]) + origin,
            (0).to_bytes(8, "big"),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def _derive(name: str, seed: bytes) -> bytes:
    if len(seed) != SEED_BYTES:
        raise NoteError("the seed does not have 32 bytes")
    return HKDF(SHA256(), SEED_BYTES, salt=None, info=_DERIVATION + name.encode()).derive(seed)
