"""The interface of a language service: one request with one JSON schema, and one answer.

The adapters are `responses` and `chat`, which call a service that is compatible with OpenAI's, and the extractive
writer of `app/insights/writing`, which runs in this process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from app.errors import AppError, Conflict, UpstreamFailed

EXTRACT_VENDOR: Final = "resguardo"
EXTRACT_MODEL: Final = "resguardo-extract"


@dataclass(frozen=True)
class LanguageRequest:
    """One request to a language model.

    An adapter sends the instructions and the schema first, then the transcript, and the task last. Requests about
    the same transcript thus begin with the same text, which a vendor's prompt cache can reuse. `schema` is a JSON
    schema in OpenAI's strict form and contains no text of a patient. `schema_name` is its public name.
    """

    instructions: str = field(repr=False)
    transcript: str = field(repr=False)
    task: str = field(repr=False)
    schema_name: str
    schema: Mapping[str, object] = field(repr=False)
    max_output_tokens: int


@dataclass(frozen=True)
class LanguageUsage:
    """The tokens of one answer as the service reported them. `cached_tokens` are part of `input_tokens`."""

    vendor: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class LanguageAnswer:
    """The text of the final answer, which need not follow the schema, and the tokens that it used."""

    text: str = field(repr=False)
    usage: LanguageUsage


class Language(Protocol):
    """A language service and one of its models."""

    @property
    def vendor(self) -> str:
        """Return the host of the service, or `EXTRACT_VENDOR`."""

    @property
    def model(self) -> str:
        """Return the name of the model, or `EXTRACT_MODEL`."""

    async def write(self, request: LanguageRequest) -> LanguageAnswer:
        """Return the model's final answer.

        The temporary errors are RateLimited (language_rate_limited), UpstreamFailed (language_unavailable) and
        Timeout (language_timeout). If the service states when to try again, the error's detail
        `retry_after_seconds` has this time, of at most an hour. The permanent errors are UpstreamFailed
        (language_nonsense: no final answer) and Conflict: language_quota_exceeded, language_refused (the model
        refuses), language_filtered (the service's content filter), language_incomplete (cut at
        `max_output_tokens`), language_request_rejected, language_not_configured. `reported_usage` returns the
        tokens of a failed answer if the service reported them.
        """


class AnswerRefused(Conflict):
    """The service answered without a usable text, and may charge for the answer. `usage` is what it reported."""

    def __init__(self, reason: str, usage: LanguageUsage | None) -> None:
        super().__init__(reason)
        self.usage = usage


class AnswerUnusable(UpstreamFailed):
    """The service's answer is not of the documented form. `usage` is what it reported, if it reported anything."""

    def __init__(self, reason: str, usage: LanguageUsage | None) -> None:
        super().__init__(reason)
        self.usage = usage


def reported_usage(error: AppError) -> LanguageUsage | None:
    """Return the tokens that the service reported for the failed answer, or None if it reported none."""
    return error.usage if isinstance(error, AnswerRefused | AnswerUnusable) else None
