"""The kinds of error that a caller may see.

An AppError has a stable code and no PHI. The detail of an AppError names settings, ids, roles and limits, never a
person, a text, a token or a URL. `app/texts` contains the error messages that people read. An exception that is not
an AppError is a bug. The log gets the exception with ids, and the client gets only a general error.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias
from uuid import UUID

RETRY_AFTER_SECONDS = 1
"""The default pause after RATE_LIMITED: limits on concurrent operations pass quickly."""


@dataclass(frozen=True)
class MissingConsent:
    """A participant whose consent is missing. `role` is DOCTOR, PATIENT, or the role of a guest. `participant_id` is
    None if the consultation has no participant of this role, and then the API does not show the entry.
    """

    participant_id: UUID | None
    role: str


DetailValue: TypeAlias = str | int | tuple[str, ...] | tuple[MissingConsent, ...]
"""A value in the detail of an AppError."""


class AppError(Exception):
    """A refusal or a failure that a caller may see, with a public code.

    `reason` is a more exact code in snake_case (`consent_missing`, `quota_urls`). `detail` contains a few public
    values without PHI, such as the role whose consent is missing.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, **detail: DetailValue) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    @property
    def summary(self) -> str:
        """Return the text for logs and operators: the error's reason, followed by the vendor's own error code if
        there is one.
        """
        named = [str(self.detail[key]) for key in ("vendor_code", "region") if key in self.detail]
        return f"{self.reason} ({', '.join(named)})" if named else self.reason


class InvalidInput(AppError):
    """The request is invalid, and fails again if it is repeated."""

    code = "INVALID_INPUT"


class Unauthenticated(AppError):
    """The request has no valid token, or the token's session has ended."""

    code = "UNAUTHENTICATED"


class Forbidden(AppError):
    """The person has signed in but lacks the permission for the request."""

    code = "FORBIDDEN"


class NotFound(AppError):
    """The requested row does not exist or is hidden from the person who asks. A hidden row and a missing row look
    the same to the caller.
    """

    code = "NOT_FOUND"


class Conflict(AppError):
    """The stored state does not allow the change."""

    code = "CONFLICT"


class RateLimited(AppError):
    """A quota of `policies/quotas.toml` is used up, or the caller runs too many operations at once.

    The detail `retry_after_seconds` says after how many seconds the same request can succeed. If the detail has no
    `retry_after_seconds`, the client is told to retry after `RETRY_AFTER_SECONDS`.
    """

    code = "RATE_LIMITED"
    retryable = True


class UpstreamFailed(AppError):
    """LiveKit, the object store, Supabase or the speech service failed."""

    code = "UPSTREAM_FAILED"
    retryable = True


class Timeout(AppError):
    """A vendor or the database did not answer in time. After a timeout, it is unknown whether the call to the
    vendor or the database took effect.
    """

    code = "TIMEOUT"
    retryable = True
