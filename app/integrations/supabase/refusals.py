"""Translates the refusals of Supabase Auth into our reasons: one reason for each remedy.

The error codes are those of GoTrue (supabase/auth, `internal/api/apierrors/errorcode.go` at bc32168e). The statuses
are those of Supabase's gateway ("HTTP status codes", checked 2026-11-29). An error code that this module does not
list is in the error's detail `vendor_code`. Supabase has no error code for a mail that could not be sent. The
module therefore compares the error message with one constant, and never repeats the message.
"""

from collections.abc import Mapping
from typing import Final

import httpx
from supabase_auth.errors import AuthApiError, AuthError

from app.errors import AppError, Conflict, InvalidInput, NotFound, Timeout, UpstreamFailed
from app.integrations.vendor_error_codes import vendor_code

REASONS: Final[Mapping[str, tuple[type[AppError], str]]] = {
    "user_not_found": (NotFound, "user_unknown"),
    "mfa_factor_not_found": (NotFound, "second_factor_unknown"),
    "email_exists": (Conflict, "email_exists"),
    "user_already_exists": (Conflict, "email_exists"),
    "validation_failed": (InvalidInput, "supabase_refused"),
    "bad_json": (InvalidInput, "supabase_refused"),
    "email_address_invalid": (InvalidInput, "email_refused"),
    "email_address_not_provided": (InvalidInput, "email_refused"),
    "email_address_not_authorized": (InvalidInput, "email_not_authorized"),
    "email_provider_disabled": (InvalidInput, "email_sign_in_disabled"),
    "signup_disabled": (InvalidInput, "email_sign_in_disabled"),
    "over_email_send_rate_limit": (UpstreamFailed, "supabase_mail_limit"),
    "over_request_rate_limit": (UpstreamFailed, "supabase_busy"),
    "bad_jwt": (UpstreamFailed, "supabase_key_refused"),
    "no_authorization": (UpstreamFailed, "supabase_key_refused"),
    "not_admin": (UpstreamFailed, "supabase_key_refused"),
    "hook_payload_invalid_content_type": (UpstreamFailed, "supabase_hook_failed"),
    "hook_payload_over_size_limit": (UpstreamFailed, "supabase_hook_failed"),
    "hook_timeout": (UpstreamFailed, "supabase_hook_failed"),
    "hook_timeout_after_retry": (UpstreamFailed, "supabase_hook_failed"),
    "request_timeout": (Timeout, "supabase_auth"),
}

OF_STATUS: Final[Mapping[int, str]] = {
    0: "supabase_unreachable",
    401: "supabase_key_refused",
    402: "supabase_project_restricted",
    403: "supabase_key_refused",
    429: "supabase_busy",
    502: "supabase_unreachable",
    503: "supabase_unreachable",
    521: "supabase_unreachable",
    522: "supabase_unreachable",
    523: "supabase_unreachable",
    540: "supabase_project_paused",
}
_PASSING: Final = frozenset({408, 425})
_GATEWAY_TIMEOUTS: Final = frozenset({504, 524, 544})

_MAIL_NOT_SENT: Final = "Error sending invite email"
"""The message with 500 `unexpected_failure` if the mail server refused the mail (`internal/api/mail.go`,
`sendInvite`).
"""

MAIL_ATTEMPTS: Final = 2
"""How often an invitation is sent if a mail with a link that does not work may have left. Each attempt sends
another mail.
"""

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def refusal_of(error: AuthError) -> AppError:
    """Return the AppError for an answer of Supabase Auth or its gateway, or for a network error."""
    status = int(getattr(error, "status", 0) or 0) or _status_of_cause(error)
    code: str | None = error.code if isinstance(error, AuthApiError) else None
    if isinstance(error.__cause__, httpx.TimeoutException) or status in _GATEWAY_TIMEOUTS:
        return Timeout("supabase_auth")
    if code is not None and code in REASONS:
        kind, reason = REASONS[code]
        return kind(reason, status=status)
    if code is not None and 400 <= status < 500 and status not in (*OF_STATUS, *_PASSING):
        return InvalidInput("supabase_refused", status=status, **vendor_code(code))
    return UpstreamFailed(OF_STATUS.get(status, "supabase_auth"), status=status, **vendor_code(code))


def invitation_refusal_of(error: AuthError) -> AppError:
    """Return the AppError for a failed invitation. Supabase Auth sends the invitation mail inside its database
    transaction, so the mail may have been sent although the call failed.

    If Supabase may have sent the invitation mail in spite of an error, the AppError has the detail `most_attempts`.
    """
    if (
        isinstance(error, AuthApiError)
        and error.code == "unexpected_failure"
        and error.message == _MAIL_NOT_SENT
    ):
        return UpstreamFailed("mail_refused", most_attempts=MAIL_ATTEMPTS)
    if isinstance(error, AuthApiError) and error.code == "validation_failed":
        return InvalidInput("email_refused")
    refusal = refusal_of(error)
    is_cut_off = isinstance(error.__cause__, httpx.RequestError)
    if not isinstance(error.__cause__, _NOT_SENT) and (isinstance(refusal, Timeout) or is_cut_off):
        return Timeout("mail_slow", most_attempts=MAIL_ATTEMPTS)
    return refusal


def _status_of_cause(error: AuthError) -> int:
    """Return the HTTP status of an answer in HTML, which the package supabase_auth reports as an unknown error."""
    cause = error.__cause__
    return cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else 0
