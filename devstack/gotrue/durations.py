"""Parses durations like Go's `time.ParseDuration`, for `ban_duration`."""

import re
from datetime import timedelta

from devstack.gotrue.refusals import invalid

_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_MAX_SECONDS = (2**63 - 1) / 1e9


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `876000h` or `1h30m`, of at most 292 years. Refuses 400 validation_failed."""
    if text == "0":
        return timedelta(0)
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    if not _WHOLE.fullmatch(text) or seconds > _MAX_SECONDS:
        raise invalid(f'invalid format for ban duration: time: invalid duration "{text}"')
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)
