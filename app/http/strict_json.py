"""Parses JSON strictly: UTF-8, finite numbers, complete characters, and no deeper than Python's recursion limit."""

import json
import math


def decode_json(body: bytes) -> object:
    """Return the value. Raises ValueError for anything else."""
    try:
        text = body.decode("utf-8")
        decoded: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\u" in text:
            _require_unicode(decoded)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return decoded


def _require_unicode(decoded: object) -> None:
    """Raise UnicodeEncodeError for an escape of half a surrogate pair, which no database accepts as text."""
    json.dumps(decoded, ensure_ascii=False).encode("utf-8")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
