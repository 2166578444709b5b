"""Signs certificates with Ed25519 (RFC 8032). The check of a signed file needs only the public key.

Each certificate has exactly one valid sequence of bytes, so a change of any byte is detected. A signed file names
the signature algorithm, so that a later release can support a second algorithm. This release accepts only
signatures with Ed25519.
"""

import base64
import hashlib
from functools import cached_property
from typing import Annotated, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from app.certificates.model import (
    FORMAT,
    STRICT,
    Certificate,
    encode_canonical_json,
    encode_certificate,
    read_canonical_json,
)
from app.errors import InvalidInput

MAX_FILE_BYTES: Final = 1024 * 1024
"""The size limit: more than a certificate with the maximum number of objects needs."""
SEED_BYTES = 32
_MAX_KEY_BYTES = 4096
_DOMAIN = FORMAT.encode() + b"\n"


@dataclass(frozen=True, config=STRICT)
class Signature:
    """A signature. `key_id` is the first half of the SHA-256 of the public key's 32 bytes, in hex. `value` is the
    signature in canonical base64: the unused bits of the last digit before the padding are zero.
    """

    key_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    value: Annotated[str, Field(pattern="^[0-9A-Za-z+/]{85}[AQgw]==$")]
    algorithm: Literal["Ed25519"] = "Ed25519"


@dataclass(frozen=True, config=STRICT)
class SignedCertificate:
    """A certificate with its signature, which is not checked yet."""

    certificate: Certificate
    signature: Signature

    @cached_property
    def file(self) -> bytes:
        """Return the bytes of the signed file. A certificate with its signature has exactly one valid sequence of
        bytes.
        """
        return encode_canonical_json(_signed_certificate, self)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the signed file in the notation of `sha256sum`."""
        return hashlib.sha256(self.file).hexdigest()

    @property
    def message(self) -> bytes:
        """Return the message that the signature covers: the name of the format, a line feed, and the canonical JSON
        of the certificate.
        """
        return _DOMAIN + encode_certificate(self.certificate)


_signed_certificate = TypeAdapter(SignedCertificate)


class CertificateSigner:
    """Signs certificates with one private key, and never reveals this key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = compute_key_id(self.public_key)

    @classmethod
    def from_seed(cls, seed: str) -> "CertificateSigner":
        """Create the signer from a seed of 32 bytes in base64. Raises ValueError if the seed is invalid, with a
        message that does not contain the seed.
        """
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed, validate=True)))
        except ValueError:
            raise ValueError("not 32 bytes in base64") from None

    def sign(self, certificate: Certificate) -> SignedCertificate:
        """Sign the certificate. Two equal certificates get the same signature."""
        value = base64.b64encode(self._key.sign(_DOMAIN + encode_certificate(certificate))).decode()
        return SignedCertificate(certificate, Signature(self.key_id, value))


def compute_key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a public key. Each signature contains the id of its key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def encode_public_key_pem(key: Ed25519PublicKey) -> str:
    """Return the public key in PEM (SubjectPublicKeyInfo), the format that auditors get."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_public_key(content: bytes) -> Ed25519PublicKey:
    """Read a public key from the content of a file, which is PEM or 32 bytes in base64. Raises InvalidInput
    (certificate_public_key).
    """
    if len(content) > _MAX_KEY_BYTES:
        raise InvalidInput("certificate_public_key")
    try:
        if b"-----BEGIN" not in content:
            return Ed25519PublicKey.from_public_bytes(base64.b64decode(content.strip(), validate=True))
        key = load_pem_public_key(content)
    except ValueError:
        raise InvalidInput("certificate_public_key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("certificate_public_key")
    return key


def read_signed(file: bytes) -> SignedCertificate:
    """Parse a signed file without checking its signature. Raises InvalidInput (certificate_too_large,
    certificate_malformed).
    """
    if len(file) > MAX_FILE_BYTES:
        raise InvalidInput("certificate_too_large", max_bytes=MAX_FILE_BYTES)
    return read_canonical_json(_signed_certificate, file)


def check(file: bytes, key: Ed25519PublicKey) -> Certificate:
    """Return the certificate in a signed file if the owner of this key signed exactly these bytes.

    Raises InvalidInput (certificate_too_large, certificate_malformed, certificate_other_key, certificate_signature).
    """
    signed = read_signed(file)
    if signed.signature.key_id != compute_key_id(key):
        raise InvalidInput("certificate_other_key")
    try:
        key.verify(base64.b64decode(signed.signature.value), signed.message)
    except InvalidSignature:
        raise InvalidInput("certificate_signature") from None
    return signed.certificate
