"""Translates LiveKit's refusals into our reasons: one reason for each remedy.

LiveKit's error answers contain Twirp codes. If LiveKit refuses the token of a request, LiveKit answers 401 in plain
text (livekit/livekit `pkg/service/auth.go`, checked 2026-11-29). This module looks for a few known phrases in
Twirp's messages and keeps nothing else of them, because LiveKit quotes a token that it refuses.
"""

from collections.abc import Mapping
from typing import Final

from livekit.api import ServerError

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.vendor_error_codes import vendor_code

REASONS: Final[Mapping[str, str]] = {
    "unauthenticated": "livekit_credentials_refused",
    "permission_denied": "livekit_permission_denied",
    "resource_exhausted": "livekit_at_capacity",
    "not_found": "livekit_not_found",
}
OTHER_CODES: Final = frozenset(
    (
        "invalid_argument",
        "malformed",
        "bad_route",
        "already_exists",
        "failed_precondition",
        "aborted",
        "out_of_range",
    )
)
NO_EGRESS_MARK: Final = "egress not connected"
"""The mark of a server without Redis, which cannot have an egress service: 500 (livekit-server 1.13.5, tried
2026-11-21).
"""

NO_RESPONSE_MARK: Final = "no response from servers"
"""The mark of a server that passed a request on and got no answer: 503, with the prefix `twirp error unknown: `
(livekit-server 1.13.5, tried 2026-11-29).
"""

MOST_SKEW_SECONDS: Final = 60
"""The difference that LiveKit accepts in a token's times: the leeway of go-jose."""

_AMBIGUOUS_STATUS: Final = 408
_OF_STATUS: Final[Mapping[int, str]] = {
    401: "livekit_credentials_refused",
    402: "livekit_at_capacity",
    403: "livekit_permission_denied",
    429: "livekit_at_capacity",
}


class LiveKitRefused(UpstreamFailed):
    """LiveKit refused the call with a Twirp error of status 4xx, so the call had no effect. `detail["code"]` is the
    Twirp code, or `unknown`.
    """

    retryable = False


class LiveKitUnanswered(UpstreamFailed):
    """LiveKit's server answered, but a process on which the server depends did not; the reason is
    `livekit_unavailable`.
    """


def refusal_of(error: ServerError, our_clock_ahead_seconds: float | None) -> AppError:
    """Return the AppError for an error answer of LiveKit: LiveKitRefused if the call certainly had no effect."""
    if error.status == _AMBIGUOUS_STATUS:
        return Timeout("livekit_timeout")
    if NO_EGRESS_MARK in error.message:
        return LiveKitRefused("livekit_no_egress", code="unavailable", status=error.status)
    if error.status == 503 and NO_RESPONSE_MARK in error.message:
        return LiveKitUnanswered("livekit_unavailable", status=error.status, **vendor_code(error.code))
    named = vendor_code(error.code) if error.code not in ("unknown", *REASONS, *OTHER_CODES) else {}
    if error.status >= 500:
        return UpstreamFailed("livekit_unavailable", status=error.status, **named)
    code = error.code if error.code in REASONS or error.code in OTHER_CODES else "unknown"
    reason = REASONS.get(code) or _OF_STATUS.get(error.status, "livekit_refused")
    if error.status == 401 and abs(our_clock_ahead_seconds or 0) > MOST_SKEW_SECONDS:
        reason = "livekit_clock"
    if reason == "livekit_refused":
        named = named or vendor_code(code if code != "unknown" else None)
    return LiveKitRefused(reason, code=code, status=error.status, **named)
