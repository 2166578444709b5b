"""The escrow file: the root keys and the certificates' signing key, encrypted with a passphrase.

An escrow file has three lines: its type, a header in JSON that is readable and authenticated, and the ciphertext in
base64. The encryption key is derived from the passphrase with scrypt (RFC 7914). The scrypt parameters are N =
2^17, r = 8, p = 1, OWASP's first choice (checked 2026-11-21). An attacker needs 128 MB of memory and 0.3 s on one
core for each guess of the passphrase (measured 2026-11-21). The cipher is AES-256-GCM. A file with different scrypt
parameters is refused, because its parameters could demand any amount of memory.
"""

import base64
import json
import os
import secrets
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from app.errors import AppError, Conflict, InvalidInput
from app.keys.keyring import Keyring

LEAST_PASSPHRASE: Final = 16
"""The minimum length of a passphrase, in characters."""

_MAGIC: Final = "resguardo escrow 1"
_DERIVATION: Final = {"kdf": "scrypt", "n": 2**17, "r": 8, "p": 1}
_LARGEST_BYTES: Final = 64 * 1024
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12


@dataclass(frozen=True)
class Escrow:
    """The content of an escrow file. The keys in an escrow file have the same text form as in the settings. The
    field `deployment` can be read without the passphrase.
    """

    deployment: str
    made_at: datetime
    root_keys: str = field(repr=False)
    certificate_signing_key: str = field(repr=False)
    certificate_former_public_keys: tuple[str, ...] = ()

    @property
    def keyring(self) -> Keyring:
        """Return a keyring with the root keys of the escrow file."""
        return Keyring.parse(self.root_keys)


def seal(escrow: Escrow, passphrase: str) -> bytes:
    """Return the text of the escrow file with the encrypted content. Raises InvalidInput (passphrase_short)."""
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    header = _header(escrow, salt, nonce)
    kept = {
        "root_keys": escrow.root_keys,
        "certificate_signing_key": escrow.certificate_signing_key,
        "certificate_former_public_keys": escrow.certificate_former_public_keys,
    }
    sealed = AESGCM(_derive(passphrase, salt)).encrypt(nonce, json.dumps(kept).encode(), header)
    return header + base64.b64encode(sealed) + b"\n"


def unseal(content: bytes, passphrase: str) -> Escrow:
    """Return the decrypted content. Raises InvalidInput (escrow_unreadable) for a wrong passphrase, a changed byte
    or a file that is not an escrow file.
    """
    try:
        header, encoded, told = _parts(content)
        key = _derive(passphrase, base64.b64decode(told["salt"], validate=True))
        nonce = base64.b64decode(told["nonce"], validate=True)
        kept = json.loads(AESGCM(key).decrypt(nonce, base64.b64decode(encoded, validate=True), header))
        kept["certificate_former_public_keys"] = tuple(kept["certificate_former_public_keys"])
        escrow = Escrow(told["deployment"], datetime.fromisoformat(told["made_at"]), **kept)
        Keyring.parse(escrow.root_keys)
    except (InvalidTag, AppError, ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("escrow_unreadable") from None
    return escrow


def write_new(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, and flush it to the disk. Raises Conflict (escrow_exists)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Conflict("escrow_exists") from None
    except OSError as error:
        raise InvalidInput("escrow_unwritable") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read(path: Path, passphrase: str) -> Escrow:
    """Return the content of the escrow file. Raises InvalidInput (escrow_unreadable)."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError:
        raise InvalidInput("escrow_unreadable") from None
    if len(content) > _LARGEST_BYTES:
        raise InvalidInput("escrow_unreadable")
    return unseal(content, passphrase)


def _header(escrow: Escrow, salt: bytes, nonce: bytes) -> bytes:
    told = {
        "deployment": escrow.deployment,
        "made_at": escrow.made_at.isoformat(),
        **_DERIVATION,
        "salt": base64.b64encode(salt).decode(),
        "nonce": base64.b64encode(nonce).decode(),
    }
    return f"{_MAGIC}\n{json.dumps(told)}\n".encode()


def _parts(content: bytes) -> tuple[bytes, bytes, dict[str, str]]:
    """Return the three parts of an escrow file: the header, the ciphertext in base64, and the parsed header. Raises
    ValueError, KeyError, TypeError.
    """
    magic, told, encoded, rest = content.split(b"\n")
    read_: dict[str, str] = json.loads(told)
    is_known = magic.decode() == _MAGIC and {name: read_[name] for name in _DERIVATION} == _DERIVATION
    has_bits_that_nothing_authenticates = rest or base64.b64encode(base64.b64decode(encoded)) != encoded
    if not is_known or has_bits_that_nothing_authenticates:
        raise ValueError("not an escrow of this version")
    return magic + b"\n" + told + b"\n", encoded, read_


def _derive(passphrase: str, salt: bytes) -> bytes:
    """Derive the key. The passphrase is normalised (NFC), so keyboards that compose characters differently give the
    same key.
    """
    if len(passphrase) < LEAST_PASSPHRASE:
        raise InvalidInput("passphrase_short", characters=LEAST_PASSPHRASE)
    scrypt = Scrypt(salt=salt, length=32, n=2**17, r=8, p=1)
    return scrypt.derive(unicodedata.normalize("NFC", passphrase).encode())
