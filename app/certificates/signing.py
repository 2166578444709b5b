"""A certificate signed with Ed25519 (RFC 8032), as a file, and the check that needs the public key and nothing else.

A file has one form: one altered byte, wherever it is, is found. The name of the algorithm is in it, so that another can
follow; today any other is refused.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from app.certificates.canonical import canonical, parsed
from app.certificates.model import FORMAT, Certificate, certificate_bytes
from app.certificates.shapes import Pattern, from_plain, to_plain
from app.errors import InvalidInput

ALGORITHM = "Ed25519"
MAX_FILE_BYTES = 1024 * 1024
"""More than a certificate of as many objects as there may be."""
SEED_BYTES = 32
_MAX_KEY_BYTES = 4096
_DOMAIN = FORMAT.encode() + b"\n"


@dataclass(frozen=True)
class Signature:
    """`key_id` is the first half of the SHA-256 of the public key's 32 bytes, in hex; `value` is base64, whose last
    digit before the padding has no bits to spare.
    """

    key_id: Annotated[str, Pattern("[0-9a-f]{32}")]
    value: Annotated[str, Pattern("[0-9A-Za-z+/]{85}[AQgw]==")]
    algorithm: Annotated[str, Pattern(ALGORITHM)] = ALGORITHM


@dataclass(frozen=True)
class SignedCertificate:
    """A certificate and its signature, which nobody has checked yet."""

    certificate: Certificate
    signature: Signature

    @cached_property
    def file(self) -> bytes:
        """The signed file, in its one form."""
        return canonical(to_plain(self))

    @property
    def sha256(self) -> str:
        """Of the signed file, as `sha256sum` tells it."""
        return hashlib.sha256(self.file).hexdigest()

    @property
    def message(self) -> bytes:
        """What is signed: the format's name, a line feed, and the certificate's canonical JSON."""
        return _DOMAIN + certificate_bytes(self.certificate)


class CertificateSigner:
    """Signs certificates with one key, which it never shows."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    @classmethod
    def from_seed(cls, seed: str) -> "CertificateSigner":
        """The signer of a seed, 32 bytes in base64. Raises ValueError, without the seed."""
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed, validate=True)))
        except ValueError:
            raise ValueError("not 32 bytes in base64") from None

    def sign(self, certificate: Certificate) -> SignedCertificate:
        """Signs; the same certificate gets the same signature. Raises ValueError for one that may not be."""
        value = base64.b64encode(self._key.sign(_DOMAIN + certificate_bytes(certificate))).decode()
        return SignedCertificate(certificate, Signature(self.key_id, value))


def key_id(key: Ed25519PublicKey) -> str:
    """By what a signature names its key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def public_key_pem(key: Ed25519PublicKey) -> str:
    """As auditors get it (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_public_key(content: bytes) -> Ed25519PublicKey:
    """A public key from its file: PEM, or the 32 bytes in base64. Raises InvalidInput (certificate_public_key)."""
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
    """What a signed file says, unchecked. Raises InvalidInput (certificate_malformed)."""
    if len(file) > MAX_FILE_BYTES:
        raise InvalidInput("certificate_malformed")
    try:
        return from_plain(SignedCertificate, parsed(file))
    except ValueError:
        raise InvalidInput("certificate_malformed") from None


def check(file: bytes, key: Ed25519PublicKey) -> Certificate:
    """The certificate of a file that the holder of this key signed, to the last byte.

    Raises InvalidInput (certificate_malformed, certificate_other_key, certificate_signature).
    """
    signed = read_signed(file)
    if signed.signature.key_id != key_id(key):
        raise InvalidInput("certificate_other_key")
    try:
        key.verify(base64.b64decode(signed.signature.value), signed.message)
    except InvalidSignature:
        raise InvalidInput("certificate_signature") from None
    return signed.certificate
