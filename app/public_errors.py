"""The `extensions` of an error in the answers of the API: alike in GraphQL, in HTTP and on a WebSocket.

A client sees only the codes, the reasons and the details that the schema declares (`ErrorExtensions`). A detail for
operators, such as the status that a vendor answered, stays in the logs.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from app.errors import RETRY_AFTER_SECONDS, AppError, DetailValue, MissingConsent, RateLimited
from app.texts.reasons import load_reasons

DETAILS: Final = (
    "allowed_types",
    "argument",
    "count",
    "earliest",
    "expected_type",
    "input_path",
    "limit",
    "maximum",
    "minimum",
    "missing",
    "recording_id",
    "retry_after_seconds",
    "variable",
)
"""The names of the details that a client may see."""


def build_extensions(
    code: str,
    reason: str | None = None,
    *,
    request_id: str | None,
    retryable: bool = False,
    detail: Mapping[str, DetailValue] | None = None,
) -> dict[str, object]:
    """Return the `extensions` of an error. A reason that the registry does not offer to callers is null."""
    details = {_camel_case(name): _public(value) for name, value in (detail or {}).items() if name in DETAILS}
    return {
        "code": code,
        "reason": public_reason(reason),
        "retryable": retryable,
        "requestId": request_id,
        "details": details or None,
    }


def public_extensions(error: AppError, request_id: str | None) -> dict[str, object]:
    """Return the `extensions` that describe an AppError."""
    pause = {"retry_after_seconds": RETRY_AFTER_SECONDS} if isinstance(error, RateLimited) else {}
    return build_extensions(
        error.code,
        error.reason,
        request_id=request_id,
        retryable=error.retryable,
        detail={**pause, **error.detail},
    )


def public_reason(reason: str | None) -> str | None:
    """Return a reason as a value of the enum `ErrorReason`, or None if the registry does not offer the reason to
    callers.
    """
    return reason.upper() if reason and reason in _reasons_for_callers() else None


@cache
def _reasons_for_callers() -> frozenset[str]:
    return frozenset(name for name, reason in load_reasons().items() if "caller" in reason.readers)


def _public(value: DetailValue) -> object:
    if not isinstance(value, tuple):
        return value
    return [
        {"participantId": str(one.participant_id), "role": one.role}
        if isinstance(one, MissingConsent)
        else one
        for one in value
        if not isinstance(one, MissingConsent) or one.participant_id is not None
    ]


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
