"""Parses JSON strictly: only UTF-8, finite numbers, complete characters, and nesting within Python's recursion
limit are accepted.
"""

import json
import math


def decode_json(body: bytes) -> object:
    """Return the value of a JSON document. Raises ValueError if the document is not strict JSON."""
    try:
        text = body.decode("utf-8")
        decoded: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\u" in text:
            _require_unicode(decoded)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return decoded


def _require_unicode(decoded: object) -> None:
    """Raise UnicodeEncodeError if a text in the JSON value contains half a surrogate pair. Postgres does not accept
    half a surrogate pair in a text.
    """
    json.dumps(decoded, ensure_ascii=False).encode("utf-8")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
