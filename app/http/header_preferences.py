"""Parses request headers that list preferences (`Accept`, `Accept-Language`): RFC 9110, 12.4.

The parser skips malformed members of a header, and never raises an error.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Preference:
    """One member of a preference header: its value and parameters in lower case, and its quality from 0 to 1."""

    value: str
    parameters: tuple[tuple[str, str], ...]
    quality: float


def parse_preferences(header: str) -> list[Preference]:
    """Return the members of a preference header, highest quality first. Members of the header that have the same
    quality stay in the client's order.
    """
    members = (_member(text) for text in header.split(","))
    return sorted((member for member in members if member is not None), key=lambda member: -member.quality)


def _member(text: str) -> Preference | None:
    value, *pairs = (part.strip().lower() for part in text.split(";"))
    parameters = [
        (name.strip(), given.strip().strip('"')) for name, _, given in (p.partition("=") for p in pairs)
    ]
    quality = _quality(next((given for name, given in parameters if name == "q"), "1"))
    if not value or quality is None:
        return None
    return Preference(value, tuple(pair for pair in parameters if pair[0] not in ("", "q")), quality)


def _quality(text: str) -> float | None:
    try:
        quality = float(text)
    except ValueError:
        return None
    return quality if math.isfinite(quality) and 0 <= quality <= 1 else None
