"""The few kinds of error a caller may see.

An AppError carries a stable code and no PHI: its detail names settings, ids, roles and limits, never a person,
a word, a token or a URL. What people read is looked up by the code in `app/texts`; anything else that is raised is
a bug, logged with ids and masked to the client.
"""

from collections.abc import Mapping
from typing import ClassVar

RETRY_AFTER_SECONDS = 1
"""When to try again after a RATE_LIMITED that names no time of its own: limits of what runs at once pass quickly."""


class AppError(Exception):
    """A refusal or a failure with a public code.

    `reason` is a second, finer code in snake_case (`consent_missing`, `quota_urls`); `detail` maps a few public,
    PHI-free values that the message and the client may use, such as the role whose consent is missing.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, **detail: str | int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    @property
    def summary(self) -> str:
        """The reason, then what a vendor called it if we have no name for it: for logs and for operators."""
        named = [str(self.detail[key]) for key in ("vendor_code", "region") if key in self.detail]
        return f"{self.reason} ({', '.join(named)})" if named else self.reason


class InvalidInput(AppError):
    """The request itself is wrong; the same one will fail again."""

    code = "INVALID_INPUT"


class Unauthenticated(AppError):
    """No valid token, or its session is over."""

    code = "UNAUTHENTICATED"


class Forbidden(AppError):
    """The person is known and may not do this."""

    code = "FORBIDDEN"


class NotFound(AppError):
    """It does not exist, or it is hidden from this person: the two are told alike."""

    code = "NOT_FOUND"


class Conflict(AppError):
    """What is stored already stands against it."""

    code = "CONFLICT"


class RateLimited(AppError):
    """A quota of `policies/quotas.toml` is used up, or somebody asks for too much at once.

    The detail `retry_after_seconds` says when the same request can succeed. Answers name it, or `RETRY_AFTER_SECONDS`.
    """

    code = "RATE_LIMITED"
    retryable = True


class UpstreamFailed(AppError):
    """LiveKit, the object store, Supabase or OpenAI answered with a failure."""

    code = "UPSTREAM_FAILED"
    retryable = True


class Timeout(AppError):
    """A vendor or the database did not answer in time; whether it acted is not known."""

    code = "TIMEOUT"
    retryable = True


def public_extensions(error: AppError, request_id: str | None) -> dict[str, object]:
    """The `extensions` of an error as every answer has them, in GraphQL, over HTTP and over a WebSocket."""
    extensions: dict[str, object] = camel_case_keys(error.detail)
    if isinstance(error, RateLimited):
        extensions.setdefault("retryAfterSeconds", RETRY_AFTER_SECONDS)
    return extensions | {
        "code": error.code,
        "reason": error.reason,
        "retryable": error.retryable,
        "requestId": request_id,
    }


def camel_case_keys(detail: Mapping[str, str | int]) -> dict[str, object]:
    """The detail of an error, with its names as GraphQL writes them."""
    return {_camel_case(name): value for name, value in detail.items()}


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
