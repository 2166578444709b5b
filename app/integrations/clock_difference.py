"""Computes the difference between our clock and a vendor's clock from the `Date` header (RFC 9110, 6.6.1)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def measure_seconds_ahead(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how many seconds our clock is ahead of the server's, or None if the response headers contain no time."""
    try:
        at = parsedate_to_datetime(headers.get("date", headers.get("Date", "")))
    except ValueError:
        return None
    return (now - (at if at.tzinfo is not None else at.replace(tzinfo=UTC))).total_seconds()
