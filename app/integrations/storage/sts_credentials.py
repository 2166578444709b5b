"""Gets credentials for one upload from the Security Token Service of AWS, MinIO or a compatible server.

AssumeRole with a session policy grants only the rights that both the role and the session policy allow (AWS,
"Session policies"; MinIO, "AssumeRole"; checked 2026-11-29). The Security Token Service of AWS has its own host in
each region. S3 servers other than AWS offer their Security Token Service at the S3 endpoint.
"""

import json
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import boto3
from botocore.config import Config

from app.errors import InvalidInput, Timeout, UpstreamFailed
from app.integrations.storage.caller import Credentials, translated

RECORDER_SECONDS: Final = 12 * 3600
"""The longest session that an AWS role allows with MaxSessionDuration; longer than a consultation and its upload."""

_ACTIONS: Final = ("s3:PutObject", "s3:AbortMultipartUpload")
"""PutObject includes starting, sending and completing a multipart upload."""

_SECONDS: Final = 20.0
_OF_A_ROLE: Final = {
    "storage_access_denied": "recorder_role_refused",
    "storage_failed": "recorder_role_refused",
    "storage_not_implemented": "recorder_role_unsupported",
    "storage_not_s3": "recorder_role_unsupported",
}

ROLE_REFUSALS: Final = frozenset(_OF_A_ROLE.values())
"""The reasons that a retry cannot change: an operator must correct the role."""


async def recorder_credentials(
    *, endpoint_url: str, region: str, role_arn: str, bucket: str, parent: Credentials, object_key: str
) -> Credentials:
    """Return credentials that can only write one object, and that are valid for `RECORDER_SECONDS`.

    Raises InvalidInput (`object_key`), and UpstreamFailed (`recorder_role_refused`, or `recorder_role_unsupported`
    if the server has no token service). The function also raises the errors that `Storage` raises, including
    Timeout.
    """
    policy = recorder_policy(role_arn, bucket, object_key)

    def ask() -> Credentials:
        with translated("assume_role"):
            client = boto3.client(
                "sts",
                endpoint_url=sts_endpoint(endpoint_url),
                region_name=region,
                aws_access_key_id=parent.access_key_id,
                aws_secret_access_key=parent.secret_access_key,
                config=Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2}),
            )
            made = client.assume_role(
                RoleArn=role_arn,
                RoleSessionName="resguardo-recorder",
                Policy=policy,
                DurationSeconds=RECORDER_SECONDS,
            )["Credentials"]
        return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    try:
        with anyio.fail_after(_SECONDS):
            return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except TimeoutError as error:
        raise Timeout("storage_timeout", operation="assume_role") from error
    except UpstreamFailed as error:
        reason = _OF_A_ROLE.get(error.reason)
        if reason is None:
            raise
        raise UpstreamFailed(reason, **error.detail) from error


def recorder_policy(role_arn: str, bucket: str, object_key: str) -> str:
    """Return the session policy that allows its holder to write only this object. Raises InvalidInput
    (`object_key`) for a key that contains a wildcard.
    """
    if not object_key or set(object_key) & set("*?$"):
        raise InvalidInput("object_key")
    partition = role_arn.split(":")[1]
    allowed = {
        "Effect": "Allow",
        "Action": list(_ACTIONS),
        "Resource": f"arn:{partition}:s3:::{bucket}/{object_key}",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]}, separators=(",", ":"))


def sts_endpoint(s3_endpoint_url: str) -> str:
    """Return the endpoint of the token service that belongs to an S3 endpoint."""
    parts = urlsplit(s3_endpoint_url)
    host = parts.netloc
    if ".amazonaws.com" in host and host.startswith("s3."):
        host = "sts." + host.removeprefix("s3.")
    return f"{parts.scheme}://{host}"
