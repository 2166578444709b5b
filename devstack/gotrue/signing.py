"""The project's signing key and its access tokens."""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

from devstack.gotrue.refusals import Refusal

KEY_FILE = "gotrue-signing-key.pem"


@dataclass(frozen=True)
class Signer:
    """An ES256 key. The key's id is derived from the public key, so the id survives a restart."""

    key: ec.EllipticCurvePrivateKey
    issuer: str

    @property
    def kid(self) -> str:
        """Return the signing key's id, which token headers and the JWKS contain."""
        public = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return base64.urlsafe_b64encode(hashlib.sha256(public).digest()[:18]).decode()

    def jwks(self) -> dict[str, object]:
        """Return the project's JWKS: its public keys as JSON."""
        public = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        entry = {**public, "kid": self.kid, "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": True}
        return {"keys": [entry]}

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return an access token with these claims and the project's `iss`."""
        return self.sign_exactly({**claims, "iss": self.issuer})

    def sign_exactly(self, claims: Mapping[str, object]) -> str:
        """Return an access token with these claims and no others."""
        return jwt.encode(dict(claims), self.key, algorithm="ES256", headers={"kid": self.kid})

    def verify(self, token: str, now: datetime) -> Mapping[str, object]:
        """Return the claims of a token that this key signed and that has not expired. Refuses 403 bad_jwt."""
        try:
            claims = jwt.decode(
                token,
                self.key.public_key(),
                algorithms=["ES256"],
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False, "require": ["exp"]},
            )
        except jwt.PyJWTError:
            raise Refusal(403, "bad_jwt", "invalid JWT: unable to parse or verify signature") from None
        if claims["exp"] <= now.timestamp():
            message = "invalid JWT: unable to parse or verify signature, token is expired"
            raise Refusal(403, "bad_jwt", message)
        return dict(claims)


def load_signer(data_dir: Path, issuer: str) -> Signer:
    """Return the signing key in `data_dir`. If there is none, create it in a file that only its owner can read."""
    path = data_dir / KEY_FILE
    if not path.exists():
        _write_new_key(path)
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{KEY_FILE} holds no elliptic curve key")
    return Signer(key, issuer)


def _write_new_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
