"""The rules for requests to a language service that may cost money. Insights and sections of notes follow them."""

from typing import Final

from app.errors import AppError
from app.integrations.language.port import EXTRACT_VENDOR, Language

ROUNDS: Final = (0, 1)
"""A request, and the repair round that names the errors of the first answer."""
OVERTAKEN: Final = "insights_overtaken"
OVERTAKEN_PAUSE_SECONDS: Final = 600
"""The pause of a worker that was overtaken before its next attempt, because an earlier attempt would overtake the
other worker.
"""
UNCHARGED: Final = frozenset(("language_unavailable", "language_rate_limited"))
"""The temporary failures for which no service charges. A request that timed out may be charged."""


def is_temporary(error: AppError) -> bool:
    """Return whether a later attempt can succeed."""
    return error.retryable or error.reason == "concurrent_change"


def is_charged(language: Language) -> bool:
    """Return whether the service charges for requests. The extractive writer does not."""
    return language.vendor != EXTRACT_VENDOR
