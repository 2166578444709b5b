"""Translates the error codes of S3 servers into our reasons: one reason for each remedy.

The error codes are those of S3 ("Error responses"), of Cloudflare R2 ("Error codes"), and the additional ones of
MinIO, Ceph, OpenStack Swift and versitygw 1.8. All were checked 2026-11-29. An error code that this module does not
list is in the error's detail `vendor_code`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from app.errors import AppError, UpstreamFailed
from app.integrations.vendor_error_codes import vendor_code

REASONS: Final[Mapping[str, str]] = {
    "NoSuchBucket": "storage_bucket_missing",
    "InvalidBucketName": "storage_bucket_missing",
    "RequestTimeTooSkewed": "storage_clock",
    "RequestExpired": "storage_clock",
    "ExpiredRequest": "storage_clock",
    "InvalidAccessKeyId": "storage_credentials_refused",
    "InvalidClientTokenId": "storage_credentials_refused",
    "SignatureDoesNotMatch": "storage_credentials_refused",
    "Unauthorized": "storage_credentials_refused",
    "InvalidSecurity": "storage_credentials_refused",
    "InvalidToken": "storage_credentials_refused",
    "AccessDenied": "storage_access_denied",
    "AccessForbidden": "storage_access_denied",
    "ExpiredToken": "storage_token_expired",
    "ExpiredTokenException": "storage_token_expired",
    "TokenRefreshRequired": "storage_token_expired",
    "AccountProblem": "storage_account_suspended",
    "AllAccessDisabled": "storage_account_suspended",
    "NotEntitled": "storage_account_suspended",
    "NotSignedUp": "storage_account_suspended",
    "UserSuspended": "storage_account_suspended",
    "AuthorizationHeaderMalformed": "storage_region_wrong",
    "AuthorizationQueryParametersError": "storage_region_wrong",
    "IllegalLocationConstraintException": "storage_region_wrong",
    "IncorrectEndpoint": "storage_region_wrong",
    "InvalidRegion": "storage_region_wrong",
    "InvalidRegionName": "storage_region_wrong",
    "PermanentRedirect": "storage_region_wrong",
    "Redirect": "storage_region_wrong",
    "TemporaryRedirect": "storage_region_wrong",
    "PathStyleDomainForbidden": "storage_path_style",
    "SecondLevelDomainForbidden": "storage_path_style",
    "BandwidthLimitExceeded": "storage_busy",
    "ReducedRequestRate": "storage_busy",
    "RequestLimitExceeded": "storage_busy",
    "ServiceUnavailable": "storage_busy",
    "SlowDown": "storage_busy",
    "SlowDownRead": "storage_busy",
    "SlowDownWrite": "storage_busy",
    "Throttling": "storage_busy",
    "ThrottlingException": "storage_busy",
    "TooManyRequests": "storage_busy",
    "InsufficientStorage": "storage_full",
    "QuotaExceeded": "storage_full",
    "StorageQuotaExceeded": "storage_full",
    "XMinioAdminBucketQuotaExceeded": "storage_full",
    "XMinioStorageFull": "storage_full",
    "InvalidObjectState": "storage_object_archived",
    "ObjectLocked": "storage_object_locked",
    "ObjectLockedByBucketPolicy": "storage_object_locked",
    "MethodNotAllowed": "storage_not_implemented",
    "NotImplemented": "storage_not_implemented",
    "XNotImplemented": "storage_not_implemented",
    "KMS.DisabledException": "storage_encryption_key",
    "KMS.InvalidStateException": "storage_encryption_key",
    "KMS.KMSInvalidStateException": "storage_encryption_key",
    "KMS.NotFoundException": "storage_encryption_key",
}

OF_STATUS: Final[Mapping[int, str]] = {
    301: "storage_region_wrong",
    307: "storage_region_wrong",
    401: "storage_credentials_refused",
    403: "storage_credentials_refused",
    429: "storage_busy",
    501: "storage_not_implemented",
    503: "storage_busy",
    507: "storage_full",
}
"""The reason for an answer without a listed code, by its status. S3 sends no code with the answer to a HEAD."""

DELETE_REFUSALS: Final = frozenset(
    {"storage_credentials_refused", "storage_access_denied", "storage_object_locked"}
)
"""The reasons with which stores refuse to delete a locked object: R2 has its own code, and S3 Object Lock answers
AccessDenied.
"""

_CODE_IN_XML: Final = re.compile(rb"<Code>\s*([A-Za-z0-9_.]{1,64})\s*</Code>")
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def refusal(error: ClientError, operation: str) -> AppError:
    """Return the AppError for an error answer of the store. The AppError contains the operation and the status,
    never the store's message.
    """
    answered: Mapping[str, Any] = error.response.get("Error", {})
    return refusal_of(
        str(answered.get("Code", "")), status_of(error), operation, region=str(answered.get("Region", ""))
    )


def refusal_of(code: str, status: int, operation: str, *, region: str = "") -> AppError:
    """Return the AppError for an HTTP status and an error code. If the store sent no error code, the given code is
    "" or a number.
    """
    reason = REASONS.get(code) or OF_STATUS.get(status)
    if reason is None and is_unnamed(code) and operation != "head" and status < 500:
        reason = "storage_not_s3"
    detail = {} if code in REASONS else vendor_code(code)
    if reason == "storage_region_wrong" and _REGION.fullmatch(region):
        detail["region"] = region
    return UpstreamFailed(reason or "storage_failed", operation=operation, status=status, **detail)


def code_in(body: bytes) -> str:
    """Return the error code in an S3 error document, or "" if the body is not such a document."""
    found = _CODE_IN_XML.search(body)
    return "" if found is None else found[1].decode()


def is_unnamed(code: str) -> bool:
    """Return whether the store's answer had no error code. If a store's answer has no error code, botocore reports
    the HTTP status or an empty string as the error code.
    """
    return not code or code.isdigit()


def status_of(error: ClientError) -> int:
    """Return the HTTP status of the store's answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def code_of(error: ClientError) -> str:
    """Return the S3 server's error code, or "" if the answer has no error code."""
    return error.response["Error"].get("Code", "")
