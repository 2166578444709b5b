"""Translates the error responses of a speech service into our reasons, one reason for each remedy.

The error codes are OpenAI's (its guide "Error codes", and public issues of its users; checked 2026-11-29).
Compatible services use OpenAI's error codes. OpenAI states some error codes in `code`, and others only in `type`.
An unknown error code becomes the detail `vendor_code`. This module never reads the vendor's message.
"""

from collections.abc import Mapping
from typing import Final

from app.errors import AppError, Conflict, InvalidInput, RateLimited, UpstreamFailed
from app.integrations.openai_client import parse_error
from app.integrations.vendor_error_codes import vendor_code

FINAL: Final[Mapping[str, tuple[type[AppError], str]]] = {
    "billing_hard_limit_reached": (Conflict, "speech_quota"),
    "billing_not_active": (Conflict, "speech_quota"),
    "credit_balance_too_low": (Conflict, "speech_quota"),
    "insufficient_credits": (Conflict, "speech_quota"),
    "insufficient_quota": (Conflict, "speech_quota"),
    "quota_exceeded": (Conflict, "speech_quota"),
    "access_terminated": (Conflict, "speech_account_suspended"),
    "account_deactivated": (Conflict, "speech_account_suspended"),
    "account_suspended": (Conflict, "speech_account_suspended"),
    "organization_deactivated": (Conflict, "speech_account_suspended"),
    "authentication_error": (Conflict, "speech_key_refused"),
    "expired_api_key": (Conflict, "speech_key_refused"),
    "invalid_api_key": (Conflict, "speech_key_refused"),
    "invalid_authentication": (Conflict, "speech_key_refused"),
    "invalid_organization": (Conflict, "speech_key_refused"),
    "mismatched_organization": (Conflict, "speech_key_refused"),
    "mismatched_project": (Conflict, "speech_key_refused"),
    "insufficient_permissions": (Conflict, "speech_access_denied"),
    "missing_scope": (Conflict, "speech_access_denied"),
    "permission_denied": (Conflict, "speech_access_denied"),
    "permission_error": (Conflict, "speech_access_denied"),
    "ip_not_allowed": (Conflict, "speech_address_refused"),
    "ip_not_authorized": (Conflict, "speech_address_refused"),
    "unsupported_country_region_territory": (Conflict, "speech_address_refused"),
    "DeploymentNotFound": (InvalidInput, "speech_model_unknown"),
    "invalid_model": (InvalidInput, "speech_model_unknown"),
    "model_not_available": (InvalidInput, "speech_model_unknown"),
    "model_not_found": (InvalidInput, "speech_model_unknown"),
    "unsupported_model": (InvalidInput, "speech_model_unknown"),
}
"""The codes of permanent errors, which a person must resolve. The request is not sent again."""

BUSY: Final = frozenset(
    {"overloaded", "overloaded_error", "engine_overloaded", "rate_limit_exceeded", "slow_down"}
)

_PASSING: Final = frozenset((408, 409, 425))
_ANSWER_FORMAT: Final = frozenset({"response_format", "timestamp_granularities", "chunking_strategy"})


def translate_refusal(status: int, body: bytes, retry_after: Mapping[str, int]) -> AppError:
    """Return the AppError for a response with a status other than 200. `body` may be truncated, empty, or not JSON.

    `retry_after` is the detail of the error that states the time until the next attempt.
    """
    error = parse_error(body)
    for code in (error.get("code"), error.get("type")):
        if isinstance(code, str) and code in FINAL:
            kind, reason = FINAL[code]
            return kind(reason, status=status)
        if isinstance(code, str) and code in BUSY:
            return RateLimited("speech_busy", **retry_after)
    if error.get("code") == "unsupported_value" and error.get("param") in _ANSWER_FORMAT:
        return InvalidInput("speech_format_unsupported", status=status)
    named = vendor_code(error.get("code")) or vendor_code(error.get("type"))
    return _translate_status(status, named, retry_after)


def _translate_status(status: int, named: Mapping[str, str], retry_after: Mapping[str, int]) -> AppError:
    if status in (401, 403):
        return Conflict("speech_key_refused", status=status, **named)
    if status == 402:
        return Conflict("speech_quota", status=status, **named)
    if status == 429:
        return RateLimited("speech_busy", **named, **retry_after)
    if 400 <= status < 500 and status not in _PASSING:
        return InvalidInput("speech_refused", status=status, **named)
    return UpstreamFailed("speech_failed", status=status, **named, **retry_after)
