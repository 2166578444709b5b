"""R2's temporary credentials: the three steps of Cloudflare's page, done again here without the library."""

import base64
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import pytest

from app.errors import InvalidInput
from app.integrations import r2
from app.integrations.storage import Credentials

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
PARENT = Credentials("parent-key-id", "5f" * 32)
NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
KEY = "r/adult/consultation/recording/video"


def _made(**changed: Any) -> Credentials:
    arguments: dict[str, Any] = {
        "account_id": ACCOUNT,
        "bucket": "resguardo",
        "parent": PARENT,
        "endpoint_host": f"{ACCOUNT}.r2.cloudflarestorage.com",
        "object_key": KEY,
        "expires_in_seconds": 3600,
        "now": NOW,
    }
    return r2.recorder_credentials(**(arguments | changed))


def _token(credentials: Credentials) -> str:
    assert credentials.session_token is not None
    kind, _, token = base64.b64decode(credentials.session_token, validate=True).decode().partition("/")
    assert kind == "jwt"
    return token


def _decoded(part: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def test_recorder_credentials_follow_cloudflares_three_steps() -> None:
    made = _made()

    signed, _, signature = _token(made).rpartition(".")
    mac = hmac.digest(PARENT.secret_access_key.encode(), signed.encode(), "sha256")
    assert signature == base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    assert _decoded(signed.partition(".")[0]) == {"alg": "HS256", "typ": "JWT"}
    assert made.secret_access_key == hashlib.sha256(_token(made).encode()).hexdigest()
    assert made.access_key_id == PARENT.access_key_id


def test_recorder_credentials_allow_writing_one_object_and_nothing_else() -> None:
    claims = _decoded(_token(_made()).split(".")[1])

    assert claims == {
        "bucket": "resguardo",
        "scope": "object-read-write",
        "actions": [
            "PutObject",
            "CreateMultipartUpload",
            "UploadPart",
            "CompleteMultipartUpload",
            "AbortMultipartUpload",
        ],
        "paths": {"prefixPaths": [], "objectPaths": [KEY]},
        "sub": ACCOUNT,
        "iss": "parent-key-id",
        "aud": f"{ACCOUNT}.r2.cloudflarestorage.com",
        "iat": 1795262400,
        "exp": 1795266000,
    }


def test_recorder_credentials_differ_by_object() -> None:
    assert _made().secret_access_key != _made(object_key=f"{KEY}2").secret_access_key


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_recorder_credentials_refuse_a_lifetime_out_of_bounds(seconds: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        _made(expires_in_seconds=seconds)
    assert refused.value.reason == "credentials_lifetime"


def test_recorder_credentials_refuse_an_empty_key() -> None:
    with pytest.raises(InvalidInput) as refused:
        _made(object_key="")
    assert refused.value.reason == "object_key"


def test_credentials_keep_secrets_out_of_their_repr() -> None:
    made = _made()

    assert made.secret_access_key not in repr(made)
    assert made.session_token is not None
    assert made.session_token not in repr(made)


@pytest.mark.parametrize(
    ("jurisdiction", "host"),
    [
        (None, "r2.cloudflarestorage.com"),
        ("eu", "eu.r2.cloudflarestorage.com"),
        ("fedramp", "fedramp.r2.cloudflarestorage.com"),
    ],
)
def test_endpoint_is_the_accounts_in_its_jurisdiction(jurisdiction: str | None, host: str) -> None:
    assert r2.endpoint(ACCOUNT, jurisdiction) == f"https://{ACCOUNT}.{host}"


@pytest.mark.parametrize(
    ("account_id", "jurisdiction", "reason"),
    [
        ("", None, "r2_account_id"),
        ("evil.example/", None, "r2_account_id"),
        (ACCOUNT + "\n", None, "r2_account_id"),
        (ACCOUNT, "us", "r2_jurisdiction"),
        (ACCOUNT, "", "r2_jurisdiction"),
    ],
)
def test_endpoint_refuses_what_is_no_account_or_jurisdiction(
    account_id: str, jurisdiction: str | None, reason: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        r2.endpoint(account_id, jurisdiction)
    assert refused.value.reason == reason
