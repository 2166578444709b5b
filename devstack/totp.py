"""Time-based one-time passwords as Supabase Auth uses them (RFC 6238: SHA-1, 6 digits, 30 seconds)."""

import base64
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

STEP_SECONDS = 30


def totp_code(secret: str, at_seconds: float) -> str:
    """Return the one-time code for a base32 secret (with or without padding) at a Unix time."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    totp = TOTP(key, 6, SHA1(), STEP_SECONDS, enforce_key_length=False)  # noqa: S303 - what authenticators use
    return totp.generate(int(at_seconds)).decode()


def totp_uri(secret: str, issuer: str, account: str) -> str:
    """Return the URI for an authenticator app: the secret with its issuer and account, as Supabase Auth writes it."""
    query = {"algorithm": "SHA1", "digits": 6, "issuer": issuer, "period": STEP_SECONDS, "secret": secret}
    return f"otpauth://totp/{quote(f'{issuer}:{account}', safe=':@')}?{urlencode(query)}"
