"""Tests of temporary credentials for R2. The tests compute the expected credentials with the three steps in
Cloudflare's documentation, without our own code.
"""

import base64
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from app.errors import InvalidInput
from app.failures import describe_failure
from app.integrations.storage import r2_credentials
from app.integrations.storage.caller import Credentials
from app.integrations.vendor_clients import RECORDER_CREDENTIALS_SECONDS
from app.recordings.deadlines import Deadlines

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
PARENT = Credentials("parent-key-id", "5f" * 32)
NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
KEY = "r/adult/consultation/recording/video"
SIGNATURE_ALONE: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False}
UPLOAD = dt.timedelta(hours=1)


# Source: Cloudflare, "Authenticate against R2 with temporary credentials"
# (developers.cloudflare.com/r2/examples/authenticate-r2-temp-credentials, reviewed by Cloudflare 2026-04-19, read
# 2026-11-21). The function `createTempCredentials` of its temp-credentials.ts was run on 2026-11-21 with Node
# 20.20.2 and jose 6.2.17, with the bucket, the object and the lifetime of its examples, our actions, and NOW. The
# page gives placeholders for keys, so these keys are invented.
DOCUMENTED_SECRET = "52611fc442d51c33391258470a825aea3d5be7880dacef52d531aa0b3967d429"
DOCUMENTED_TOKEN = "".join(
    (
        "and0L2V5SmhiR2NpT2lKSVV6STFOaUlzSW5SNWNDSTZJa3BYVkNKOS5leUppZFdOclpYUWlPaUp0ZVMxaWRXTnJaWFFpTENKelkyOXdaU0k2",
        "SW05aWFtVmpkQzF5WldGa0xYZHlhWFJsSWl3aVlXTjBhVzl1Y3lJNld5SlFkWFJQWW1wbFkzUWlMQ0pEY21WaGRHVk5kV3gwYVhCaGNuUlZj",
        "R3h2WVdRaUxDSlZjR3h2WVdSUVlYSjBJaXdpUTI5dGNHeGxkR1ZOZFd4MGFYQmhjblJWY0d4dllXUWlMQ0pCWW05eWRFMTFiSFJwY0dGeWRG",
        "VndiRzloWkNKZExDSndZWFJvY3lJNmV5SndjbVZtYVhoUVlYUm9jeUk2VzEwc0ltOWlhbVZqZEZCaGRHaHpJanBiSW5KbGNHOXlkSE12TWpB",
        "eU5pMXhNUzV3WkdZaVhYMHNJbk4xWWlJNklqQXlNMlV4TURWbU5HVmpaV1k0WVdRNVkyRXpNV0U0TXpjeVpEQmpNelV6SWl3aWFYTnpJam9p",
        "Y0dGeVpXNTBMV3RsZVMxcFpDSXNJbUYxWkNJNklqQXlNMlV4TURWbU5HVmpaV1k0WVdRNVkyRXpNV0U0TXpjeVpEQmpNelV6TG5JeUxtTnNi",
        "M1ZrWm14aGNtVnpkRzl5WVdkbExtTnZiU0lzSW1saGRDSTZNVGM1TlRJMk1qUXdNQ3dpWlhod0lqb3hOemsxTWpZek16QXdmUS5NNWlNRGdC",
        "WnNiT1BJaU9SZk9MTnZHT0Jsb3ZmR2tXNGhkZ1JFOEVTNE5v",
    )
)


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
    return r2_credentials.recorder_credentials(**(arguments | changed))


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


def test_recorder_credentials_are_those_of_cloudflares_documented_example() -> None:
    made = _made(bucket="my-bucket", object_key="reports/2026-q1.pdf", expires_in_seconds=900)
    documented = Credentials(PARENT.access_key_id, DOCUMENTED_SECRET, DOCUMENTED_TOKEN)

    assert made.access_key_id == documented.access_key_id
    for one in (made, documented):
        token = _token(one)
        assert one.secret_access_key == hashlib.sha256(token.encode()).hexdigest()
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
        jwt.decode(token, PARENT.secret_access_key, algorithms=["HS256"], options=SIGNATURE_ALONE)
    ours, theirs = (_token(one).split(".")[1] for one in (made, documented))
    assert ours == theirs


def test_recorder_credentials_outlive_the_longest_consultation_and_its_upload() -> None:
    deadlines = Deadlines()
    longest = deadlines.requested + deadlines.start_of_empty_room + deadlines.recording + deadlines.stopping
    assert dt.timedelta(seconds=RECORDER_CREDENTIALS_SECONDS) > longest + UPLOAD
    assert len(_made(expires_in_seconds=RECORDER_CREDENTIALS_SECONDS).secret_access_key) == 64


def test_refusal_to_make_credentials_says_no_secret() -> None:
    with pytest.raises(InvalidInput) as refused:
        _made(expires_in_seconds=0)
    told = (
        str(refused.value),
        repr(refused.value),
        str(refused.value.detail),
        describe_failure(refused.value),
    )
    assert not [text for text in told if PARENT.secret_access_key in text or PARENT.access_key_id in text]


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
def test_endpoint_contains_the_account_and_its_jurisdiction(jurisdiction: str | None, host: str) -> None:
    assert r2_credentials.endpoint(ACCOUNT, jurisdiction) == f"https://{ACCOUNT}.{host}"


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
def test_endpoint_refuses_an_invalid_account_or_jurisdiction(
    account_id: str, jurisdiction: str | None, reason: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        r2_credentials.endpoint(account_id, jurisdiction)
    assert refused.value.reason == reason
