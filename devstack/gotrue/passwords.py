"""Hashes passwords with scrypt, because bcrypt is not among the project's libraries.

The format `$scrypt$ln=14,r=8,p=1$<salt>$<hash>` is our own. GoTrue itself accepts hashes of bcrypt, argon2 and
Firebase's scrypt.
"""

import asyncio
import base64
import os

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from devstack.gotrue.refusals import WeakPassword, invalid

PREFIX = "$scrypt$ln=14,r=8,p=1$"
MIN_LENGTH = 6
MAX_LENGTH = 72


def check_strength(password: str) -> None:
    """Check GoTrue's default rules: at least 6 characters and at most 72."""
    if len(password.encode()) > MAX_LENGTH:
        raise invalid(f"Password cannot be longer than {MAX_LENGTH} characters")
    if len(password.encode()) < MIN_LENGTH:
        raise WeakPassword(f"Password should be at least {MIN_LENGTH} characters.", ["length"])


async def hash_password(password: str) -> str:
    """Hash the password, and return the text for the column `auth.users.encrypted_password`."""
    salt = os.urandom(16)
    derived = await asyncio.to_thread(_kdf(salt).derive, password.encode())
    return f"{PREFIX}{base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}"


async def password_matches(password: str, kept: str | None) -> bool:
    """Return whether the password matches the stored hash. Return False for a user without a password or with a
    hash in another format.
    """
    if not kept or not kept.startswith(PREFIX):
        return False
    salt, derived = (base64.b64decode(part) for part in kept.removeprefix(PREFIX).split("$"))
    try:
        await asyncio.to_thread(_kdf(salt).verify, password.encode(), derived)
    except InvalidKey:
        return False
    return True


def _kdf(salt: bytes) -> Scrypt:
    return Scrypt(salt=salt, length=32, n=2**14, r=8, p=1)
