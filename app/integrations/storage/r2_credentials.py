"""Functions that only Cloudflare R2 needs: they return the S3 endpoint of an account, and compute credentials for
one upload offline.

This module sends no request and stores nothing. `storage.py` implements S3 itself.
"""

import base64
import hashlib
import re
from datetime import datetime
from typing import Final

import jwt

from app.errors import InvalidInput
from app.integrations.storage.caller import Credentials

RECORDER_ACTIONS: Final = (
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
)
_MAX_SECONDS: Final = 604_800
_HOST: Final = "r2.cloudflarestorage.com"
_JURISDICTIONS: Final = ("eu", "fedramp")
_ACCOUNT = re.compile(r"[0-9a-f]{32}")


def endpoint(account_id: str, jurisdiction: str | None = None) -> str:
    """Return the URL of R2's S3 endpoint for a Cloudflare account. R2 buckets in a jurisdiction (`eu` or `fedramp`)
    have a separate S3 host for each jurisdiction.

    Source: Cloudflare, "Authentication" (developers.cloudflare.com/r2/api/tokens), checked 2026-11-21. Raises
    InvalidInput (`r2_account_id`, `r2_jurisdiction`).
    """
    if _ACCOUNT.fullmatch(account_id) is None:
        raise InvalidInput("r2_account_id")
    if jurisdiction is not None and jurisdiction not in _JURISDICTIONS:
        raise InvalidInput("r2_jurisdiction")
    host = _HOST if jurisdiction is None else f"{jurisdiction}.{_HOST}"
    return f"https://{account_id}.{host}"


def recorder_credentials(
    *,
    account_id: str,
    bucket: str,
    parent: Credentials,
    endpoint_host: str,
    object_key: str,
    expires_in_seconds: int,
    now: datetime,
) -> Credentials:
    """Return credentials that can only write one object, computed from R2's `parent` key without a request to
    Cloudflare.

    The credentials expire after `expires_in_seconds` (1 s to 7 days), or when the parent key is revoked.
    `endpoint_host` is a host name without a scheme, and `now` has a time zone. Raises InvalidInput
    (`credentials_lifetime`, `object_key`).

    Source: Cloudflare, "Temporary credentials" and "Authenticate against R2 with temporary credentials" (pages
    r2/api/s3/temporary-credentials and r2/examples/authenticate-r2-temp-credentials of developers.cloudflare.com),
    checked 2026-11-21. In R2's temporary credentials, the claim `actions` narrows the claim `scope`. R2 accepts
    `actions` only in credentials that were signed locally. Cloudflare publishes no test vector for these
    credentials.
    """
    if not 1 <= expires_in_seconds <= _MAX_SECONDS:
        raise InvalidInput("credentials_lifetime", maximum=_MAX_SECONDS)
    if not object_key:
        raise InvalidInput("object_key")
    issued_at = int(now.timestamp())
    claims = {
        "bucket": bucket,
        "scope": "object-read-write",
        "actions": list(RECORDER_ACTIONS),
        "paths": {"prefixPaths": [], "objectPaths": [object_key]},
        "sub": account_id,
        "iss": parent.access_key_id,
        "aud": endpoint_host,
        "iat": issued_at,
        "exp": issued_at + expires_in_seconds,
    }
    token = jwt.encode(claims, parent.secret_access_key, algorithm="HS256")
    return Credentials(
        access_key_id=parent.access_key_id,
        secret_access_key=hashlib.sha256(token.encode()).hexdigest(),
        session_token=base64.b64encode(f"jwt/{token}".encode()).decode(),
    )
