"""What LiveKit's refusals mean to us: one reason for each remedy.

LiveKit answers Twirp codes, and 401 in plain text if the token itself is refused (livekit/livekit
`pkg/service/auth.go`, checked 2026-11-29). Of Twirp's messages one mark alone is looked at: a refusal of a token
quotes the token.
"""

from collections.abc import Mapping
from typing import Final

from livekit.api import ServerError

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.vendor_codes import vendor_code

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
"""Of a server without Redis, which can have no recorder at all: 500 (livekit-server 1.13.5, tried 2026-11-21)."""

NO_RESPONSE_MARK: Final = "no response from servers"
"""Of a server that passed a request on and heard nothing: 503, with `twirp error unknown: ` before it (livekit-server
1.13.5, tried 2026-11-29)."""

MOST_SKEW_SECONDS: Final = 60
"""What LiveKit forgives in a token's times: the leeway of go-jose."""

_AMBIGUOUS_STATUS: Final = 408
_OF_STATUS: Final[Mapping[int, str]] = {
    401: "livekit_credentials_refused",
    402: "livekit_at_capacity",
    403: "livekit_permission_denied",
    429: "livekit_at_capacity",
}


class LiveKitRefused(UpstreamFailed):
    """LiveKit answered no (a Twirp 4xx): nothing was done. `detail["code"]` is the Twirp code, `unknown` if
    none.
    """

    retryable = False


class LiveKitUnanswered(UpstreamFailed):
    """LiveKit's server answered, but the process that it asked did not: `livekit_unavailable`."""


def refusal_of(error: ServerError, our_clock_ahead_seconds: float | None) -> AppError:
    """The AppError for what LiveKit answered: LiveKitRefused if it certainly did nothing."""
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
