"""Translates the error responses of a language service into our reasons, one reason for each remedy.

The error codes are OpenAI's (openai 3.57, `types/responses/response_error.py`, its guide "Error codes", and public
issues of its users; checked 2026-11-30). Compatible services use OpenAI's error codes. An unknown error code becomes
the detail `vendor_code`. This module never reads the vendor's message.
"""

from collections.abc import Mapping
from typing import Final

from app.errors import AppError, Conflict, RateLimited, UpstreamFailed
from app.integrations.openai_client import parse_error
from app.integrations.vendor_error_codes import vendor_code

_QUOTA: Final = frozenset(
    {
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "insufficient_credits",
        "insufficient_quota",
        "quota_exceeded",
    }
)
_KEY: Final = frozenset(
    {
        "access_terminated",
        "account_deactivated",
        "account_suspended",
        "authentication_error",
        "expired_api_key",
        "insufficient_permissions",
        "invalid_api_key",
        "invalid_authentication",
        "invalid_organization",
        "ip_not_allowed",
        "ip_not_authorized",
        "mismatched_organization",
        "mismatched_project",
        "missing_scope",
        "organization_deactivated",
        "permission_denied",
        "permission_error",
        "unsupported_country_region_territory",
    }
)
_MODEL: Final = frozenset(
    {"DeploymentNotFound", "invalid_model", "model_not_available", "model_not_found", "unsupported_model"}
)
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_BUSY: Final = frozenset(
    {"overloaded", "overloaded_error", "engine_overloaded", "rate_limit_exceeded", "slow_down"}
)
_PASSING_CODES: Final = frozenset({"server_error", "internal_error", "vector_store_timeout"})
_PASSING: Final = frozenset((408, 409, 425))


def translate_refusal(status: int, body: bytes, retry_after: Mapping[str, int]) -> AppError:
    """Return the AppError for a response with a status other than 200. `body` may be truncated, empty, or not JSON.

    `retry_after` is the detail of the error that states the time until the next attempt.
    """
    error = parse_error(body)
    for code in (error.get("code"), error.get("type")):
        known = _known(code, retry_after)
        if known is not None:
            return known
    named = vendor_code(error.get("code")) or vendor_code(error.get("type"))
    if status in (401, 403):
        return Conflict("language_key_refused", status=status, **named)
    if status == 402:
        return Conflict("language_quota_exceeded", status=status, **named)
    if status == 429:
        return RateLimited("language_rate_limited", **named, **retry_after)
    if 400 <= status < 500 and status not in _PASSING:
        return Conflict("language_request_rejected", status=status, **named)
    return UpstreamFailed("language_unavailable", status=status, **named, **retry_after)


def translate_failure(code: object) -> AppError:
    """Return the AppError for a response with the status 200 that reports a failure with this code."""
    return _known(code, {}) or Conflict("language_request_rejected", **vendor_code(code))


def _known(code: object, retry_after: Mapping[str, int]) -> AppError | None:
    if not isinstance(code, str):
        return None
    if code in _QUOTA:
        return Conflict("language_quota_exceeded")
    if code in _KEY:
        return Conflict("language_key_refused", **vendor_code(code))
    if code in _MODEL:
        return Conflict("language_model_unknown")
    if code in _FILTERED:
        return Conflict("language_filtered")
    if code in _BUSY:
        return RateLimited("language_rate_limited", **retry_after)
    if code in _PASSING_CODES:
        return UpstreamFailed("language_unavailable", **retry_after)
    return None
